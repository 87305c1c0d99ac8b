//! The layout of a VM's folder, `<datastores>/<system datastore>/<vm>`. Every name in it is made
//! and read here:
//!
//! | name | what it is |
//! | --- | --- |
//! | `disk.N` | disk N: a [descriptor](super::descriptor), a disk in a file, or a folder of context files |
//! | `disk.N.snap/M` | snapshot M of a disk in a file, as OpenNebula's own drivers name it |
//! | `disk.N.snap.new` | snapshots that have not all arrived from another host |
//! | `disk.N.spool.PID` | a copy of a running VM's disk, made while the VM is frozen |
//! | `disk.N.registry` | the repository in which the registry keeps something of the VM's own |
//! | `disk.N.moving`, `folder.moving` | the token of a move |
//! | `received.new.PID` | files that have not all arrived from another host |
//! | `….new.PID` | what is still being written ([`files::temporary`]) |
//!
//! The file of `save` is not among them, because `oned` names it. What a VM has on a node outside
//! its folder is in [`super::paths`].

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::state::files;
use crate::types::ids::{DiskId, SnapshotId};
use crate::types::system_datastore::SystemDatastore;

/// In a datastore's folder: TM_MAD (`src/tm_mad/tm_common.sh`, `enable_local_monitoring`).
const MARKER: &str = ".monitor";
const DISK: &str = "disk.";
const SNAPSHOTS: &str = ".snap";
const NEW_SNAPSHOTS: &str = ".snap.new";
const SPOOL: &str = ".spool.";
const REPOSITORY: &str = ".registry";
const MOVE: &str = ".moving";
const RECEIVED: &str = "received";

/// Makes a VM's folder, and the marker by which the host's monitor finds the datastore.
pub fn prepare(folder: &Path, system: SystemDatastore) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let datastore = folder
        .parent()
        .ok_or_else(|| io::Error::other("has no parent folder"))?;
    let marker = datastore.join(MARKER);
    if let Some(mark) = system.mark()
        && !marker.exists()
    {
        files::replace(&marker, format!("{mark}\n").as_bytes(), 0o644)?;
    }
    if !system.is_stock() {
        // Context files hold passwords: nobody but the drivers and root looks into a VM's folder.
        fs::set_permissions(folder, Permissions::from_mode(0o750))?;
    }
    Ok(())
}

/// Whether the datastore with this folder is to be measured on this host.
pub fn is_local_datastore(datastore: &Path) -> bool {
    datastore.join(MARKER).exists()
}

/// Disk `id` of the VM with this folder.
pub fn disk(folder: &Path, id: DiskId) -> PathBuf {
    folder.join(format!("{DISK}{id}"))
}

/// The disk that has this name in a VM's folder.
pub fn disk_id(name: &str) -> Option<DiskId> {
    name.strip_prefix(DISK)?.parse().ok()
}

/// The disks in a VM's folder, in order; none where there is no folder.
pub fn disks(folder: &Path) -> io::Result<Vec<DiskId>> {
    numbers(folder, disk_id)
}

/// The folder with the snapshots of a disk in a file.
pub fn snapshot_folder(disk: &Path) -> PathBuf {
    files::with_suffix(disk, SNAPSHOTS)
}

/// One snapshot of a disk in a file.
pub fn snapshot(disk: &Path, id: SnapshotId) -> PathBuf {
    snapshot_folder(disk).join(id.to_string())
}

/// The snapshots of a disk in a file, oldest first. What is not named by a number is none.
pub fn snapshots(disk: &Path) -> io::Result<Vec<SnapshotId>> {
    numbers(&snapshot_folder(disk), |name| name.parse().ok())
}

/// Where snapshots lie that have not all arrived.
pub fn new_snapshot_folder(disk: &Path) -> PathBuf {
    files::with_suffix(disk, NEW_SNAPSHOTS)
}

/// Where this process copies the disk of a running VM to.
pub fn spool(disk: &Path) -> PathBuf {
    files::with_suffix(disk, &format!("{SPOOL}{}", std::process::id()))
}

/// Copies that processes which were ended have left, this one's among them.
pub fn spools(disk: &Path) -> io::Result<Vec<PathBuf>> {
    files::beginning_with(&files::with_suffix(disk, SPOOL))
}

/// The file that names the repository in which the registry keeps something of this disk.
pub fn repository_note(disk: &Path) -> PathBuf {
    files::with_suffix(disk, REPOSITORY)
}

/// The file for the token of a move of this disk.
pub fn disk_move_token(disk: &Path) -> PathBuf {
    files::with_suffix(disk, MOVE)
}

/// The file for the token of a move of the whole folder.
pub fn folder_move_token(folder: &Path) -> PathBuf {
    files::with_suffix(&folder.join("folder"), MOVE)
}

/// What files from another host are named after until all of them have arrived.
pub fn received(folder: &Path) -> PathBuf {
    folder.join(RECEIVED)
}

/// Whether an entry of the folder goes along when the folder moves to another host. A move token
/// and the note about the registry belong to a disk that is described anew where it arrives; the
/// others are of processes that were ended.
pub fn is_moved(name: &str) -> bool {
    let is_of_disk = name.starts_with(DISK)
        && (name.ends_with(REPOSITORY)
            || name.ends_with(NEW_SNAPSHOTS)
            || name.contains(SPOOL)
            || files::is_temporary(name));
    let is_received = name.starts_with(RECEIVED) && files::is_temporary(name);
    !(name.ends_with(MOVE) || is_of_disk || is_received)
}

fn numbers<T: Ord>(folder: &Path, read: impl Fn(&str) -> Option<T>) -> io::Result<Vec<T>> {
    let names = files::names(folder)?;
    let mut numbers: Vec<T> = names.iter().filter_map(|name| read(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_and_snapshots_are_what_is_named_by_a_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = disk(dir.path(), DiskId::new(10));
        assert!(disks(&dir.path().join("none")).unwrap().is_empty());
        assert!(snapshots(&path).unwrap().is_empty());
        fs::create_dir(snapshot_folder(&path)).unwrap();
        for name in ["disk.10", "disk.2", "disk.2.registry", "disk.x", "vm.xml"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        for name in ["11", "3", "base", ".3.part"] {
            fs::write(snapshot_folder(&path).join(name), "").unwrap();
        }
        assert_eq!(
            disks(dir.path()).unwrap(),
            [DiskId::new(2), DiskId::new(10)]
        );
        let ids = [SnapshotId::new(3), SnapshotId::new(11)];
        assert_eq!(snapshots(&path).unwrap(), ids);
    }

    #[test]
    fn copies_of_a_running_vm_s_disk_are_found_whoever_made_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = disk(dir.path(), DiskId::new(1));
        assert!(spools(&path).unwrap().is_empty());
        let anothers = dir.path().join("disk.1.spool.1");
        for file in [&path, &anothers, &dir.path().join("disk.10.spool.1")] {
            fs::write(file, "").unwrap();
        }
        assert_eq!(spools(&path).unwrap(), [anothers]);
        fs::write(spool(&path), "").unwrap();
        assert_eq!(spools(&path).unwrap().len(), 2);
    }

    #[test]
    fn only_what_belongs_to_this_host_s_side_of_a_move_stays() {
        for name in [
            "disk.0",
            "disk.1.snap",
            "disk.5",
            "vm.xml",
            "x.new.7",
            "received",
        ] {
            assert!(is_moved(name), "{name}");
        }
        let path = disk(Path::new("/5"), DiskId::new(1));
        let names = [
            repository_note(&path),
            disk_move_token(&path),
            folder_move_token(Path::new("/5")),
            new_snapshot_folder(&path),
            spool(&path),
            files::temporary(&path),
            files::temporary(&received(Path::new("/5"))),
        ];
        for name in names {
            let name = name.file_name().unwrap().to_str().unwrap().to_owned();
            assert!(!is_moved(&name), "{name}");
        }
    }

    #[test]
    fn a_datastore_that_hosts_share_is_not_measured_on_each_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("101/5");
        prepare(&folder, SystemDatastore::Shared).unwrap();
        assert!(!is_local_datastore(&dir.path().join("101")));
        prepare(&folder, SystemDatastore::Local).unwrap();
        assert!(is_local_datastore(&dir.path().join("101")));
    }

    #[test]
    fn the_first_action_on_a_host_leaves_the_marker_of_the_datastore() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("101/5");
        for _ in 0..2 {
            prepare(&folder, SystemDatastore::Onedock).unwrap();
        }
        let marker = fs::read_to_string(dir.path().join("101/.monitor"));
        assert_eq!(marker.unwrap(), "onedock\n");
    }

    #[test]
    fn the_folder_of_a_vm_is_closed_to_others_and_another_driver_s_stays_as_it_is() {
        for (system, mode) in [
            (SystemDatastore::Onedock, 0o750),
            (SystemDatastore::Ssh, 0o711),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().join("101/5");
            fs::create_dir_all(&folder).unwrap();
            fs::set_permissions(&folder, Permissions::from_mode(0o711)).unwrap();
            prepare(&folder, system).unwrap();
            let found = fs::metadata(&folder).unwrap().permissions().mode();
            assert_eq!(found & 0o777, mode);
        }
    }
}
