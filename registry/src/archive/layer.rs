//! A member's content on its way to the registry: read and packed on a thread of its own,
//! handed over piece by piece.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzDecoder, GzEncoder};
use onedock_common::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::packed_layer;
use super::table::{Member, Reader};
use crate::client::Size;
use crate::error::{Error, one_line};
use crate::manifest::Descriptor;
use crate::pieces::Pieces;
use crate::size::from_gzip_trailer;

const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Two to three times as fast as the usual 6 for a tenth more bytes; below 3 the packer makes
/// what cannot shrink larger.
const LEVEL: u32 = 3;
/// How large the pieces are that are handed over, in bytes.
const PIECE: usize = 256 * 1024;

/// A layer that was packed on the way.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    pub(super) blob: Descriptor,
    /// The digest of its tar archive.
    pub(super) diff: Digest,
}

fn damaged(path: &Path, name: &str, source: &io::Error) -> Error {
    Error::Archive {
        path: path.to_owned(),
        reason: format!("{} cannot be read ({})", one_line(name), source.kind()),
    }
}

/// Hands pieces over to the other side of a channel; an error when nobody listens any more.
struct Outlet {
    sender: mpsc::Sender<Result<Bytes, Error>>,
    buffer: Vec<u8>,
    hasher: Sha256,
    size: u64,
}

impl Outlet {
    fn new(sender: mpsc::Sender<Result<Bytes, Error>>) -> Self {
        Self {
            sender,
            buffer: Vec::with_capacity(PIECE),
            hasher: Sha256::new(),
            size: 0,
        }
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

/// Counts what is written into it.
struct Hashing(Sha256);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A layer whose packed digest is known at its end.
pub(super) struct PackedLayer {
    pieces: mpsc::Receiver<Result<Bytes, Error>>,
    finished: oneshot::Receiver<Packed>,
    name: String,
    archive: std::path::PathBuf,
}

impl PackedLayer {
    pub(super) fn open(
        path: &Path,
        reader: Arc<Mutex<Reader>>,
        name: &str,
        member: &Member,
    ) -> Self {
        let (sender, pieces) = mpsc::channel(2);
        let (told, finished) = oneshot::channel();
        let (path, name, member) = (path.to_owned(), name.to_owned(), member.clone());
        let layer = Self {
            pieces,
            finished,
            name: name.clone(),
            archive: path.clone(),
        };
        tokio::task::spawn_blocking(move || {
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            let errors = sender.clone();
            match pack(&mut reader, &member, Outlet::new(sender)) {
                Ok(packed) => drop(told.send(packed)),
                Err(e) => drop(errors.blocking_send(Err(damaged(&path, &name, &e)))),
            }
        });
        layer
    }

    /// What was sent, when it was sent to its end.
    pub(super) fn finished(mut self) -> Result<Packed, Error> {
        self.finished.try_recv().map_err(|_| {
            let early = io::Error::other("the reading ended early");
            damaged(&self.archive, &self.name, &early)
        })
    }
}

/// Packs a tar archive; one that is packed with gzip already goes as it is.
fn pack(reader: &mut Reader, member: &Member, mut outlet: Outlet) -> io::Result<Packed> {
    let (mut outlet, diff) = if member.magic.starts_with(&GZIP) {
        let mut plain = GzDecoder::new(Hashing(Sha256::new()));
        reader.read(member.offset, member.size, |piece| {
            plain.write_all(piece)?;
            outlet.write_all(piece)?;
            Ok(true)
        })?;
        (outlet, plain.finish()?.0)
    } else {
        let mut hasher = Sha256::new();
        let mut packed = GzEncoder::new(outlet, Compression::new(LEVEL));
        reader.read(member.offset, member.size, |piece| {
            hasher.update(piece);
            packed.write_all(piece)?;
            Ok(true)
        })?;
        (packed.finish()?, hasher)
    };
    outlet.hand_over()?;
    Ok(Packed {
        blob: packed_layer(outlet.size, Digest::from_hasher(outlet.hasher)),
        diff: Digest::from_hasher(diff),
    })
}

impl Pieces for PackedLayer {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.pieces.recv().await.transpose()
    }
}

/// A member that has a digest of its own, checked before its last piece is handed over.
pub(super) struct StoredLayer {
    pieces: mpsc::Receiver<Result<Bytes, Error>>,
}

impl StoredLayer {
    pub(super) fn open(
        path: &Path,
        reader: Arc<Mutex<Reader>>,
        blob: &Descriptor,
        member: &Member,
    ) -> Self {
        let (sender, pieces) = mpsc::channel(2);
        let (path, blob, member) = (path.to_owned(), blob.clone(), member.clone());
        tokio::task::spawn_blocking(move || {
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut hasher, mut left) = (Sha256::new(), member.size);
            let mut wrong = None;
            let read = reader.read(member.offset, member.size, |piece| {
                hasher.update(piece);
                left -= piece.len() as u64;
                if left == 0 {
                    let found = Digest::from_hasher(std::mem::take(&mut hasher));
                    if found != blob.digest {
                        wrong = Some(found);
                        return Ok(false);
                    }
                }
                Ok(sender
                    .blocking_send(Ok(Bytes::copy_from_slice(piece)))
                    .is_ok())
            });
            let error = match (read, wrong) {
                (Err(e), _) => damaged(&path, blob.digest.as_str(), &e),
                (Ok(()), Some(found)) => Error::Digest {
                    what: format!("a blob in archive {}", path.display()),
                    expected: blob.digest,
                    found,
                },
                (Ok(()), None) => return,
            };
            drop(sender.blocking_send(Err(error)));
        });
        Self { pieces }
    }
}

impl Pieces for StoredLayer {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.pieces.recv().await.transpose()
    }
}

/// The unpacked size of a layer in the archive.
pub(super) async fn size(
    path: &Path,
    reader: &Arc<Mutex<Reader>>,
    member: &Member,
) -> Result<Size, Error> {
    if !member.magic.starts_with(&GZIP) {
        let bytes = member.size;
        return Ok(Size { bytes, exact: true });
    }
    let (reader, member, path) = (Arc::clone(reader), member.clone(), path.to_owned());
    let read = tokio::task::spawn_blocking(move || {
        let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut trailer = Vec::new();
        let start = member.offset + member.size.saturating_sub(4);
        reader.read(start, member.size.min(4), |piece| {
            trailer.extend_from_slice(piece);
            Ok(true)
        })?;
        Ok(from_gzip_trailer(member.size, trailer.try_into().ok()))
    });
    let read = read.await.unwrap_or_else(|e| Err(io::Error::other(e)));
    read.map_err(|e| damaged(&path, "a layer", &e))
}
