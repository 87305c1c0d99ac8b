//! A copy of a disk that shares its data where the file system can, and keeps its holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{copy_file_range, ioctl_ficlone};
use rustix::io::Errno;

use super::blank::blocking;
use super::error::{READING, WRITING};
use super::make::set_length;
use super::{DiskFileError, Format, Staged, data_extents, inspect, mark};

/// How much is copied in one go, in bytes.
const STEP: u64 = 8 << 20;

/// Copies the disk `from` (a link is followed once) to `to`, in place of whatever file is there. A
/// copy that is cut off leaves what was there before.
pub async fn copy(from: &Path, to: &Path) -> Result<(), DiskFileError> {
    let (from, to) = (from.to_owned(), to.to_owned());
    blocking(to.clone(), move || {
        let (staged, format) = write(&from, &to)?;
        staged.commit(format)
    })
    .await
}

/// The same while a VM stands still for it: the copy is there when this ends, and a crash of the
/// host may lose it.
pub async fn copy_for_now(from: &Path, to: &Path) -> Result<(), DiskFileError> {
    let (from, to) = (from.to_owned(), to.to_owned());
    blocking(to.clone(), move || {
        let (staged, format) = write(&from, &to)?;
        staged.commit_for_now(format)
    })
    .await
}

fn write(from: &Path, to: &Path) -> Result<(Staged, Format), DiskFileError> {
    let (source, from) = inspect::open(from)?;
    let known = mark::read(&source);
    // A copy of what could not be used would be found out later, where nobody knows why.
    let format = inspect::of(&source, &from, known)?.format;
    let reading = |e| DiskFileError::io(READING, &from, 0, e);
    let size = source.metadata().map_err(reading)?.len();
    let staged = Staged::beside(to)?;
    let target = staged.create()?;
    if ioctl_ficlone(&target, &source).is_err() {
        set_length(&target, to, size)?;
        for extent in data_extents(&source, size).map_err(reading)? {
            copy_part(&source, &target, extent.offset, extent.length)
                .map_err(|e| DiskFileError::io(WRITING, to, size, e))?;
        }
    }
    drop(target);
    Ok((staged, format))
}

fn copy_part(source: &File, target: &File, offset: u64, length: u64) -> io::Result<()> {
    let (mut at, end) = (offset, offset + length);
    while at < end {
        let step = usize::try_from((end - at).min(STEP)).unwrap_or(1 << 20);
        let (mut input, mut output) = (at, at);
        let within_kernel =
            copy_file_range(source, Some(&mut input), target, Some(&mut output), step);
        let copied = match within_kernel {
            Ok(copied) if copied > 0 => copied,
            // Between file systems, or on one that does not know it.
            Ok(_) | Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                by_hand(source, target, at, step)?
            }
            Err(Errno::INTR) => 0,
            Err(e) => return Err(e.into()),
        };
        at += copied as u64;
    }
    Ok(())
}

fn by_hand(source: &File, target: &File, at: u64, length: usize) -> io::Result<usize> {
    let mut buffer = vec![0; length];
    source.read_exact_at(&mut buffer, at)?;
    target.write_all_at(&buffer, at)?;
    Ok(length)
}
