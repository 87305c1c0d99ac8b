//! A VM's disks that are files, on the host: `disk.<n>`, and `disk.<n>.snap/<id>` for each kept
//! state of it. The caller holds the VM's lock and has made the VM's folder.
//!
//! Whatever is written is written beside the disk first and put in place when it is complete, so a
//! call that was cut off leaves the disk as it was, and its repetition clears what it left.

mod make;
mod place;
mod receive;
mod registry;
mod send;
mod sizes;
mod snapshot;
mod spool;
mod stream;
#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::{Context as _, Result};
use onedock_common::disk_file;

pub(crate) use make::{make, make_swap};
pub(crate) use place::{is_leftover, remove, rename};
pub(crate) use receive::receive;
pub(crate) use registry::{How, fetch, fetch_snapshot, save, save_file};
pub(crate) use send::send;
pub(crate) use sizes::sizes;
pub(crate) use snapshot::{snap_create, snap_delete, snap_revert};
pub(crate) use spool::{Spool, snap_keep, spool};

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
