//! Small files beside a container disk's descriptor, named after it: where the registry keeps
//! something of the VM's own (`disk.N.registry`), and what a move left to find out whether two
//! paths are one folder (`disk.N.moving`). They go with the disk, and travel with its folder.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use onedock_common::boot;
use onedock_common::files;
use onedock_common::reference::Repository;

use crate::location::Place;

/// The largest that is read, in bytes.
const LIMIT: u64 = 4096;

/// What a place's own small files are named after: its disk, or a name within its folder.
pub(super) fn base(place: &Place) -> PathBuf {
    match place.disk() {
        Some(_) => place.path(),
        None => place.folder().join("folder"),
    }
}

fn beside(disk: &Path, ending: &str) -> PathBuf {
    let mut name = disk.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn read(path: &Path) -> Result<Option<String>> {
    match files::read_bounded(path, LIMIT) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("{} cannot be read", path.display())),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    files::replace(path, format!("{text}\n").as_bytes(), 0o640)
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// Notes, before it is so, that the registry keeps something of this disk.
pub(super) fn note_repository(disk: &Path, repository: &Repository) -> Result<()> {
    write(&beside(disk, ".registry"), &repository.to_string())
}

/// Where the registry may keep something of this disk. A note that is damaged names nothing.
pub(super) fn repository(disk: &Path) -> Result<Option<Repository>> {
    Ok(read(&beside(disk, ".registry"))?.and_then(|text| text.parse().ok()))
}

/// Leaves the token of a move, with this boot of the host: a folder that another machine sees as
/// well is not the same host.
pub(super) fn leave_token(disk: &Path, token: &str) -> Result<()> {
    write(&beside(disk, ".moving"), &token_here(token)?)
}

/// Whether the token was left in this very folder, on this very machine.
pub(super) fn has_token(disk: &Path, token: &str) -> Result<bool> {
    Ok(read(&beside(disk, ".moving"))?
        .is_some_and(|left| Ok(left) == token_here(token).map_err(drop)))
}

fn token_here(token: &str) -> Result<String> {
    let boot = boot::boot_id().context("this boot of the host cannot be told")?;
    Ok(format!("{token} {boot}"))
}

/// Takes the token away.
pub(super) fn remove_token(disk: &Path) -> Result<()> {
    let path = beside(disk, ".moving");
    files::remove_with_leftovers(&path)
        .with_context(|| format!("{} cannot be removed", path.display()))
}

/// Takes all of them away.
pub(super) fn remove(disk: &Path) -> Result<()> {
    remove_token(disk)?;
    let path = beside(disk, ".registry");
    files::remove_with_leftovers(&path)
        .with_context(|| format!("{} cannot be removed", path.display()))
}

/// Renames what belongs to the disk.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    if let Some(text) = read(&beside(from, ".registry"))? {
        write(&beside(to, ".registry"), &text)?;
    }
    remove(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_only_where_it_was_left_and_all_goes_with_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, other) = (dir.path().join("disk.0"), dir.path().join("disk.1"));
        leave_token(&disk, "abc").unwrap();
        assert!(has_token(&disk, "abc").unwrap());
        assert!(!has_token(&disk, "abd").unwrap());
        assert!(!has_token(&other, "abc").unwrap());
        let repository: Repository = "front:5000/onedock/img-6".parse().unwrap();
        note_repository(&disk, &repository).unwrap();
        rename(&disk, &other).unwrap();
        assert_eq!(super::repository(&disk).unwrap(), None);
        assert_eq!(super::repository(&other).unwrap(), Some(repository));
        remove(&other).unwrap();
        remove(&other).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
