//! Where a disk's files lie, and what belongs together when it goes or is renamed.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use onedock_common::SnapshotId;
use onedock_common::disk_file;
use onedock_common::state::files;

/// The folder of a disk's kept states, as the stock drivers name it.
pub(super) fn snap_folder(disk: &Path) -> PathBuf {
    with(disk, ".snap")
}

/// The file of one kept state.
pub(super) fn snap_file(disk: &Path, id: SnapshotId) -> PathBuf {
    snap_folder(disk).join(id.to_string())
}

/// Where the kept states are received, before they are put in place.
pub(super) fn new_snap_folder(disk: &Path) -> PathBuf {
    with(disk, ".snap.new")
}

/// `<disk><suffix>`.
pub(super) fn with(disk: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(disk);
    name.push(suffix);
    name.into()
}

/// The kept states that are there, oldest first. What is not named by a number is not one.
pub(super) fn snapshots(disk: &Path) -> Result<Vec<SnapshotId>> {
    let folder = snap_folder(disk);
    let entries = match fs::read_dir(&folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("{} cannot be read", folder.display()))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        found.extend(
            name.to_str()
                .and_then(|name| name.parse::<SnapshotId>().ok()),
        );
    }
    found.sort_unstable();
    Ok(found)
}

/// Removes a disk with its kept states, and what calls that were cut off have left of it. What is
/// gone is removed.
///
/// The disk first: cut off after its states, a repeated `mvds` would find a disk that has none and
/// take those of its image away in the registry.
pub(crate) fn remove(disk: &Path) -> Result<()> {
    files::remove(disk).with_context(|| format!("disk {} cannot be removed", disk.display()))?;
    remove_states(disk)?;
    sweep(disk)
}

/// Removes the kept states of a disk: those of a former life, or of one that goes.
pub(super) fn remove_states(disk: &Path) -> Result<()> {
    for folder in [snap_folder(disk), new_snap_folder(disk)] {
        remove_folder(&folder)?;
    }
    Ok(())
}

pub(super) fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        // Another driver's link to the states of its image: the link goes, they stay.
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => files::remove(folder),
        other => other,
    }
    .with_context(|| format!("{} cannot be removed", folder.display()))
}

/// Whether the name of a file in a VM's folder is one of a writer that was ended.
pub(crate) fn is_leftover(name: &str) -> bool {
    name.contains(".new.") || name.contains(super::spool::INFIX) || name.ends_with(".snap.new")
}

/// Removes what writers that were ended have left beside a disk.
pub(super) fn sweep(disk: &Path) -> Result<()> {
    disk_file::sweep(disk)?;
    let (Some(folder), Some(name)) = (disk.parent(), disk.file_name()) else {
        return Ok(());
    };
    let beginning = with(Path::new(name), super::spool::INFIX);
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("{} cannot be read", folder.display()))?,
    };
    for entry in entries {
        let found = entry?.file_name();
        if begins(&found, beginning.as_os_str()) {
            files::remove(&folder.join(found))?;
        }
    }
    Ok(())
}

fn begins(name: &OsStr, with: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(with.as_encoded_bytes())
}

/// Renames a disk with its kept states within this host; between file systems they are copied, and
/// what was there goes when all of it has arrived. What is gone on one side and there on the other
/// was renamed before.
pub(crate) async fn rename(from: &Path, to: &Path) -> Result<()> {
    let there = |path: &Path| fs::symlink_metadata(path).is_ok();
    if from == to || (!there(from) && there(to)) {
        return Ok(());
    }
    let (states, new_states) = (snap_folder(from), snap_folder(to));
    if there(&states) {
        remove_folder(&new_states)?;
    }
    match rename_if_there(&states, &new_states).and_then(|()| fs::rename(from, to)) {
        Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
            for id in snapshots(from)? {
                fs::create_dir_all(&new_states)?;
                disk_file::copy(&snap_file(from, id), &snap_file(to, id)).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_cannot_be_removed_keeps_its_states() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk.0");
        fs::create_dir_all(snap_folder(&disk)).unwrap();
        fs::write(snap_file(&disk, "3".parse().unwrap()), "kept").unwrap();
        // A folder is not removed as a file.
        fs::create_dir(&disk).unwrap();
        assert!(remove(&disk).is_err());
        assert_eq!(snapshots(&disk).unwrap().len(), 1);
        fs::remove_dir(&disk).unwrap();
        for _ in 0..2 {
            remove(&disk).unwrap();
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}
