//! A layer from a registry, packed anew with gzip on its way to another. Engines before 23.0 read
//! no zstd (`docs/decisions/0020-what-every-engine-takes.md`).

use std::io::{self, Cursor, Read};

use bytes::Bytes;
use onedock_common::Digest;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::chunks::Pieces;
use crate::error::Error;
use crate::layer::chunk_writer::{Outlet, pack_anew};
use crate::layer::compression::{Compression, MAGIC};
use crate::oci::manifest::Descriptor;
use crate::repository::download::Download;

/// How many pieces wait before and behind the packer.
const WAITING: usize = 4;

type Piece = Result<Bytes, Error>;

/// A layer that was packed anew.
#[derive(Debug)]
pub(crate) struct Repacked {
    pub(crate) blob: Descriptor,
    /// The digest of its tar archive.
    pub(crate) diff: Digest,
}

/// A layer being packed anew.
pub(crate) struct RepackedLayer {
    pieces: mpsc::Receiver<Piece>,
    finished: oneshot::Receiver<(u64, Digest, Digest)>,
    feeder: JoinHandle<()>,
    image: String,
}

impl RepackedLayer {
    /// Reads the layer's download to its end, where it verifies itself. Unpacked it has at most
    /// `limit` bytes. `image` is the name for errors.
    pub(crate) fn open(mut packed: Download, image: &str, limit: u64) -> Self {
        let (feed, incoming) = mpsc::channel(WAITING);
        let (outgoing, pieces) = mpsc::channel(WAITING);
        let (done, finished) = oneshot::channel();
        let feeder = tokio::spawn(async move {
            loop {
                let piece = packed.next().await.transpose();
                let Some(piece) = piece else { return };
                let last = piece.is_err();
                if feed.send(piece).await.is_err() || last {
                    return;
                }
            }
        });
        let name = image.to_owned();
        let layer = Self {
            pieces,
            finished,
            feeder,
            image: name.clone(),
        };
        tokio::task::spawn_blocking(move || {
            let mut inlet = Inlet {
                pieces: incoming,
                piece: Bytes::new(),
                failed: None,
            };
            let packed = repack(&mut inlet, Outlet::new(outgoing.clone()), limit);
            let error = match (inlet.failed, packed) {
                (None, Ok(packed)) => return drop(done.send(packed)),
                (Some(error), _) => error,
                (None, Err(source)) => Error::Layer {
                    image: name,
                    reason: "it cannot be unpacked".to_owned(),
                    source: Some(source),
                },
            };
            drop(outgoing.blocking_send(Err(error)));
        });
        layer
    }

    /// What was sent, of this media type, when it was sent to its end.
    pub(crate) fn finished(mut self, media_type: &str) -> Result<Repacked, Error> {
        let (size, digest, diff) = self.finished.try_recv().map_err(|_| Error::Layer {
            image: self.image.clone(),
            reason: "its packing ended early".to_owned(),
            source: None,
        })?;
        Ok(Repacked {
            blob: Descriptor::new(media_type, size, digest),
            diff,
        })
    }
}

impl Drop for RepackedLayer {
    fn drop(&mut self) {
        self.feeder.abort();
    }
}

impl Pieces for RepackedLayer {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.pieces.recv().await.transpose()
    }
}

/// The size and digest of what was sent, and the digest of the archive in it.
fn repack(inlet: &mut Inlet, outlet: Outlet, limit: u64) -> io::Result<(u64, Digest, Digest)> {
    let mut magic = Vec::new();
    inlet.take(MAGIC as u64).read_to_end(&mut magic)?;
    let method = Compression::of(&magic);
    let packed = Read::chain(Cursor::new(magic), &mut *inlet);
    let (outlet, plain) = pack_anew(&mut *method.reader(packed), outlet, limit)?;
    // A stream may end before its blob does, whose last piece verifies it.
    io::copy(inlet, &mut io::sink())?;
    let (size, digest) = outlet.finish()?;
    Ok((size, digest, plain.finish()))
}

/// The pieces of a download as a reader.
struct Inlet {
    pieces: mpsc::Receiver<Piece>,
    piece: Bytes,
    /// Why there are no more pieces.
    failed: Option<Error>,
}

impl Read for Inlet {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && self.failed.is_none() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => self.failed = Some(error),
            }
        }
        if self.failed.is_some() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let length = self.piece.len().min(buffer.len());
        let part = self.piece.split_to(length);
        buffer
            .get_mut(..length)
            .unwrap_or_default()
            .copy_from_slice(&part);
        Ok(length)
    }
}
