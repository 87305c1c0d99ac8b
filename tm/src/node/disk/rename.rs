//! A disk in a file in another folder of this host.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use onedock_common::disk_file;
use onedock_common::state::vm_folder;

use super::remove::{remove, remove_folder};

/// Renames a disk with its snapshots within this host; between file systems they are copied, and
/// what was there goes when all of it has arrived. What is gone on one side and there on the other
/// was renamed before.
pub(crate) async fn rename(from: &Path, to: &Path) -> Result<()> {
    let there = |path: &Path| fs::symlink_metadata(path).is_ok();
    if from == to || (!there(from) && there(to)) {
        return Ok(());
    }
    let (snapshots, target) = (
        vm_folder::snapshot_folder(from),
        vm_folder::snapshot_folder(to),
    );
    if there(&snapshots) {
        remove_folder(&target)?;
    }
    match rename_if_there(&snapshots, &target).and_then(|()| fs::rename(from, to)) {
        Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
            for id in vm_folder::snapshots(from)? {
                fs::create_dir_all(&target)?;
                let (from, to) = (vm_folder::snapshot(from, id), vm_folder::snapshot(to, id));
                disk_file::copy(&from, &to).await?;
            }
            disk_file::copy(from, to).await?;
            remove(from)
        }
        other => other.with_context(|| {
            format!(
                "disk {} cannot be moved to {}",
                from.display(),
                to.display()
            )
        }),
    }
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
