//! Kept states of a disk: whole copies beside it, which share their data with the disk where the
//! file system can.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use onedock_common::SnapshotId;
use onedock_common::disk_file;
use onedock_common::state::files;

use super::place::{snap_file, snap_folder, snapshots};

/// Keeps the present state of a disk that no VM uses now. For one in use there are
/// [`spool`](super::spool()) and [`snap_keep`](super::snap_keep).
pub(crate) async fn snap_create(disk: &Path, id: SnapshotId) -> Result<()> {
    disk_file::inspect(disk)?;
    make_folder(disk)?;
    let kept = disk_file::copy(disk, &snap_file(disk, id)).await;
    if kept.is_err() {
        forget_empty_folder(disk);
    }
    kept.with_context(|| format!("snapshot {id} of disk {} was not made", disk.display()))
}

pub(super) fn make_folder(disk: &Path) -> Result<()> {
    let folder = snap_folder(disk);
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))
}

/// Makes a kept state the disk's present one; the state stays.
pub(crate) async fn snap_revert(disk: &Path, id: SnapshotId) -> Result<()> {
    known(disk, id)?;
    disk_file::copy(&snap_file(disk, id), disk)
        .await
        .with_context(|| format!("disk {} stays as it is", disk.display()))
}

/// Forgets a kept state; one that is gone is forgotten.
pub(crate) async fn snap_delete(disk: &Path, id: SnapshotId) -> Result<()> {
    let file = snap_file(disk, id);
    files::remove_with_leftovers(&file)
        .with_context(|| format!("{} cannot be removed", file.display()))?;
    forget_empty_folder(disk);
    Ok(())
}

/// That the state is there.
pub(super) fn known(disk: &Path, id: SnapshotId) -> Result<()> {
    let there = snapshots(disk)?;
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

/// The folder goes with the last state in it.
pub(super) fn forget_empty_folder(disk: &Path) {
    if let Err(error) = fs::remove_dir(snap_folder(disk))
        && !matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
        )
    {
        tracing::warn!(disk = %disk.display(), %error, "the folder of its snapshots stays");
    }
}
