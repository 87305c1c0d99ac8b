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

/// The stock kinds of system datastores in which a VM of our images may live as well
/// (TM_MAD_SYSTEM). 6.10 has no `local`; there nobody can make a system datastore of that kind.
pub(super) const OTHER_SYSTEMS: [&str; 3] = ["ssh", "shared", "local"];

/// What only an administrator may write into a template, beside what OpenNebula ships restricted: the host
/// end of a NIC and the driver that lays it, options of Docker beyond the policy, and an image's SOURCE, by which a VM gets its content.
const RESTRICTED: [(&str, &str); 8] = [
    ("VM_RESTRICTED_ATTR", "NIC/TARGET"),
    ("VM_RESTRICTED_ATTR", "NIC/VN_MAD"),
    ("VM_RESTRICTED_ATTR", "NIC/PHYDEV"),
    ("VM_RESTRICTED_ATTR", "NIC_DEFAULT/TARGET"),
    ("VM_RESTRICTED_ATTR", "NIC_DEFAULT/VN_MAD"),
    ("VM_RESTRICTED_ATTR", "NIC_DEFAULT/PHYDEV"),
    ("VM_RESTRICTED_ATTR", "RAW/DATA"),
    ("IMAGE_RESTRICTED_ATTR", "SOURCE"),
];

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
    let transfer = transfer_conf();
    let transfer: Vec<(&str, &str)> = transfer.iter().map(|(k, v)| (&**k, &**v)).collect();
    template.ensure_vector("TM_MAD_CONF", "onedock", &transfer);
    template.ensure_vector(
        "DS_MAD_CONF",
        "onedock",
        &[
            ("REQUIRED_ATTRS", ""),
            ("PERSISTENT_ONLY", "NO"),
            ("MARKETPLACE_ACTIONS", "export"),
        ],
    );
    // MOUNTPOINT is ours. The stock MOUNT_POINT is of images of type FILESYSTEM (virtiofs), is
    // set by `oned` itself for those alone (`src/image/Image.cc`), and is left to them.
    for attribute in ["DOCKERRUN", "DOCKER_OPTIONS", "MOUNTPOINT", "DEVICE"] {
        template.ensure_single("INHERIT_IMAGE_ATTR", attribute);
    }
    template.ensure_single("INHERIT_VNET_ATTR", "NETWORK_MASK");
    for (name, attribute) in RESTRICTED {
        template.ensure_single(name, attribute);
    }
    Ok(template.finish())
}

/// Whether the file has a TM_MAD_CONF of ours to which something is added: `oned` copies it into
/// a datastore only when that is made or its TM_MAD is set.
pub(super) fn completes(path: &Path) -> bool {
    std::fs::read_to_string(path)
        .ok()
        .and_then(|text| edit(path, &text).ok())
        .is_some_and(|(_, changes, _)| {
            changes
                .iter()
                .any(|c| c.starts_with("TM_MAD_CONF onedock "))
        })
}

/// TM_MAD_CONF. For each kind that TM_MAD_SYSTEM names `oned` wants three attributes more
/// (`Datastore::set_tm_mad`), else no image datastore can be made. A disk of ours takes its room
/// in the VM's own folder or engine, whatever the folder's kind, and is a file to `oned`.
fn transfer_conf() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = [
        ("LN_TARGET", "SYSTEM"),
        ("CLONE_TARGET", "SYSTEM"),
        ("SHARED", "NO"),
        ("DS_MIGRATE", "YES"),
        // The states of a disk lie in the registry, or beside it in the VM's folder: they go
        // along to another system datastore. 6.10 does not ask.
        ("DS_MIGRATE_SNAP", "YES"),
        ("ALLOW_ORPHANS", "YES"),
        ("TM_MAD_SYSTEM", &OTHER_SYSTEMS.join(",")),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into();
    for system in OTHER_SYSTEMS {
        let system = system.to_ascii_uppercase();
        for (attribute, value) in [
            ("LN_TARGET", "SYSTEM"),
            ("CLONE_TARGET", "SYSTEM"),
            ("DISK_TYPE", "FILE"),
        ] {
            all.push((format!("{attribute}_{system}"), value.to_owned()));
        }
    }
    all
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
            assert_eq!((changes.len(), kept.len()), (19, 0));
            let (again, changes, _) = edit(Path::new("oned.conf"), &out).unwrap();
            assert_eq!((again, changes.len()), (out, 0));
        }
    }

    /// What the version before disks wrote, and what an administrator had changed in it.
    #[test]
    fn an_installation_of_an_earlier_version_gets_what_lacks_and_keeps_what_is_said() {
        let (before, after) = golden("7.4");
        let earlier = format!(
            "{before}\nTM_MAD_CONF = [\n    NAME = \"onedock\",\n    LN_TARGET = \"SYSTEM\",\n    \
             CLONE_TARGET = \"SYSTEM\",\n    SHARED = \"NO\",\n    DS_MIGRATE = \"NO\",\n    \
             ALLOW_ORPHANS = \"YES\"\n]\n\nDS_MAD_CONF = [\n    NAME = \"onedock\",\n    \
             REQUIRED_ATTRS = \"\",\n    PERSISTENT_ONLY = \"NO\"\n]\n"
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("oned.conf");
        for (text, is_upgrade) in [(&before, false), (&earlier, true), (&after, false)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(completes(&path), is_upgrade);
        }
        let (out, changes, kept) = edit(Path::new("oned.conf"), &earlier).unwrap();
        for (name, value) in transfer_conf().iter().skip(4) {
            assert!(out.contains(&format!("    {name} = \"{value}\"")), "{name}");
        }
        assert!(changes.contains(&"TM_MAD_CONF onedock TM_MAD_SYSTEM".to_owned()));
        assert!(changes.contains(&"TM_MAD_CONF onedock DISK_TYPE_LOCAL".to_owned()));
        assert!(changes.contains(&"DS_MAD_CONF onedock MARKETPLACE_ACTIONS".to_owned()));
        assert_eq!(
            kept,
            ["TM_MAD_CONF onedock has DS_MIGRATE = \"NO\" (not \"YES\")"]
        );
        let count = |text: &str| text.matches("NAME = \"onedock\"").count();
        assert_eq!(count(&out), count(&after), "nothing stands there twice");
        assert_eq!(edit(Path::new("oned.conf"), &out).unwrap().1.len(), 0);
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
