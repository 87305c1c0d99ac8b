//! What can go wrong with a disk in a file, in words for the person who reads it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{Format, Fs, smallest};
use crate::process::ProcessError;

/// Why a disk in a file could not be read, made or changed. What could not be changed is as it was.
#[derive(Debug, Error)]
pub enum DiskFileError {
    /// There is none.
    #[error("disk {path} is not there", path = path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// A folder, a device, a pipe, or a link to one.
    #[error("disk {path} is not a regular file", path = path.display())]
    NotAFile {
        /// What was looked at.
        path: PathBuf,
    },
    /// Damaged, or one that leads to other files.
    #[error("disk {path} is not a {format} image that can be used: {reason}", path = path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What it is or should be.
        format: Format,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No file of that size can be.
    #[error("disk {path} cannot have {size} bytes; {reason}", path = path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        size: u64,
        /// Why not.
        reason: &'static str,
    },
    /// Too small for the file system.
    #[error(
        "disk {path} has {size} bytes, too few for {fs}, which needs {smallest} MiB at least; ask for a larger SIZE or another FS",
        path = path.display(),
        smallest = smallest(*fs) >> 20
    )]
    TooSmall {
        /// The file.
        path: PathBuf,
        /// What it has.
        size: u64,
        /// What should be on it.
        fs: Fs,
    },
    /// A disk only grows.
    #[error(
        "disk {path} has {size} bytes and is never made smaller ({wanted} bytes were asked for); nothing was changed",
        path = path.display()
    )]
    Shrink {
        /// The file.
        path: PathBuf,
        /// What it has.
        size: u64,
        /// What was asked for.
        wanted: u64,
    },
    /// What cannot be done with this format.
    #[error("{what} is not possible with a disk of format {format} ({path})", path = path.display())]
    Unfit {
        /// What was wanted.
        what: &'static str,
        /// The format.
        format: Format,
        /// The file.
        path: PathBuf,
    },
    /// The file system that it lies on is full.
    #[error(
        "there is no space left for {path}, which needs up to {bytes} bytes; free some space there and try again",
        path = path.display()
    )]
    NoSpace {
        /// The file that was written.
        path: PathBuf,
        /// What it was to hold.
        bytes: u64,
        /// The system's error.
        source: io::Error,
    },
    /// The system refused.
    #[error("{what} {path} failed", path = path.display())]
    Io {
        /// `reading`, `writing` …
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A program that failed.
    #[error("{program} failed on {path}: {reason}", path = path.display())]
    Program {
        /// Its name.
        program: &'static str,
        /// The file that it worked on.
        path: PathBuf,
        /// Its standard error as one line, or how it ended.
        reason: String,
    },
    /// A program that is not installed, cannot be started or did not end.
    #[error("{reason}, for disk {path}", path = path.display())]
    NotRun {
        /// The file that it should work on.
        path: PathBuf,
        /// Why it gave no answer.
        reason: ProcessError,
    },
}

impl DiskFileError {
    /// A failure of the system while `bytes` were to lie at `path`.
    pub(super) fn io(what: &'static str, path: &Path, bytes: u64, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound if what == READING => Self::Missing { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace {
                path,
                bytes,
                source,
            },
            _ => Self::Io { what, path, source },
        }
    }
}

pub(super) const READING: &str = "reading";
#[cfg(feature = "disks")]
pub(super) const WRITING: &str = "writing";
