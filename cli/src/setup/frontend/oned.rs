//! `oned.conf`: the names of our drivers, and what `oned` has to know of them.

use std::path::Path;

use crate::edit::template::{Misread, Template};
use crate::error::{Error, Result};

/// The text, what was changed, and what the administrator has otherwise and keeps.
pub(super) type Edit = (String, Vec<String>, Vec<String>);

/// What OpenNebula 6.10 lets a user do with an imported VM; later releases have no such list.
const IMPORTED_VMS_ACTIONS: &str = "terminate, terminate-hard, reboot, reboot-hard, poweroff, \
                                    poweroff-hard, resume, delete, nic-attach, nic-detach, \
                                    resize, updateconf, update";

/// The system datastores that `one_datastore` serves when `-s` is not given
/// (`SYSTEM_DS_TYPES`, `src/datastore_mad/one_datastore.rb`), and ours.
const SYSTEM_TYPES: &str = "shared,ssh,ceph,onedock";

/// Opens a configuration file of OpenNebula.
pub(super) fn open(path: &Path, text: &str) -> Result<Template> {
    Template::new(text).map_err(|Misread { line, what }| Error::Syntax {
        path: path.to_path_buf(),
        line,
        what: what.to_owned(),
    })
}

/// The file with our drivers in it.
pub(super) fn edit(path: &Path, text: &str) -> Result<Edit> {
    let mut template = open(path, text)?;
    let mut vm_mad = vec![
        ("SUNSTONE_NAME", "Docker"),
        ("EXECUTABLE", "one_vmm_exec"),
        ("ARGUMENTS", "-t 15 -r 0 onedock -p"),
        // The driver gets the VM's own XML; no other generator knows containers.
        ("TYPE", "xml"),
        ("KEEP_SNAPSHOTS", "yes"),
        ("LIVE_RESIZE", "yes"),
    ];
    if template.any_has("VM_MAD", "IMPORTED_VMS_ACTIONS") {
        vm_mad.push(("IMPORTED_VMS_ACTIONS", IMPORTED_VMS_ACTIONS));
    }
    template.ensure_vector("VM_MAD", "onedock", &vm_mad);
    for (name, flag, absent) in [
        ("TM_MAD", "-d", None),
        ("DATASTORE_MAD", "-d", None),
        ("DATASTORE_MAD", "-s", Some(SYSTEM_TYPES)),
    ] {
        if !template.ensure_listed(name, "ARGUMENTS", flag, "onedock", absent) {
            return Err(Error::refused(format!(
                "{} has no {name} with ARGUMENTS; the file was left as it is",
                path.display()
            )));
        }
    }
    template.ensure_vector(
        "TM_MAD_CONF",
        "onedock",
        &[
            ("LN_TARGET", "SYSTEM"),
            ("CLONE_TARGET", "SYSTEM"),
            ("SHARED", "NO"),
            ("DS_MIGRATE", "YES"),
            ("ALLOW_ORPHANS", "YES"),
        ],
    );
    template.ensure_vector(
        "DS_MAD_CONF",
        "onedock",
        &[("REQUIRED_ATTRS", ""), ("PERSISTENT_ONLY", "NO")],
    );
    template.ensure_single("INHERIT_IMAGE_ATTR", "DOCKERRUN");
    template.ensure_single("INHERIT_VNET_ATTR", "NETWORK_MASK");
    Ok(template.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files in the syntax and with the sections of a release, as `before` and `after`.
    fn golden(release: &str) -> (String, String) {
        let read = |name: &str| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/golden")
                .join(release);
            std::fs::read_to_string(path.join(name)).unwrap()
        };
        (read("oned.conf"), read("oned.conf.after"))
    }

    #[test]
    fn both_releases_get_what_they_need_and_a_second_run_changes_nothing() {
        for release in ["7.4", "6.10"] {
            let (before, after) = golden(release);
            let (out, changes, kept) = edit(Path::new("oned.conf"), &before).unwrap();
            assert_eq!(out, after, "release {release}");
            assert_eq!((changes.len(), kept.len()), (8, 0));
            let (again, changes, _) = edit(Path::new("oned.conf"), &out).unwrap();
            assert_eq!((again, changes.len()), (out, 0));
        }
    }

    #[test]
    fn every_line_that_was_there_is_still_there_in_its_order() {
        for release in ["7.4", "6.10"] {
            let (before, after) = golden(release);
            let mut lines = after.lines();
            for line in before.lines().filter(|l| !l.contains("ARGUMENTS")) {
                assert!(lines.any(|l| l == line), "lost in {release}: {line}");
            }
        }
    }

    #[test]
    fn a_file_that_oned_could_not_read_is_refused_with_the_line() {
        let error = edit(
            Path::new("/etc/one/oned.conf"),
            "A = 1\nVM_MAD = [ NAME \"x\" ]\n",
        );
        let line = error.unwrap_err().line();
        assert!(line.starts_with("/etc/one/oned.conf, line 2: "), "{line}");
    }
}
