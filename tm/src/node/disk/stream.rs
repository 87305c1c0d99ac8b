//! What is in a disk's stream: for each file a line of JSON, then its data: eight bytes of offset,
//! eight of length, that many bytes, in order, holes left out, ended by a part of length 0. The
//! snapshots come first and the disk last.
//!
//! It is no tar archive, because a reader of sparse tar entries gives out the holes as zeros: a
//! disk of a terabyte takes minutes then, whatever is in it.

use std::io::{self, BufRead, Read};

use onedock_common::SnapshotId;
use onedock_common::disk_file::Format;
use serde::{Deserialize, Serialize};

/// The longest line, in bytes.
const LINE: u64 = 1024;

/// A file in the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// Which snapshot; the disk itself has none and ends the stream.
    pub(super) snapshot: Option<SnapshotId>,
    pub(super) format: Format,
    /// The file's length, holes counted.
    pub(super) length: u64,
}

impl Head {
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let mut line = Vec::new();
        from.take(LINE).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        serde_json::from_slice(&line).map_err(io::Error::other)
    }
}

/// Eight bytes of a number.
pub(super) fn number(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}
