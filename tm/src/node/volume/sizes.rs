//! What a disk and its kept states take, for the monitor.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use onedock_common::SnapshotId;

use super::place::{snap_file, snapshots};

/// Allocated bytes: holes take nothing, and data that is shared with a copy is counted in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Of the disk.
    pub(crate) disk: u64,
    /// Of each kept state, oldest first.
    pub(crate) snapshots: Vec<(SnapshotId, u64)>,
}

/// What the disk takes. What goes meanwhile takes nothing.
pub(crate) fn sizes(disk: &Path) -> Result<Sizes> {
    let mut states = Vec::new();
    for id in snapshots(disk)? {
        states.push((id, allocated(&snap_file(disk, id))?));
    }
    Ok(Sizes {
        disk: allocated(disk)?,
        snapshots: states,
    })
}

fn allocated(path: &Path) -> Result<u64> {
    match fs::metadata(path) {
        Ok(meta) => Ok(meta.blocks().saturating_mul(512)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(e).with_context(|| format!("{} cannot be looked at", path.display())),
    }
}
