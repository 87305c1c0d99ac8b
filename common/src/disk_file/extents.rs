//! The parts of a file that hold data; what is between them is holes.

use std::fs::File;
use std::io;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// A part of a file that holds data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
}

/// The parts of the first `size` bytes that hold data, in order. A file system that knows no holes
/// answers one part, the whole file.
pub fn data_extents(file: &File, size: u64) -> io::Result<Vec<Extent>> {
    let mut extents = Vec::new();
    let mut at = 0;
    while at < size {
        let offset = match seek(file, SeekFrom::Data(at)) {
            Ok(offset) => offset,
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        if offset >= size {
            break;
        }
        let end = seek(file, SeekFrom::Hole(offset))?.min(size);
        if end <= offset {
            return Err(io::Error::other(
                "the file became shorter while it was read",
            ));
        }
        extents.push(Extent {
            offset,
            length: end - offset,
        });
        at = end;
    }
    Ok(extents)
}
