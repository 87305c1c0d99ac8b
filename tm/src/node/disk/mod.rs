//! A VM's disks that are files. The caller holds the VM's lock.
//!
//! Whatever is written is written beside the disk first and put in place when it is complete, so a
//! call that was cut off leaves the disk as it was, and its repetition removes what it left.

mod make;
mod receive;
mod registry;
mod remove;
mod rename;
mod send;
mod snapshot;
mod spool;
mod stream;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use onedock_common::disk_file;
use onedock_common::engine::Engine;
use onedock_common::state::descriptor::{Descriptor, DiskKind};
use onedock_common::types::system_datastore::SystemDatastore;

use super::container::{self, DescriptorState};
use super::{NodeContext, prepare};
use crate::location::VmPath;

pub(crate) use make::{make, make_swap};
pub(crate) use receive::receive;
pub(crate) use registry::{How, fetch, fetch_snapshot, save, save_file};
pub(crate) use remove::remove;
pub(crate) use rename::rename;
pub(crate) use send::send;
pub(crate) use snapshot::{snap_create, snap_delete, snap_revert};
pub(crate) use spool::{snap_from_spool, spool_running};

/// Whether the disk is a file.
pub(crate) fn is_file(disk: &VmPath) -> Result<bool> {
    let kind = Descriptor::find(&disk.to_path_buf())?;
    Ok(kind == Some(DiskKind::File))
}

/// Where the disk is, which must be a file.
pub(crate) fn present(disk: &VmPath) -> Result<PathBuf> {
    let path = disk.to_path_buf();
    ensure!(
        is_file(disk)?,
        "{} is not there, or not a disk in a file; nothing was changed",
        path.display()
    );
    Ok(path)
}

/// Makes the VM's folder, and removes a container disk of an earlier life of this VM.
pub(crate) async fn prepare_file<E: Engine>(
    node: &NodeContext<'_, E>,
    disk: &VmPath,
    system: SystemDatastore,
) -> Result<PathBuf> {
    let id = disk.disk().context("a disk is made, not a VM's folder")?;
    prepare(disk, system)?;
    let path = disk.to_path_buf();
    if let Ok(Some(DiskKind::Container(former))) = Descriptor::find(&path) {
        let of = (disk.vm(), id);
        container::remove_all(node, of, former.container.as_ref(), DescriptorState::Valid).await?;
        Descriptor::remove(&path)?;
    }
    Ok(path)
}

/// Makes a disk that no VM uses now larger, with an ext2, ext3 or ext4 on it.
pub(crate) async fn grow(disk: &Path, size_mib: u64) -> Result<()> {
    Ok(disk_file::grow(disk, bytes(size_mib)?).await?)
}

/// MiB, as `oned` counts, in bytes.
fn bytes(size_mib: u64) -> Result<u64> {
    size_mib
        .checked_mul(1 << 20)
        .with_context(|| format!("a disk cannot have {size_mib} MiB"))
}
