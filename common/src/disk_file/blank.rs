//! Whether anything was ever written to a disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::error::READING;
use super::{DiskFileError, Format, Qcow2Header, data_extents, inspect, mark};

/// How much is looked at in one go, in bytes.
const STEP: usize = 1 << 20;

/// Whether the disk holds nothing but zeros: a raw file without data, a qcow2 image without an
/// allocated cluster. Only such a disk may be given a file system: one without a known signature
/// may be the guest's own (a database, an encrypted disk).
pub async fn is_blank(path: &Path) -> Result<bool, DiskFileError> {
    let path = path.to_owned();
    blocking(path.clone(), move || has_no_data(&path)).await
}

/// Runs what reads or writes much beside the driver's one thread.
pub(super) async fn blocking<T: Send + 'static>(
    path: std::path::PathBuf,
    work: impl FnOnce() -> Result<T, DiskFileError> + Send + 'static,
) -> Result<T, DiskFileError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(DiskFileError::io(READING, &path, 0, io::Error::other(e))),
    }
}

fn has_no_data(path: &Path) -> Result<bool, DiskFileError> {
    let (file, path) = inspect::open(path)?;
    let known = mark::read(&file);
    let volume = inspect::of(&file, &path, known)?;
    match volume.format {
        Format::Iso => Ok(false),
        Format::Qcow2 => Qcow2Header::read(&file, &path)?.is_empty(&file, &path),
        Format::Raw => {
            only_zeros(&file, volume.size).map_err(|e| DiskFileError::io(READING, &path, 0, e))
        }
    }
}

fn only_zeros(file: &File, size: u64) -> io::Result<bool> {
    let mut buffer = vec![0; STEP];
    for extent in data_extents(file, size)? {
        let mut at = extent.offset;
        let end = extent.offset + extent.length;
        while at < end {
            let part = usize::try_from(end - at).unwrap_or(STEP).min(STEP);
            file.read_exact_at(&mut buffer[..part], at)?;
            if buffer[..part].iter().any(|b| *b != 0) {
                return Ok(false);
            }
            at += part as u64;
        }
    }
    Ok(true)
}
