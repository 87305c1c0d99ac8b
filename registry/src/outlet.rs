//! A layer being packed on a thread of its own, on its way to whoever sends it.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use onedock_common::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::error::Error;

/// Two to three times as fast as the usual 6 for a tenth more bytes; below 3 the packer makes
/// what cannot shrink larger.
const LEVEL: u32 = 3;
/// How large the pieces are that are handed over, in bytes.
const PIECE: usize = 256 * 1024;
/// How much is read at once, in bytes.
const BUFFER: usize = 128 * 1024;

/// Hands pieces over to the other side of a channel; an error when nobody listens any more.
pub(crate) struct Outlet {
    sender: mpsc::Sender<Result<Bytes, Error>>,
    buffer: Vec<u8>,
    hasher: Sha256,
    size: u64,
}

impl Outlet {
    pub(crate) fn new(sender: mpsc::Sender<Result<Bytes, Error>>) -> Self {
        Self {
            sender,
            buffer: Vec::with_capacity(PIECE),
            hasher: Sha256::new(),
            size: 0,
        }
    }

    /// Hands the rest over; answers how many bytes there were, and their digest.
    pub(crate) fn finish(mut self) -> io::Result<(u64, Digest)> {
        self.hand_over()?;
        Ok((self.size, Digest::from_hasher(self.hasher)))
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        if piece.is_empty() {
            return Ok(());
        }
        self.sender
            .blocking_send(Ok(Bytes::from(piece)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.hand_over()?;
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The digest of what is written into it, which may not be more than `left` bytes.
pub(crate) struct Hashing {
    hasher: Sha256,
    left: u64,
}

impl Hashing {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            hasher: Sha256::new(),
            left: limit,
        }
    }

    pub(crate) fn finish(self) -> Digest {
        Digest::from_hasher(self.hasher)
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Packs a tar archive of at most `limit` bytes with gzip. The same bytes give the same stream.
pub(crate) fn pack_anew(
    tar: &mut dyn Read,
    outlet: Outlet,
    limit: u64,
) -> io::Result<(Outlet, Hashing)> {
    let mut plain = Hashing::new(limit);
    let mut packed = GzEncoder::new(outlet, Compression::new(LEVEL));
    for_each_piece(tar, |piece| {
        plain.write_all(piece)?;
        packed.write_all(piece)?;
        Ok(true)
    })?;
    Ok((packed.finish()?, plain))
}

/// Calls `each` with the pieces of a reader until its end; `each` ends it early with `false`.
pub(crate) fn for_each_piece(
    reader: &mut dyn Read,
    mut each: impl FnMut(&[u8]) -> io::Result<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 || !each(buffer.get(..read).unwrap_or_default())? {
            return Ok(());
        }
    }
}
