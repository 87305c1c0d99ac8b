//! How OpenNebula is restarted on this machine: by its unit where systemd runs and knows one, else
//! by its own program `one`, as oneadmin.

use std::path::Path;

use super::ONEADMIN;
use crate::host::Host;

/// Where units lie (`systemd.unit(5)`).
const UNIT_FOLDERS: [&str; 4] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Whether systemd starts OpenNebula here.
pub(super) fn has_unit(host: &Host) -> bool {
    host.has_systemd()
        && UNIT_FOLDERS
            .iter()
            .any(|folder| host.path(folder).join("opennebula.service").exists())
}

/// The command, for root. `location`: the folder of a self-contained OpenNebula.
pub(super) fn command(has_unit: bool, location: Option<&Path>) -> String {
    match location {
        None if has_unit => "systemctl restart opennebula".to_owned(),
        // A new login: a shell of oneadmin that is open already has the groups of its start.
        None => format!("su - {ONEADMIN} -c 'one stop; one start'"),
        Some(folder) => {
            let folder = folder.display();
            format!(
                "su - {ONEADMIN} -c 'export ONE_LOCATION={folder}; {folder}/bin/one stop; \
                 {folder}/bin/one start'"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_restarted_where_there_is_one_and_the_program_one_is_called_elsewhere() {
        assert_eq!(command(true, None), "systemctl restart opennebula");
        assert_eq!(
            command(false, None),
            "su - oneadmin -c 'one stop; one start'"
        );
        // The unit of a package beside it is another OpenNebula's.
        assert_eq!(
            command(true, Some(Path::new("/opt/one"))),
            "su - oneadmin -c 'export ONE_LOCATION=/opt/one; /opt/one/bin/one stop; \
             /opt/one/bin/one start'"
        );
    }

    #[test]
    fn a_root_that_does_not_run_has_no_units() {
        let dir = tempfile::tempdir().unwrap();
        let unit = dir.path().join("etc/systemd/system/opennebula.service");
        std::fs::create_dir_all(unit.parent().unwrap()).unwrap();
        std::fs::write(unit, "").unwrap();
        assert!(!has_unit(&Host::at(dir.path())));
    }
}
