//! What lies in a VM's folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use onedock_common::descriptor::{Descriptor, DescriptorError, Found, disk_path};
use onedock_common::{DiskId, SnapshotId};

use super::sidecar;
use crate::location::Place;
use crate::message::{Outcome, Seen, What};

pub(super) fn run(place: &Place, token: Option<&str>) -> Result<Outcome> {
    if let Some(token) = token
        && place.path().exists()
    {
        sidecar::leave_token(&sidecar::base(place), token)?;
    }
    let mut seen = Vec::new();
    for disk in disks(place)? {
        if let Some(what) = what(&disk_path(place.folder(), disk))? {
            seen.push(Seen { disk, what });
        }
    }
    Ok(Outcome::Seen(seen))
}

fn what(path: &Path) -> Result<Option<What>> {
    Ok(match Descriptor::find(path) {
        Ok(Found::Nothing) => None,
        Ok(Found::Container(descriptor)) => Some(What::Container(descriptor)),
        Ok(Found::File) => Some(What::File {
            snapshots: snapshots(path)?,
        }),
        Ok(Found::Folder) => Some(What::Folder),
        Err(e @ DescriptorError::Io { .. }) => return Err(e.into()),
        Err(e) => Some(What::Damaged(e.to_string())),
    })
}

/// The disks that a place names: itself, or all in the folder.
pub(super) fn disks(place: &Place) -> Result<Vec<DiskId>> {
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
pub(super) fn snapshot_folder(disk: &Path) -> PathBuf {
    let mut name = disk.as_os_str().to_owned();
    name.push(".snap");
    name.into()
}

/// The snapshots of a disk in a file.
pub(super) fn snapshots(disk: &Path) -> Result<Vec<SnapshotId>> {
    let names = names(&snapshot_folder(disk))?;
    let mut ids: Vec<SnapshotId> = names.iter().filter_map(|n| n.parse().ok()).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// The names in a folder; one that is not there has none.
pub(super) fn names(folder: &Path) -> Result<Vec<String>> {
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
