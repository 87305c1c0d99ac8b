//! Folders that are gone after a boot: those of oneadmin's ssh connections and locks, for machines
//! without OpenNebula's packages, which bring a file of `tmpfiles.d(5)` for them.

use std::path::{Path, PathBuf};

use super::ONEADMIN;
use crate::file_step::{Folder, PutFile};
use crate::host::Host;
use crate::owner::Owner;
use crate::step::{State, Step, Steps, action};

/// What OpenNebula's packages say of them.
const TMPFILES: &str = include_str!("../../../packaging/tmpfiles-onedock.conf");

/// Where oneadmin's ssh keeps the sockets of its connections (`share/ssh/etc/config`).
pub(super) const SSH_SOCKETS: &str = "/run/one/ssh-socks";

/// Where OpenNebula puts its drivers on a node when `oned.conf` does not say otherwise
/// (SCRIPTS_REMOTE_DIR).
pub(super) const REMOTE_SCRIPTS: &str = "/var/tmp/one";

/// The folders, now and at each boot. `remote_scripts` is exempt from the cleaning of old files.
pub(super) fn steps(host: &Host, remote_scripts: &Path) -> Steps {
    let mut steps: Steps = Vec::new();
    if !is_packaged(host) {
        steps.push(PutFile::new(
            host.path("/etc/tmpfiles.d/onedock.conf"),
            tmpfiles(remote_scripts),
            0o644,
            Owner::root(),
        ));
    }
    for (path, mode) in [
        ("/run/one", 0o750),
        (SSH_SOCKETS, 0o700),
        ("/run/lock/one", 0o755),
    ] {
        let oneadmin = Owner::names(ONEADMIN, ONEADMIN);
        steps.push(missing_folder(host.path(path), mode, oneadmin));
    }
    steps
}

/// Whether a package makes them at each boot: the node's, or the one that every package needs.
fn is_packaged(host: &Host) -> bool {
    ["opennebula-node.conf", "opennebula-common.conf"]
        .iter()
        .any(|name| {
            ["/usr/lib/tmpfiles.d", "/etc/tmpfiles.d"]
                .iter()
                .any(|folder| host.path(folder).join(name).exists())
        })
}

fn tmpfiles(remote_scripts: &Path) -> String {
    TMPFILES.replace(REMOTE_SCRIPTS, &remote_scripts.display().to_string())
}

/// A folder that is made for `owner` when it is missing; one that is there stays as it is.
pub(super) fn missing_folder(path: PathBuf, mode: u32, owner: Owner) -> Box<dyn Step> {
    let at = path.clone();
    let folder = Folder::new(path.clone(), mode, owner);
    action(
        path.display().to_string(),
        move || Ok(State::needed_if(!at.is_dir(), "make it")),
        move || folder.apply(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_folder_is_kept_from_the_cleaning_wherever_it_lies() {
        assert_eq!(tmpfiles(Path::new(REMOTE_SCRIPTS)), TMPFILES);
        let other = tmpfiles(Path::new("/srv/one-scripts"));
        assert!(other.ends_with("\nx /srv/one-scripts/*\n"), "{other}");
        assert!(!other.contains("/var/tmp/one"));
    }

    #[test]
    fn a_machine_with_opennebula_s_packages_gets_no_second_file() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let subjects = || steps(&host, Path::new(REMOTE_SCRIPTS)).len();
        assert_eq!(subjects(), 4);
        let folder = host.path("/usr/lib/tmpfiles.d");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("opennebula-common.conf"), "").unwrap();
        assert_eq!(subjects(), 3);
    }
}
