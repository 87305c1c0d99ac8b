//! Bytes of a file at an offset.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Fills `buffer` from `offset` on; `false` when the file ends before.
pub(super) fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}
