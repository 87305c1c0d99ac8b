//! Layers that are packed with gzip on a thread of their own while they are uploaded.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use onedock_common::Digest;
use tokio::sync::{mpsc, oneshot};

use super::chunk_writer::{ChunkWriter, HashWriter};
use crate::chunks::{Cancellation, Chunks};
use crate::error::Error;
use crate::oci::descriptor::Descriptor;

/// Two to three times as fast as the usual 6 for a tenth more bytes; below 3 what cannot shrink
/// becomes larger.
const LEVEL: u32 = 3;
/// How many chunks wait for the upload.
const WAITING: usize = 4;
/// How much is read at once, in bytes.
const BUFFER: usize = 128 * 1024;

/// A layer that was packed.
#[derive(Debug, Clone)]
pub(crate) struct PackedLayer {
    pub(crate) blob: Descriptor,
    /// The digest of its tar archive.
    pub(crate) diff_id: Digest,
    /// The bytes of that archive.
    pub(crate) unpacked: u64,
}

/// The chunks that a thread of its own makes, and its result at their end.
pub(crate) struct Packer<T> {
    chunks: mpsc::Receiver<Result<Bytes, Error>>,
    result: oneshot::Receiver<T>,
    cancellation: Cancellation,
}

impl<T: Send + 'static> Packer<T> {
    /// Runs `pack`, whose error comes after the chunks that it has written.
    pub(crate) fn spawn(
        pack: impl FnOnce(ChunkWriter<Error>) -> Result<T, Error> + Send + 'static,
    ) -> Self {
        let (sender, chunks) = mpsc::channel(WAITING);
        let (done, result) = oneshot::channel();
        tokio::task::spawn_blocking(move || match pack(ChunkWriter::new(sender.clone())) {
            Ok(packed) => drop(done.send(packed)),
            Err(e) => drop(sender.blocking_send(Err(e))),
        });
        Self {
            chunks,
            result,
            cancellation: Cancellation::default(),
        }
    }

    /// Ends with an error when another transfer of the call has failed.
    pub(crate) fn until(mut self, cancellation: Cancellation) -> Self {
        self.cancellation = cancellation;
        self
    }

    /// The result; `None` before all chunks were taken.
    pub(crate) fn finished(mut self) -> Option<T> {
        self.result.try_recv().ok()
    }
}

impl<T: Send> Chunks for Packer<T> {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.cancellation.check()?;
        self.chunks.recv().await.transpose()
    }
}

/// Packs a tar archive of at most `limit` bytes with gzip, as a layer of this media type. The same
/// bytes give the same layer.
pub(crate) fn pack(
    tar: &mut dyn Read,
    chunks: ChunkWriter<Error>,
    limit: u64,
    media_type: &str,
) -> io::Result<PackedLayer> {
    let mut plain = HashWriter::new(io::sink(), limit);
    let packed = HashWriter::new(chunks, u64::MAX);
    let mut packed = GzEncoder::new(packed, Compression::new(LEVEL));
    for_each_chunk(tar, |chunk| {
        plain.write_all(chunk)?;
        packed.write_all(chunk)
    })?;
    packed_layer(packed.finish()?, plain, media_type)
}

/// The layer whose bytes were written to `packed`, and its tar archive to `plain`.
pub(crate) fn packed_layer(
    packed: HashWriter<ChunkWriter<Error>>,
    plain: HashWriter<io::Sink>,
    media_type: &str,
) -> io::Result<PackedLayer> {
    let (size, digest) = packed.finish()?;
    let (unpacked, diff_id) = plain.finish()?;
    Ok(PackedLayer {
        blob: Descriptor::new(media_type, size, digest),
        diff_id,
        unpacked,
    })
}

/// Calls `each` with the chunks of a reader until its end or an error.
pub(crate) fn for_each_chunk(
    reader: &mut dyn Read,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(()),
            read => each(buffer.get(..read).unwrap_or_default())?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_larger_than_the_limit_is_not_packed() {
        let pack = |limit| {
            let (sender, _chunks) = mpsc::channel(8);
            pack(&mut &b"12345"[..], ChunkWriter::new(sender), limit, "a/b")
        };
        assert_eq!(pack(5).unwrap().diff_id, Digest::of(b"12345"));
        assert_eq!(pack(4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_reader_is_left_as_soon_as_its_chunks_are_not_wanted_any_more() {
        let mut rest = &[0; 3 * BUFFER][..];
        let mut count = 0;
        let error = for_each_chunk(&mut rest, |_| {
            count += 1;
            match count {
                2 => Err(io::ErrorKind::BrokenPipe.into()),
                _ => Ok(()),
            }
        });
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!((count, rest.len()), (2, BUFFER));
    }
}
