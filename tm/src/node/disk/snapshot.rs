//! Snapshots of a disk in a file: whole copies beside it, which share their data with the disk where the
//! file system can.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use onedock_common::SnapshotId;
use onedock_common::disk_file;
use onedock_common::state::{files, vm_folder};

/// Takes a snapshot of a disk that no VM uses now. For one in use there are
/// [`spool`](super::spool()) and [`snap_from_spool`](super::snap_from_spool).
pub(crate) async fn snap_create(disk: &Path, id: SnapshotId) -> Result<()> {
    disk_file::inspect(disk)?;
    make_folder(disk)?;
    let made = disk_file::copy(disk, &vm_folder::snapshot(disk, id)).await;
    if made.is_err() {
        remove_empty_folder(disk);
    }
    made.with_context(|| format!("snapshot {id} of disk {} was not made", disk.display()))
}

pub(super) fn make_folder(disk: &Path) -> Result<()> {
    let folder = vm_folder::snapshot_folder(disk);
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))
}

/// Gives the disk the content of a snapshot, which stays.
pub(crate) async fn snap_revert(disk: &Path, id: SnapshotId) -> Result<()> {
    known(disk, id)?;
    disk_file::copy(&vm_folder::snapshot(disk, id), disk)
        .await
        .with_context(|| format!("disk {} stays as it is", disk.display()))
}

/// Removes a snapshot; one that is gone is removed.
pub(crate) async fn snap_delete(disk: &Path, id: SnapshotId) -> Result<()> {
    let file = vm_folder::snapshot(disk, id);
    files::remove_with_leftovers(&file)
        .with_context(|| format!("{} cannot be removed", file.display()))?;
    remove_empty_folder(disk);
    Ok(())
}

/// An error unless the snapshot is there.
pub(super) fn known(disk: &Path, id: SnapshotId) -> Result<()> {
    let there = vm_folder::snapshots(disk)?;
    let list: Vec<String> = there.iter().map(SnapshotId::to_string).collect();
    ensure!(
        there.contains(&id),
        "disk {} has no snapshot {id} (it has {}); nothing was changed",
        disk.display(),
        if list.is_empty() {
            "none".to_owned()
        } else {
            list.join(", ")
        }
    );
    Ok(())
}

/// The folder goes with the last snapshot in it.
pub(super) fn remove_empty_folder(disk: &Path) {
    if let Err(error) = fs::remove_dir(vm_folder::snapshot_folder(disk))
        && !matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
        )
    {
        tracing::warn!(disk = %disk.display(), %error, "the folder of its snapshots stays");
    }
}
