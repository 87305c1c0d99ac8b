//! What a disk in a file is, read from the file alone.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::bytes::read_at;
use super::error::READING;
use super::qcow2::{MAGIC, Qcow2Header};
use super::{DiskFileError, Format, LIMIT, mark};

/// Where an ISO 9660 image has its first volume descriptor (ECMA-119, 6.2.1), and its identifier.
const ISO_AT: u64 = 32 * 1024 + 1;
const ISO_MAGIC: &[u8; 5] = b"CD001";

/// What a disk in a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskFile {
    /// How the file is written.
    pub format: Format,
    /// The size of the disk as a VM sees it, in bytes.
    pub size: u64,
    /// What the file takes on its file system, in bytes.
    pub allocated: u64,
}

/// What the disk at `path` is. A file that these drivers made says its format itself, in an
/// attribute that nothing inside a VM can change; of another its first bytes count. A link is
/// followed once, to a regular file. An image that leads to further files is refused.
pub fn inspect(path: &Path) -> Result<DiskFile, DiskFileError> {
    let (file, path) = open(path)?;
    let known = mark::read(&file);
    of(&file, &path, known)
}

/// What the disk at `path` is, when its format is known (DISK/FORMAT): its content then decides
/// nothing, but must not contradict a qcow2. The format is kept on the file, where it has none yet,
/// for whatever is done with it afterwards.
pub fn inspect_as(path: &Path, format: Format) -> Result<DiskFile, DiskFileError> {
    let (file, path) = open(path)?;
    let volume = of(&file, &path, Some(format))?;
    if mark::read(&file).is_none() {
        mark::write(&file, format);
    }
    Ok(volume)
}

pub(super) fn of(
    file: &File,
    path: &Path,
    known: Option<Format>,
) -> Result<DiskFile, DiskFileError> {
    let io = |source| DiskFileError::io(READING, path, 0, source);
    let meta = file.metadata().map_err(io)?;
    let format = match known {
        Some(format) => format,
        None => by_content(file).map_err(io)?,
    };
    let size = match format {
        Format::Raw | Format::Iso => meta.len(),
        Format::Qcow2 => Qcow2Header::read(file, path)?.size,
    };
    if size > LIMIT {
        return Err(DiskFileError::Size {
            path: path.to_owned(),
            size,
            reason: "more than 1 PiB is no disk",
        });
    }
    Ok(DiskFile {
        format,
        size,
        allocated: meta.blocks().saturating_mul(512),
    })
}

fn by_content(file: &File) -> io::Result<Format> {
    let mut beginning = [0; 4];
    if read_at(file, 0, &mut beginning)? && beginning == MAGIC {
        return Ok(Format::Qcow2);
    }
    let mut identifier = [0; 5];
    if read_at(file, ISO_AT, &mut identifier)? && identifier == *ISO_MAGIC {
        return Ok(Format::Iso);
    }
    Ok(Format::Raw)
}

/// Opens the disk at `path` to be read, and says where it is: a link (a stock `shared` datastore
/// links to images and snapshots) is followed once. Only a regular file is opened.
pub fn open(path: &Path) -> Result<(File, PathBuf), DiskFileError> {
    let io = |source| DiskFileError::io(READING, path, 0, source);
    let mut place = std::path::absolute(path).map_err(io)?;
    if fs::symlink_metadata(&place).map_err(io)?.is_symlink() {
        let target = fs::read_link(&place).map_err(io)?;
        // An absolute target takes the place of the whole path.
        place = place.parent().unwrap_or(Path::new("/")).join(target);
    }
    let not_a_file = || DiskFileError::NotAFile {
        path: place.clone(),
    };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
        .open(&place)
        .map_err(|source| match source.raw_os_error() {
            // A second link, or a socket or device without anybody behind it.
            Some(nix::libc::ELOOP | nix::libc::ENXIO) => not_a_file(),
            _ => DiskFileError::io(READING, &place, 0, source),
        })?;
    if !file.metadata().map_err(io)?.is_file() {
        return Err(not_a_file());
    }
    Ok((file, place))
}
