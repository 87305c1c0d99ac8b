//! What lies in a VM's folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use onedock_common::{DiskId, SnapshotId};

use crate::location::VmPath;

/// The disks that a place names: itself, or all in the folder.
pub(crate) fn disks(place: &VmPath) -> Result<Vec<DiskId>> {
    if let Some(disk) = place.disk() {
        return Ok(vec![disk]);
    }
    let mut disks: Vec<DiskId> = names(place.folder())?
        .iter()
        .filter_map(|name| name.strip_prefix("disk.")?.parse().ok())
        .collect();
    disks.sort_unstable();
    Ok(disks)
}

/// The folder of the snapshots of a disk in a file.
pub(crate) fn snapshot_folder(disk: &Path) -> PathBuf {
    let mut name = disk.as_os_str().to_owned();
    name.push(".snap");
    name.into()
}

/// The snapshots of a disk in a file.
pub(crate) fn snapshots(disk: &Path) -> Result<Vec<SnapshotId>> {
    let names = names(&snapshot_folder(disk))?;
    let mut ids: Vec<SnapshotId> = names.iter().filter_map(|n| n.parse().ok()).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// The names in a folder; one that is not there has none.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let unread = || format!("{} cannot be read", folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(unread),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry.with_context(unread)?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes a file or folder; one that is gone is removed.
pub(crate) fn remove_path(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}
