//! Files that survive a crash: a reader sees the old content or the new, never a part.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What stands between a name and the process that is writing what is to take its place.
const TEMPORARY: &str = ".new.";

/// Replaces `path` by `bytes`: a temporary file beside it, synchronised, renamed over it, and
/// the folder synchronised. `mode` holds from the file's first moment on.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    if path.file_name().is_none() {
        return Err(io::Error::other("path has no file name"));
    }
    let temporary = temporary(path);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder_of(path))?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn folder_of(path: &Path) -> &Path {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// Removes a file; one that is not there is removed already.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes a file or a folder with all in it; what is not there is removed already.
pub fn remove_all(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes a file, and beside it the temporary files of writers that were ended before they could
/// put theirs in its place.
pub fn remove_with_leftovers(path: &Path) -> io::Result<()> {
    remove(path)?;
    leftovers(path)?.iter().try_for_each(|path| remove(path))
}

/// `<path><suffix>`.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Where this process writes what is to take the place of `path`.
pub fn temporary(path: &Path) -> PathBuf {
    with_suffix(path, &format!("{TEMPORARY}{}", std::process::id()))
}

/// Whether a file of this name is one that a process was or is writing.
pub fn is_temporary(name: &str) -> bool {
    name.contains(TEMPORARY)
}

/// What processes were writing in place of `path`, this one among them.
pub fn leftovers(path: &Path) -> io::Result<Vec<PathBuf>> {
    beginning_with(&with_suffix(path, TEMPORARY))
}

/// What lies in the folder of `path` and has a name that begins as its name.
pub fn beginning_with(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(folder), Some(beginning)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let begins = |name: &OsString| {
        name.as_encoded_bytes()
            .starts_with(beginning.as_encoded_bytes())
    };
    let names = entries(folder)?.into_iter().filter(begins);
    Ok(names.map(|name| folder.join(name)).collect())
}

/// The names in a folder that are UTF-8; a folder that is not there has none.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    let names = entries(folder)?.into_iter();
    Ok(names.filter_map(|name| name.into_string().ok()).collect())
}

/// The names in a folder; one that is not there has none.
pub fn entries(folder: &Path) -> io::Result<Vec<OsString>> {
    match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.file_name())).collect(),
    }
}

/// Reads a regular file of at most `limit` bytes without following a link at its end.
pub fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("is larger than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_content_and_nothing_stays_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.0");
        replace(&path, b"one", 0o600).unwrap();
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_folder_of_a_bare_name_is_the_current_one() {
        for (path, folder) in [("disk.0", "."), ("5/disk.0", "5"), ("/disk.0", "/")] {
            assert_eq!(folder_of(Path::new(path)), Path::new(folder), "{path}");
        }
    }

    #[test]
    fn attack_45_a_link_in_place_of_the_temporary_file_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, victim) = (dir.path().join("disk.0"), dir.path().join("victim"));
        std::os::unix::fs::symlink(&victim, temporary(&path)).unwrap();
        assert!(replace(&path, b"x", 0o600).is_err());
        assert!(!victim.exists());
    }

    #[test]
    fn what_is_not_there_is_removed_and_what_cannot_be_removed_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let [file, folder, link] = ["file", "folder", "link"].map(|name| dir.path().join(name));
        let fill = || {
            fs::write(&file, "x").unwrap();
            fs::create_dir_all(folder.join("inner")).unwrap();
        };
        fill();
        assert!(remove(&folder).is_err());
        for path in [&file, &folder] {
            remove_all(path).unwrap();
            remove_all(path).unwrap();
            remove(path).unwrap();
            assert!(!path.exists());
        }
        fill();
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        remove_all(&link).unwrap();
        assert!(folder.exists() && !link.exists());
        // Beneath a file there is no folder to look into.
        assert!(remove_all(&file.join("inner")).is_err());
        assert!(entries(&file).is_err());
        assert!(entries(&link).unwrap().is_empty());
    }

    #[test]
    fn what_a_killed_writer_left_goes_with_the_file_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        for name in ["a.json", "a.json.new.12", "b.json", "b.json.new.12"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        remove_with_leftovers(&path).unwrap();
        remove_with_leftovers(&path).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["b.json", "b.json.new.12"]);
    }

    #[test]
    fn attack_45_links_fifos_and_oversized_files_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        fs::write(&secret, b"x".repeat(100)).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&secret, &link).unwrap();
        assert!(read_bounded(&link, 1000).is_err());
        assert!(read_bounded(&secret, 99).is_err());
        assert_eq!(read_bounded(&secret, 100).unwrap().len(), 100);
        assert!(read_bounded(dir.path(), 100).is_err());
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read_bounded(&pipe, 100).is_err());
    }
}
