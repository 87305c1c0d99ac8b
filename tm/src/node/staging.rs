//! A folder's new content, written beside the old one. It is put in place, entry by entry, when all
//! of it has arrived; until then the old content stays as it is.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use onedock_common::state::files;

/// The new content of a folder. What is not put in place is removed with this value.
#[derive(Debug)]
pub(crate) struct Staging {
    folder: PathBuf,
}

impl Staging {
    /// An empty folder called [`files::temporary`]. Those that processes which were killed have
    /// left are removed; the caller holds the VM's lock.
    pub(crate) fn beside(base: &Path) -> Result<Self> {
        let leftovers = files::leftovers(base);
        for leftover in leftovers.with_context(|| format!("{} cannot be read", base.display()))? {
            remove(&leftover)?;
        }
        let folder = files::temporary(base);
        fs::create_dir(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        Ok(Self { folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Renames each entry into `target`, where it replaces the entry of the same name whatever
    /// that is, and leaves the others there.
    pub(crate) fn replace_entries(&self, target: &Path) -> Result<()> {
        for name in entries(&self.folder)? {
            put(&self.folder.join(&name), &target.join(&name))?;
        }
        synchronise(target)
    }

    /// Makes `target` a folder with these files only. Folders that are there stay the same ones,
    /// because a container may have them mounted; files are replaced one by one, and what has no
    /// replacement is removed when all of them are in place.
    pub(crate) fn replace_content(&self, target: &Path) -> Result<()> {
        merge(&self.folder, target)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.folder) {
            tracing::warn!(%error, "what was received is left beside the folder");
        }
    }
}

fn merge(from: &Path, to: &Path) -> Result<()> {
    let names = entries(from)?;
    for name in &names {
        let (new, old) = (from.join(name), to.join(name));
        let stays = is_folder(&new) && is_folder(&old);
        if stays {
            let mode = fs::symlink_metadata(&new)?.permissions();
            fs::set_permissions(&old, mode)?;
            merge(&new, &old)?;
        } else {
            put(&new, &old)?;
        }
    }
    let names: BTreeSet<OsString> = names.into_iter().collect();
    for name in entries(to)? {
        if !names.contains(&name) {
            remove(&to.join(name))?;
        }
    }
    synchronise(to)
}

/// A file replaces a file in one step. Where one of them is a folder the old one has to go first.
fn put(new: &Path, old: &Path) -> Result<()> {
    if is_folder(old) || (is_folder(new) && fs::symlink_metadata(old).is_ok()) {
        remove(old)?;
    }
    fs::rename(new, old).with_context(|| format!("{} cannot be replaced", old.display()))
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_dir())
}

fn entries(folder: &Path) -> Result<Vec<OsString>> {
    files::entries(folder).with_context(|| format!("{} cannot be read", folder.display()))
}

fn remove(path: &Path) -> Result<()> {
    files::remove_all(path).with_context(|| format!("{} cannot be removed", path.display()))
}

fn synchronise(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|f| f.sync_all())
        .with_context(|| format!("{} cannot be written", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for name in entries(folder).unwrap() {
            let name = name.into_string().unwrap();
            let path = folder.join(&name);
            if is_folder(&path) {
                found.extend(tree(&path).iter().map(|inner| format!("{name}/{inner}")));
                found.push(format!("{name}/"));
            } else {
                found.push(format!("{name}={}", fs::read_to_string(path).unwrap()));
            }
        }
        found.sort();
        found
    }

    fn write(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn files_and_folders_replace_one_another_and_the_rest_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("disk.1");
        for name in [
            "same",
            "gone",
            "file-to-folder",
            "folder-to-file/a",
            "stays/old",
        ] {
            write(target.join(name), "old");
        }
        write(
            dir.path().join("disk.1.new.1/x"),
            "left by a process that was killed",
        );
        let staging = Staging::beside(&target).unwrap();
        for name in [
            "same",
            "file-to-folder/b",
            "folder-to-file",
            "stays/new",
            "empty/x",
        ] {
            write(staging.folder().join(name), "new");
        }
        staging.replace_content(&target).unwrap();
        drop(staging);
        assert_eq!(
            tree(dir.path()),
            [
                "disk.1/",
                "disk.1/empty/",
                "disk.1/empty/x=new",
                "disk.1/file-to-folder/",
                "disk.1/file-to-folder/b=new",
                "disk.1/folder-to-file=new",
                "disk.1/same=new",
                "disk.1/stays/",
                "disk.1/stays/new=new",
            ]
        );
    }

    #[test]
    fn entries_replace_those_of_their_name_as_a_whole_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path();
        write(target.join("disk.5/old"), "old");
        write(target.join("vm.xml"), "old");
        write(target.join("other"), "old");
        let staging = Staging::beside(&target.join("rest")).unwrap();
        write(staging.folder().join("disk.5/new"), "new");
        write(staging.folder().join("vm.xml"), "new");
        staging.replace_entries(target).unwrap();
        drop(staging);
        assert_eq!(
            tree(target),
            ["disk.5/", "disk.5/new=new", "other=old", "vm.xml=new"]
        );
    }
}
