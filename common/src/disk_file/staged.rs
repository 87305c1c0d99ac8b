//! A disk that is written beside the old one, and takes its place in one step.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::error::WRITING;
use super::{DiskFileError, Format, mark};
use crate::state::files;

/// The name of a disk that is being written ([`files::temporary`]). What lies there goes when this
/// value goes, unless it was put in place.
#[derive(Debug)]
pub struct Staged {
    temporary: PathBuf,
    place: PathBuf,
}

impl Staged {
    /// A free name beside `path`. What writers that were ended have left there is removed, so
    /// there must be one writer at a time.
    pub fn beside(path: &Path) -> Result<Self, DiskFileError> {
        let path = std::path::absolute(path).map_err(|e| DiskFileError::io(WRITING, path, 0, e))?;
        remove_leftovers(&path)?;
        Ok(Self {
            temporary: files::temporary(&path),
            place: path,
        })
    }

    /// Where the new content belongs until it is complete. Nothing is there at first.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// A second temporary file beside this one.
    pub(super) fn further(&self, suffix: &str) -> Self {
        let suffix = format!(".{suffix}");
        Self {
            temporary: files::with_suffix(&self.temporary, &suffix),
            place: files::with_suffix(&self.place, &suffix),
        }
    }

    /// Makes the temporary file, for the drivers' user alone.
    pub fn create(&self) -> Result<File, DiskFileError> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
            .open(&self.temporary)
            .map_err(|e| DiskFileError::io(WRITING, &self.temporary, 0, e))
    }

    /// Keeps the format on the file that is being written, for calls on it before it is in place.
    pub fn declare(&self, format: Format) -> Result<(), DiskFileError> {
        let file = File::open(&self.temporary)
            .map_err(|e| DiskFileError::io(WRITING, &self.temporary, 0, e))?;
        mark::write(&file, format);
        Ok(())
    }

    /// Puts the complete file in place: its format kept on it, with the mode of the file that it
    /// replaces, synchronised, renamed, the folder synchronised.
    pub fn commit(self, format: Format) -> Result<(), DiskFileError> {
        self.put(format, true)
    }

    /// The same for a file that need not outlive a crash of the host.
    pub(super) fn commit_for_now(self, format: Format) -> Result<(), DiskFileError> {
        self.put(format, false)
    }

    fn put(self, format: Format, lasting: bool) -> Result<(), DiskFileError> {
        let put = || {
            let file = File::open(&self.temporary)?;
            let mode = match fs::symlink_metadata(&self.place) {
                Ok(meta) if meta.is_file() => meta.permissions().mode() & 0o777,
                _ => 0o600,
            };
            file.set_permissions(Permissions::from_mode(mode))?;
            mark::write(&file, format);
            if lasting {
                file.sync_all()?;
            }
            fs::rename(&self.temporary, &self.place)?;
            match self.place.parent() {
                Some(dir) if lasting => File::open(dir)?.sync_all(),
                _ => Ok(()),
            }
        };
        let size = fs::metadata(&self.temporary).map_or(0, |m| m.len());
        put().map_err(|e| DiskFileError::io(WRITING, &self.place, size, e))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a commit there is nothing under this name.
        if let Err(error) = files::remove(&self.temporary) {
            tracing::warn!(path = %self.temporary.display(), %error, "an unfinished disk stays");
        }
    }
}

/// Removes what writers that were ended have left beside the disk at `path`.
pub fn remove_leftovers(path: &Path) -> Result<(), DiskFileError> {
    files::leftovers(path)
        .and_then(|found| found.iter().try_for_each(|path| files::remove(path)))
        .map_err(|e| DiskFileError::io(WRITING, path, 0, e))
}
