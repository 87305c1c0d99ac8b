//! Writers for threads that pack: chunks for whoever uploads them, and sizes and digests.

use std::io::{self, Write};
use std::mem;

use bytes::Bytes;
use onedock_common::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

/// The size of the chunks, in bytes.
pub(crate) const CHUNK: usize = 256 * 1024;

/// Sends what is written to it over a channel; an error when nobody receives it any more.
pub(crate) struct ChunkWriter<E> {
    sender: mpsc::Sender<Result<Bytes, E>>,
    buffer: Vec<u8>,
}

impl<E> ChunkWriter<E> {
    pub(crate) fn new(sender: mpsc::Sender<Result<Bytes, E>>) -> Self {
        Self {
            sender,
            buffer: Vec::with_capacity(CHUNK),
        }
    }
}

impl<E> Write for ChunkWriter<E> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    /// Sends the rest.
    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.sender
            .blocking_send(Ok(Bytes::from(chunk)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// Counts and hashes what is written through it, which may not be more than `limit` bytes.
pub(crate) struct HashWriter<W> {
    inner: W,
    hasher: Sha256,
    size: u64,
    limit: u64,
}

impl<W: Write> HashWriter<W> {
    pub(crate) fn new(inner: W, limit: u64) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            size: 0,
            limit,
        }
    }

    /// Flushes; the number of bytes and their digest.
    pub(crate) fn finish(mut self) -> io::Result<(u64, Digest)> {
        self.inner.flush()?;
        Ok((self.size, Digest::from_hasher(self.hasher)))
    }
}

impl<W: Write> Write for HashWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.size += bytes.len() as u64;
        if self.size > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.hasher.update(bytes);
        self.inner.write_all(bytes)?;
        Ok(bytes.len())
    }

    /// Nothing: a chunk is sent when it is full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Received = mpsc::Receiver<Result<Bytes, io::Error>>;

    fn writer() -> (HashWriter<ChunkWriter<io::Error>>, Received) {
        let (sender, chunks) = mpsc::channel(2);
        (HashWriter::new(ChunkWriter::new(sender), u64::MAX), chunks)
    }

    #[test]
    fn chunks_are_sent_as_they_fill_and_their_size_and_digest_are_known_at_the_end() {
        let (mut writer, mut chunks) = writer();
        let bytes = vec![7; CHUNK];
        writer.write_all(&bytes).unwrap();
        let first = chunks.try_recv().unwrap().unwrap();
        assert_eq!(first.len(), CHUNK);
        writer.write_all(b"rest").unwrap();
        writer.flush().unwrap();
        assert!(chunks.try_recv().is_err());
        let (size, digest) = writer.finish().unwrap();
        assert_eq!(chunks.try_recv().unwrap().unwrap(), b"rest"[..]);
        assert!(chunks.try_recv().is_err());
        assert_eq!(size, CHUNK as u64 + 4);
        assert_eq!(digest, Digest::of(&[&bytes[..], b"rest"].concat()));
    }

    #[test]
    fn without_bytes_no_chunk_is_sent() {
        let (writer, mut chunks) = writer();
        let (size, digest) = writer.finish().unwrap();
        assert_eq!((size, digest), (0, Digest::of(b"")));
        assert!(chunks.try_recv().is_err());
    }

    #[test]
    fn writing_when_nobody_receives_is_an_error() {
        let (mut writer, chunks) = writer();
        drop(chunks);
        let error = writer.write_all(&vec![7; CHUNK]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn what_is_hashed_has_a_limit() {
        let mut hashed = HashWriter::new(io::sink(), 5);
        hashed.write_all(b"12345").unwrap();
        let error = hashed.write_all(b"6").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        let mut hashed = HashWriter::new(io::sink(), 5);
        hashed.write_all(b"12345").unwrap();
        assert_eq!(hashed.finish().unwrap(), (5, Digest::of(b"12345")));
    }
}
