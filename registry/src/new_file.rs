//! Files that this crate writes for its caller.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A file that is being written; it is removed unless it was finished.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    file: File,
    finished: bool,
}

impl NewFile {
    /// Creates the file, with this length and no data. An existing file is an error.
    pub(crate) fn create(path: &Path, length: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o660)
            .open(path)?;
        let new = Self {
            path: path.to_owned(),
            file,
            finished: false,
        };
        new.file.set_len(length)?;
        Ok(new)
    }

    /// One more handle, for another thread.
    pub(crate) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Synchronises the file to its storage.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove an unfinished file");
        }
    }
}
