//! Small files beside a disk: in which repository the registry has something of the VM's own, and
//! the token of a move, by which it is found out whether two paths are one folder. They go with the
//! disk.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use onedock_common::state::{boot, files, vm_folder};
use onedock_common::types::reference::Repository;
use onedock_common::types::system_datastore::SystemDatastore;

use crate::location::VmPath;

/// The largest that is read, in bytes.
const LIMIT: u64 = 4096;

/// The disk or the folder that a move token belongs to.
pub(crate) fn move_token(path: &VmPath) -> PathBuf {
    match path.disk() {
        Some(_) => vm_folder::disk_move_token(&path.to_path_buf()),
        None => vm_folder::folder_move_token(path.folder()),
    }
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

/// Notes that the registry has something of this disk; written before it has.
pub(crate) fn note_repository(disk: &Path, repository: &Repository) -> Result<()> {
    write(&vm_folder::repository_note(disk), &repository.to_string())
}

/// Where the registry may have something of this disk. A note that is damaged names nothing.
pub(crate) fn repository(disk: &Path) -> Result<Option<Repository>> {
    Ok(read(&vm_folder::repository_note(disk))?.and_then(|text| text.parse().ok()))
}

/// Leaves the token of a move, with this boot of the host: a folder that another machine sees as
/// well is not the same host.
pub(crate) fn leave_token(path: &VmPath, token: &str) -> Result<()> {
    write(&move_token(path), &token_here(token)?)
}

/// Where the token of a move was left, as seen from this folder on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenOrigin {
    /// In another folder.
    Elsewhere,
    /// In this very folder, on this very machine: it has another name.
    Here,
    /// In this folder, on another machine: hosts share it.
    Shared,
}

fn token_origin(path: &VmPath, token: &str) -> Result<TokenOrigin> {
    let Some(found) = read(&move_token(path))? else {
        return Ok(TokenOrigin::Elsewhere);
    };
    Ok(if found == token_here(token)? {
        TokenOrigin::Here
    } else if found.split(' ').next() == Some(token) {
        TokenOrigin::Shared
    } else {
        TokenOrigin::Elsewhere
    })
}

/// Whether what moves comes from this very folder. In a datastore of ours each host has its own
/// folder: what is shared would be removed where it has arrived.
pub(crate) fn is_same_folder(path: &VmPath, token: &str, system: SystemDatastore) -> Result<bool> {
    match token_origin(path, token)? {
        TokenOrigin::Elsewhere => Ok(false),
        TokenOrigin::Here => {
            remove_file(&move_token(path))?;
            Ok(true)
        }
        TokenOrigin::Shared => {
            ensure!(
                system.is_stock(),
                "{} is a folder that hosts share; a system datastore with TM_MAD=onedock has one folder on each host (use TM_MAD=shared); nothing was moved",
                path.folder().display()
            );
            Ok(false)
        }
    }
}

fn token_here(token: &str) -> Result<String> {
    let boot = boot::boot_id().context("the boot id of this host cannot be read")?;
    Ok(format!("{token} {boot}"))
}

/// Removes the token of a move of this disk.
pub(crate) fn remove_token(disk: &Path) -> Result<()> {
    remove_file(&vm_folder::disk_move_token(disk))
}

/// Removes all of them.
pub(crate) fn remove(disk: &Path) -> Result<()> {
    remove_token(disk)?;
    remove_file(&vm_folder::repository_note(disk))
}

fn remove_file(path: &Path) -> Result<()> {
    files::remove_with_leftovers(path)
        .with_context(|| format!("{} cannot be removed", path.display()))
}

/// Renames what belongs to the disk.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    if let Some(text) = read(&vm_folder::repository_note(from))? {
        write(&vm_folder::repository_note(to), &text)?;
    }
    remove(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_only_where_it_was_left_and_all_goes_with_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("101/5");
        std::fs::create_dir_all(&folder).unwrap();
        let path = |name| VmPath::try_from(folder.join(name)).unwrap();
        let (disk, other) = (path("disk.0"), path("disk.1"));
        leave_token(&disk, "abc").unwrap();
        let origin = |path, token| token_origin(path, token).unwrap();
        assert_eq!(origin(&disk, "abc"), TokenOrigin::Here);
        assert_eq!(origin(&disk, "abd"), TokenOrigin::Elsewhere);
        assert_eq!(origin(&other, "abc"), TokenOrigin::Elsewhere);
        write(&move_token(&disk), "abc 00000000-another-boot").unwrap();
        assert_eq!(origin(&disk, "abc"), TokenOrigin::Shared);
        assert!(is_same_folder(&disk, "abc", SystemDatastore::Onedock).is_err());
        assert!(!is_same_folder(&disk, "abc", SystemDatastore::Shared).unwrap());
        let (disk, other) = (disk.to_path_buf(), other.to_path_buf());
        let noted: Repository = "front:5000/onedock/img-6".parse().unwrap();
        note_repository(&disk, &noted).unwrap();
        rename(&disk, &other).unwrap();
        assert_eq!(repository(&disk).unwrap(), None);
        assert_eq!(repository(&other).unwrap(), Some(noted));
        remove(&other).unwrap();
        remove(&other).unwrap();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }
}
