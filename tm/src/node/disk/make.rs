//! `mkimage` and `mkswap`: a volatile disk.

use std::path::Path;

use anyhow::Result;
use onedock_common::disk_file::{self, Format};

use super::bytes;
use super::remove::remove_snapshots;

/// Makes an empty disk. One of the same format and size that nothing was written to stays, so that
/// the call can be repeated; a disk of a former life of the VM is replaced.
pub(crate) async fn make(disk: &Path, size_mib: u64, format: Format) -> Result<()> {
    of_bytes(disk, bytes(size_mib)?, format).await
}

pub(super) async fn of_bytes(disk: &Path, size: u64, format: Format) -> Result<()> {
    remove_snapshots(disk)?;
    let same = disk_file::inspect(disk).is_ok_and(|v| (v.format, v.size) == (format, size));
    if same && !disk.is_symlink() && disk_file::is_blank(disk).await? {
        return Ok(());
    }
    Ok(disk_file::make(disk, format, size).await?)
}

/// Makes a swap disk.
pub(crate) async fn make_swap(disk: &Path, size_mib: u64) -> Result<()> {
    make(disk, size_mib, Format::Raw).await?;
    Ok(disk_file::make_swap(disk).await?)
}
