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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlet_hands_pieces_over_as_they_fill_and_tells_size_and_digest() {
        let (sender, mut pieces) = mpsc::channel(2);
        let mut outlet = Outlet::new(sender);
        let bytes = vec![7; PIECE];
        outlet.write_all(&bytes).unwrap();
        let first = pieces.try_recv().unwrap().unwrap();
        assert_eq!(first.len(), PIECE);
        outlet.write_all(b"rest").unwrap();
        assert!(pieces.try_recv().is_err());
        let (size, digest) = outlet.finish().unwrap();
        assert_eq!(pieces.try_recv().unwrap().unwrap(), b"rest"[..]);
        assert!(pieces.try_recv().is_err());
        assert_eq!(size, PIECE as u64 + 4);
        assert_eq!(digest, Digest::of(&[&bytes[..], b"rest"].concat()));
    }

    #[test]
    fn an_outlet_without_bytes_hands_nothing_over() {
        let (sender, mut pieces) = mpsc::channel(2);
        let (size, digest) = Outlet::new(sender).finish().unwrap();
        assert_eq!((size, digest), (0, Digest::of(b"")));
        assert!(pieces.try_recv().is_err());
    }

    #[test]
    fn writing_into_an_outlet_to_which_nobody_listens_is_an_error() {
        let (sender, pieces) = mpsc::channel(2);
        let mut outlet = Outlet::new(sender);
        drop(pieces);
        let error = outlet.write_all(&vec![0; PIECE]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn an_archive_larger_than_the_limit_is_not_packed() {
        let pack = |limit| {
            let (sender, _pieces) = mpsc::channel(8);
            let packed = pack_anew(&mut &b"12345"[..], Outlet::new(sender), limit);
            packed.map(|(_, plain)| plain.finish())
        };
        assert_eq!(pack(5).unwrap(), Digest::of(b"12345"));
        assert_eq!(pack(4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_reader_is_left_as_soon_as_its_pieces_are_not_wanted_any_more() {
        let mut rest = &[0; 3 * BUFFER][..];
        let mut seen = 0;
        for_each_piece(&mut rest, |_| {
            seen += 1;
            Ok(seen < 2)
        })
        .unwrap();
        assert_eq!((seen, rest.len()), (2, BUFFER));
    }
}
