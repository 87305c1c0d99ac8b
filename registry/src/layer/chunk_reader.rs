//! Chunks that somebody sends, as a reader for a thread that unpacks them.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::error::Error;

/// A part of a download, or why there are no more.
pub(crate) type Chunk = Result<Bytes, Error>;

/// Reads chunks until the sender is gone.
pub(crate) struct ChunkReader {
    chunks: mpsc::Receiver<Chunk>,
    chunk: Bytes,
    /// Why there are no more chunks.
    pub(crate) failed: Option<Error>,
}

impl ChunkReader {
    pub(crate) fn new(chunks: mpsc::Receiver<Chunk>) -> Self {
        Self {
            chunks,
            chunk: Bytes::new(),
            failed: None,
        }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() && self.failed.is_none() {
            match self.chunks.blocking_recv() {
                None => return Ok(0),
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => self.failed = Some(error),
            }
        }
        if self.failed.is_some() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let length = self.chunk.len().min(buffer.len());
        let part = self.chunk.split_to(length);
        buffer
            .get_mut(..length)
            .unwrap_or_default()
            .copy_from_slice(&part);
        Ok(length)
    }
}
