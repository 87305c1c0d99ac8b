//! What goes with a disk in a file.

use std::path::Path;

use anyhow::{Context as _, Result};
use onedock_common::disk_file;
use onedock_common::state::{files, vm_folder};

/// Removes a disk with its snapshots, and what calls that were cut off have left of it. What is
/// gone is removed.
///
/// The disk first: cut off after its snapshots, a repeated `mvds` would find a disk that has none
/// and remove those of its image from the registry.
pub(crate) fn remove(disk: &Path) -> Result<()> {
    files::remove(disk).with_context(|| format!("disk {} cannot be removed", disk.display()))?;
    remove_snapshots(disk)?;
    remove_leftovers(disk)
}

/// Removes the snapshots of a disk: those of a former life, or of one that goes.
pub(super) fn remove_snapshots(disk: &Path) -> Result<()> {
    for folder in [
        vm_folder::snapshot_folder(disk),
        vm_folder::new_snapshot_folder(disk),
    ] {
        remove_folder(&folder)?;
    }
    Ok(())
}

/// Removes a folder of snapshots. Where it is another driver's link to the snapshots of its image,
/// the link goes and they stay.
pub(super) fn remove_folder(folder: &Path) -> Result<()> {
    files::remove_all(folder).with_context(|| format!("{} cannot be removed", folder.display()))
}

/// Removes what processes that were ended have left beside a disk.
pub(super) fn remove_leftovers(disk: &Path) -> Result<()> {
    disk_file::remove_leftovers(disk)?;
    vm_folder::spools(disk)
        .and_then(|spools| spools.iter().try_for_each(|spool| files::remove(spool)))
        .with_context(|| format!("copies of disk {} cannot be removed", disk.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_disk_that_cannot_be_removed_keeps_its_snapshots() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk.0");
        fs::create_dir_all(vm_folder::snapshot_folder(&disk)).unwrap();
        fs::write(vm_folder::snapshot(&disk, "3".parse().unwrap()), "old").unwrap();
        // A folder is not removed as a file.
        fs::create_dir(&disk).unwrap();
        assert!(remove(&disk).is_err());
        assert_eq!(vm_folder::snapshots(&disk).unwrap().len(), 1);
        fs::remove_dir(&disk).unwrap();
        for _ in 0..2 {
            remove(&disk).unwrap();
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}
