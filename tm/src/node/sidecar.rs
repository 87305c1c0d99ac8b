//! Small files beside a container disk's descriptor, named after it: where the registry keeps
//! something of the VM's own (`disk.N.registry`), and what a move left to find out whether two
//! paths are one folder (`disk.N.moving`). They go with the disk, and travel with its folder.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use onedock_common::state::boot;
use onedock_common::state::files;
use onedock_common::types::reference::Repository;

use crate::location::VmPath;
use crate::system::System;

/// The largest that is read, in bytes.
const LIMIT: u64 = 4096;

/// What a place's own small files are named after: its disk, or a name within its folder.
pub(crate) fn base(place: &VmPath) -> PathBuf {
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
pub(crate) fn note_repository(disk: &Path, repository: &Repository) -> Result<()> {
    write(&beside(disk, ".registry"), &repository.to_string())
}

/// Where the registry may keep something of this disk. A note that is damaged names nothing.
pub(crate) fn repository(disk: &Path) -> Result<Option<Repository>> {
    Ok(read(&beside(disk, ".registry"))?.and_then(|text| text.parse().ok()))
}

/// Leaves the token of a move, with this boot of the host: a folder that another machine sees as
/// well is not the same host.
pub(crate) fn leave_token(disk: &Path, token: &str) -> Result<()> {
    write(&beside(disk, ".moving"), &token_here(token)?)
}

/// Where the token of a move was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Not in this folder.
    Elsewhere,
    /// In this very folder, on this very machine: it has another name.
    Here,
    /// In this folder, on another machine: hosts share it.
    HereByAnother,
}

/// Where the token was left, as seen from this machine.
pub(crate) fn left(disk: &Path, token: &str) -> Result<Left> {
    let Some(found) = read(&beside(disk, ".moving"))? else {
        return Ok(Left::Elsewhere);
    };
    Ok(if found == token_here(token)? {
        Left::Here
    } else if found.split(' ').next() == Some(token) {
        Left::HereByAnother
    } else {
        Left::Elsewhere
    })
}

/// Whether the disk comes from this very place. In a datastore of ours each host has its own
/// folder: what is shared would be taken away where it has arrived.
pub(crate) fn is_same_place(disk: &Path, token: &str, system: System) -> Result<bool> {
    match left(disk, token)? {
        Left::Elsewhere => Ok(false),
        Left::Here => {
            remove_token(disk)?;
            Ok(true)
        }
        Left::HereByAnother => {
            ensure!(
                system.is_stock(),
                "{} is a folder that hosts share; a system datastore with TM_MAD=onedock has one folder on each host (use TM_MAD=shared); nothing was moved",
                disk.parent().unwrap_or(disk).display()
            );
            Ok(false)
        }
    }
}

fn token_here(token: &str) -> Result<String> {
    let boot = boot::boot_id().context("this boot of the host cannot be told")?;
    Ok(format!("{token} {boot}"))
}

/// Takes the token away.
pub(crate) fn remove_token(disk: &Path) -> Result<()> {
    let path = beside(disk, ".moving");
    files::remove_with_leftovers(&path)
        .with_context(|| format!("{} cannot be removed", path.display()))
}

/// Takes all of them away.
pub(crate) fn remove(disk: &Path) -> Result<()> {
    remove_token(disk)?;
    let path = beside(disk, ".registry");
    files::remove_with_leftovers(&path)
        .with_context(|| format!("{} cannot be removed", path.display()))
}

/// Renames what belongs to the disk.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
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
        assert_eq!(left(&disk, "abc").unwrap(), Left::Here);
        assert_eq!(left(&disk, "abd").unwrap(), Left::Elsewhere);
        assert_eq!(left(&other, "abc").unwrap(), Left::Elsewhere);
        write(&beside(&disk, ".moving"), "abc 00000000-another-boot").unwrap();
        assert_eq!(left(&disk, "abc").unwrap(), Left::HereByAnother);
        assert!(is_same_place(&disk, "abc", System::Onedock).is_err());
        assert!(!is_same_place(&disk, "abc", System::Shared).unwrap());
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
