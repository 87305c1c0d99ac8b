//! A copy of a running VM's disk, made while the VM is frozen, from which it is saved or kept
//! afterwards: bringing it to the storage takes longest, and needs no frozen VM.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use onedock_common::SnapshotId;
use onedock_common::disk_file;
use onedock_common::state::files;

use super::place::{snap_file, snap_folder, sweep, with};
use super::snapshot::{forget_empty_folder, make_folder};

/// What stands between the disk's name and the process that copied it.
pub(super) const INFIX: &str = ".spool.";

/// The copy. It goes with this value.
#[derive(Debug)]
pub(crate) struct Spool(PathBuf);

impl Spool {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if let Err(error) = files::remove(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a copy of a disk stays");
        }
    }
}

/// Makes the copy a kept state of the disk, after the VM goes on again.
pub(crate) fn snap_keep(disk: &Path, id: SnapshotId, spool: &Spool) -> Result<()> {
    make_folder(disk)?;
    let (from, to) = (spool.path(), snap_file(disk, id));
    let keep = || {
        File::open(from)?.sync_all()?;
        fs::rename(from, &to)?;
        File::open(snap_folder(disk))?.sync_all()
    };
    let kept = keep();
    if kept.is_err() {
        forget_empty_folder(disk);
    }
    kept.with_context(|| format!("snapshot {id} of disk {} was not made", disk.display()))
}

/// Copies the disk to a file beside it. The caller has frozen the container and brought what it
/// wrote into the disk's file, and lets it go on as soon as this is done.
pub(crate) async fn spool(disk: &Path) -> Result<Spool> {
    sweep(disk)?;
    let copy = Spool(with(disk, &format!("{INFIX}{}", std::process::id())));
    disk_file::copy_for_now(disk, copy.path()).await?;
    Ok(copy)
}
