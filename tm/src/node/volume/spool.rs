//! A copy of a running VM's disk, made while the VM is frozen, from which it is saved afterwards.

use std::path::{Path, PathBuf};

use anyhow::Result;
use onedock_common::{files, volume};

use super::place::{sweep, with};

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

/// Copies the disk to a file beside it. The caller has frozen the container and brought what it
/// wrote into the disk's file, and lets it go on as soon as this is done.
pub(crate) async fn spool(disk: &Path) -> Result<Spool> {
    sweep(disk)?;
    let copy = Spool(with(disk, &format!("{INFIX}{}", std::process::id())));
    volume::copy(disk, copy.path()).await?;
    Ok(copy)
}
