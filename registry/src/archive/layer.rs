//! A member's content on its way to the registry: read and packed on a thread of its own,
//! handed over piece by piece.

use std::io::{self, Read as _, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use onedock_common::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::member::{Member, Reader};
use crate::chunks::Pieces;
use crate::client::Size;
use crate::error::{Error, one_line};
use crate::image::size::{from_gzip_trailer, from_zstd_header};
use crate::layer::chunk_writer::{Hashing, Outlet, for_each_piece, pack_anew};
use crate::layer::compression::{Bounded, Compression};
use crate::oci::manifest::{DOCKER_LAYER_GZIP, Descriptor};

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
        limit: u64,
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
            match pack(&mut reader, &member, Outlet::new(sender), limit) {
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

/// Packs a tar archive with gzip, which every engine reads; one that is packed with gzip already
/// goes as it is, and what is packed in another way is packed anew. Unpacked it has at most
/// `limit` bytes.
fn pack(
    reader: &mut Reader,
    member: &Member,
    mut outlet: Outlet,
    limit: u64,
) -> io::Result<Packed> {
    let mut source = reader.member(member);
    let (outlet, plain) = if member.compression == Compression::Gzip {
        let mut plain = MultiGzDecoder::new(Hashing::new(limit));
        for_each_piece(&mut source, |piece| {
            plain.write_all(piece)?;
            outlet.write_all(piece)?;
            Ok(true)
        })?;
        (outlet, plain.finish()?)
    } else {
        pack_anew(&mut *member.compression.reader(source), outlet, limit)?
    };
    let (size, digest) = outlet.finish()?;
    Ok(Packed {
        blob: Descriptor::new(DOCKER_LAYER_GZIP, size, digest),
        diff: plain.finish(),
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
            let read = for_each_piece(&mut reader.member(&member), |piece| {
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

/// The unpacked size of a layer in the archive: it is unpacked, because a gzip stream may have
/// several members and tells the size of the last one only. One that is not measured `until` then is
/// estimated. More than `limit` bytes are an error.
pub(super) async fn size(
    path: &Path,
    reader: &Arc<Mutex<Reader>>,
    member: &Member,
    limit: u64,
    until: Instant,
) -> Result<Size, Error> {
    if member.compression == Compression::None {
        let bytes = member.size;
        return Ok(Size { bytes, exact: true });
    }
    let (reader, member, path) = (Arc::clone(reader), member.clone(), path.to_owned());
    let read = tokio::task::spawn_blocking(move || {
        let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = {
            let content = member.compression.reader(reader.member(&member));
            io::copy(&mut Bounded::new(content, limit, until), &mut io::sink())
        };
        match counted {
            Ok(bytes) => Ok(Size { bytes, exact: true }),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => estimate(&mut reader, &member),
            Err(e) => Err(e),
        }
    });
    let read = read.await.unwrap_or_else(|e| Err(io::Error::other(e)));
    read.map_err(|e| damaged(&path, "a layer", &e))
}

/// The size as the last bytes of a gzip stream tell it, or the first ones of a zstd frame.
fn estimate(reader: &mut Reader, member: &Member) -> io::Result<Size> {
    let told = match member.compression {
        Compression::Gzip => {
            let mut trailer = [0; 4];
            let start = member.size.saturating_sub(4);
            let mut rest = reader.member(member);
            io::copy(&mut (&mut rest).take(start), &mut io::sink())?;
            rest.read_exact(&mut trailer)?;
            from_gzip_trailer(member.size, Some(trailer))
        }
        _ => from_zstd_header(member.size, &[]),
    };
    Ok(Size {
        exact: false,
        ..told
    })
}
