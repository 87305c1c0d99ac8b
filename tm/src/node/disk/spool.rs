//! A copy of a running VM's disk, made while the VM is frozen, from which it is saved afterwards:
//! writing it to the storage takes longest, and needs no frozen VM.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use onedock_common::SnapshotId;
use onedock_common::disk_file;
use onedock_common::engine::{ContainerInfo, Engine};
use onedock_common::state::boot::BootSpec;
use onedock_common::state::{files, vm_folder};
use onedock_node::client::Root as _;
use onedock_node::request::Request;

use super::remove::remove_leftovers;
use super::snapshot::{make_folder, remove_empty_folder};
use crate::location::VmPath;
use crate::node::{NodeContext, freeze};

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
            tracing::warn!(path = %self.0.display(), %error, "a copy of a disk is left");
        }
    }
}

/// Makes the copy a snapshot of the disk, after the VM was thawed.
pub(crate) fn snap_from_spool(disk: &Path, id: SnapshotId, spool: &Spool) -> Result<()> {
    make_folder(disk)?;
    let (from, to) = (spool.path(), vm_folder::snapshot(disk, id));
    let make = || {
        File::open(from)?.sync_all()?;
        fs::rename(from, &to)?;
        File::open(vm_folder::snapshot_folder(disk))?.sync_all()
    };
    let made = make();
    if made.is_err() {
        remove_empty_folder(disk);
    }
    made.with_context(|| format!("snapshot {id} of disk {} was not made", disk.display()))
}

/// Copies the disk to a file beside it. The caller has frozen the container and brought what it
/// wrote into the disk's file, and thaws it as soon as this is done.
pub(super) async fn spool(disk: &Path) -> Result<Spool> {
    remove_leftovers(disk)?;
    let copy = Spool(vm_folder::spool(disk));
    disk_file::copy_for_now(disk, copy.path()).await?;
    Ok(copy)
}

/// A copy of the disk of a running VM, which stands still only while it is made; `None` when the
/// VM does not run.
pub(crate) async fn spool_running<E: Engine>(
    node: &NodeContext<'_, E>,
    disk: &VmPath,
) -> Result<Option<Spool>> {
    freeze::during(node, disk.vm(), async |running| match running {
        Some(running) => {
            synchronise(node, disk, &running).await?;
            spool(&disk.to_path_buf()).await.map(Some)
        }
        None => Ok(None),
    })
    .await
}

/// What the container has written to the disk is in the file. A disk that it does not have, such as
/// one that was attached to the stopped VM or is swap, nobody writes to.
async fn synchronise<E>(
    node: &NodeContext<'_, E>,
    disk: &VmPath,
    container: &ContainerInfo,
) -> Result<()> {
    let id = disk.disk().context("a disk is copied, not a folder")?;
    let spec = BootSpec::read(&node.paths, &container.id)?;
    if !spec.is_some_and(|spec| spec.disks.iter().any(|d| d.id == id)) {
        return Ok(());
    }
    let request = Request::SyncDisk {
        vm: disk.vm(),
        container: container.id.clone(),
        disk: id,
    };
    node.helper
        .call(&request)
        .await
        .context("what the VM has written to its disk cannot be brought into its file")?;
    Ok(())
}
