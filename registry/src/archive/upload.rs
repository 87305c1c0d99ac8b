//! The members of an archive on their way to a registry, and their unpacked sizes.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flate2::write::MultiGzDecoder;
use onedock_common::Digest;
use sha2::{Digest as _, Sha256};

use super::member::{Member, Reader};
use crate::blocking::blocking;
use crate::chunks::Chunks as _;
use crate::error::{Error, one_line};
use crate::layer::chunk_writer::{ChunkWriter, HashWriter};
use crate::layer::counted::{CountedLayer, Unpacked};
use crate::layer::decompress::{Bounded, decompress};
use crate::layer::packer::{PackedLayer, Packer, for_each_chunk, pack, packed_layer};
use crate::layer::size::{Size, from_gzip_trailer, from_zstd_header, known};
use crate::oci::compression::Compression;
use crate::oci::descriptor::Descriptor;
use crate::oci::media_type::DOCKER_LAYER_GZIP;
use crate::repository::remote::RemoteRepository;

/// How long compressed layers are unpacked at most to measure them; the rest is estimated. `oned`
/// waits 90 s for the size of an image.
const MEASURING: Duration = Duration::from_secs(40);

/// An archive whose table was read.
#[derive(Clone)]
pub(super) struct Archive {
    pub(super) path: PathBuf,
    pub(super) reader: Arc<Mutex<Reader>>,
    /// The most bytes of a layer, unpacked.
    pub(super) limit: u64,
    /// The most bytes of an image, unpacked.
    pub(super) unpacked_limit: u64,
}

fn damaged(path: &Path, name: &str, source: &io::Error) -> Error {
    Error::Archive {
        path: path.to_owned(),
        reason: format!("{} cannot be read ({})", one_line(name), source.kind()),
    }
}

impl Archive {
    /// Uploads a member as a layer with gzip; the image has it as often as `counted` says.
    pub(super) async fn push_layer(
        &self,
        name: &str,
        member: &Member,
        (times, unpacked): (u64, &Unpacked),
        target: &RemoteRepository,
    ) -> Result<PackedLayer, Error> {
        let limit = self.limit.min(unpacked.limit());
        let packed = target
            .put_stream(
                || self.pack(name, member, (limit, unpacked)),
                |packer| {
                    let early = || io::Error::other("the reading ended early");
                    let packed = packer.finished();
                    let packed = packed.ok_or_else(|| damaged(&self.path, name, &early()))?;
                    Ok((packed.blob.digest.clone(), packed))
                },
            )
            .await?;
        unpacked.add(&packed.blob.digest, packed.unpacked.saturating_mul(times))?;
        target.share(&packed.blob).await;
        Ok(packed)
    }

    fn pack(
        &self,
        name: &str,
        member: &Member,
        (limit, unpacked): (u64, &Unpacked),
    ) -> Packer<PackedLayer> {
        let (archive, name, member) = (self.clone(), name.to_owned(), member.clone());
        let unpacked = unpacked.clone();
        Packer::spawn(move |chunks| {
            let mut reader = archive
                .reader
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let packed = pack_member(&mut reader, &member, chunks, limit);
            packed.map_err(|e| match e.kind() {
                io::ErrorKind::FileTooLarge if limit == unpacked.limit() => unpacked.too_much(),
                _ => damaged(&archive.path, &name, &e),
            })
        })
    }

    /// Uploads a member that has a digest of its own, unless it is there; a layer is counted.
    pub(super) async fn push_blob(
        &self,
        blob: &Descriptor,
        member: &Member,
        counted: Option<(u64, &Unpacked)>,
        target: &RemoteRepository,
    ) -> Result<(), Error> {
        let there = target.has_blob(&blob.digest).await?;
        let open = || self.verify(blob, member);
        match counted {
            None if there => Ok(()),
            None => target.put_blob(blob, open).await,
            Some((times, unpacked)) if there => {
                let mut layer = CountedLayer::new(open(), (&blob.digest, times), unpacked);
                while layer.next().await?.is_some() {}
                Ok(())
            }
            Some((times, unpacked)) => {
                let counted = || CountedLayer::new(open(), (&blob.digest, times), unpacked);
                target.put_blob(blob, counted).await
            }
        }
    }

    /// The sum of an image's layers, to be counted.
    pub(super) fn unpacked(&self) -> Unpacked {
        Unpacked::new(self.path.display().to_string(), self.unpacked_limit)
    }

    /// The bytes of a member, whose digest is checked before its last chunk is given out.
    fn verify(&self, blob: &Descriptor, member: &Member) -> Packer<()> {
        let (archive, blob, member) = (self.clone(), blob.clone(), member.clone());
        Packer::spawn(move |mut chunks| {
            let mut reader = archive
                .reader
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let (mut hasher, mut left) = (Sha256::new(), member.size);
            let mut wrong = None;
            let read = for_each_chunk(&mut reader.member(&member), |chunk| {
                hasher.update(chunk);
                left -= chunk.len() as u64;
                if left == 0 {
                    let found = Digest::from_hasher(std::mem::take(&mut hasher));
                    if found != blob.digest {
                        wrong = Some(found);
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                }
                chunks.write_all(chunk)
            });
            match (read.and_then(|()| chunks.flush()), wrong) {
                (Ok(()), _) => Ok(()),
                (Err(_), Some(found)) => Err(Error::Digest {
                    what: format!("a blob in archive {}", archive.path.display()),
                    expected: blob.digest,
                    found,
                }),
                (Err(e), None) => Err(damaged(&archive.path, blob.digest.as_str(), &e)),
            }
        })
    }

    /// A layer must have the digest in its image's configuration.
    pub(super) fn check_diff_id(
        &self,
        name: &str,
        packed: &PackedLayer,
        expected: Option<&Digest>,
    ) -> Result<(), Error> {
        match expected.filter(|expected| **expected != packed.diff_id) {
            None => Ok(()),
            Some(expected) => Err(Error::Digest {
                what: format!("{} in archive {}", one_line(name), self.path.display()),
                expected: expected.clone(),
                found: packed.diff_id.clone(),
            }),
        }
    }

    /// The sum of layers' unpacked sizes.
    pub(super) async fn size_of(
        &self,
        layers: impl Iterator<Item = &Member>,
    ) -> Result<Size, Error> {
        let until = Instant::now() + MEASURING;
        let mut sum = Size::EMPTY;
        for member in layers {
            sum = sum.plus(self.layer_size(member, until).await?);
        }
        Ok(sum)
    }

    /// The unpacked size of a layer: it is unpacked, because a gzip stream may have several members
    /// and its end has the size of the last one only. One that is not measured `until` then is
    /// estimated. More than `limit` bytes are an error.
    async fn layer_size(&self, member: &Member, until: Instant) -> Result<Size, Error> {
        if member.compression == Compression::None {
            return Ok(known(member.size));
        }
        let (archive, member) = (self.clone(), member.clone());
        let size = blocking(move || {
            let mut reader = archive
                .reader
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let counted = {
                let content = decompress(member.compression, reader.member(&member));
                let mut content = Bounded::new(content, archive.limit, until);
                io::copy(&mut content, &mut io::sink())
            };
            match counted {
                Ok(bytes) => Ok(known(bytes)),
                Err(e) if e.kind() == io::ErrorKind::TimedOut => estimate(&mut reader, &member),
                Err(e) => Err(e),
            }
        });
        size.await.map_err(|e| damaged(&self.path, "a layer", &e))
    }
}

/// Packs a tar archive with gzip, which every engine reads; one that is gzip already goes as it
/// is, and what is compressed in another way is packed again. Unpacked it has at most `limit`
/// bytes.
fn pack_member(
    reader: &mut Reader,
    member: &Member,
    chunks: ChunkWriter<Error>,
    limit: u64,
) -> io::Result<PackedLayer> {
    let mut source = reader.member(member);
    if member.compression != Compression::Gzip {
        let mut tar = decompress(member.compression, source);
        return pack(&mut *tar, chunks, limit, DOCKER_LAYER_GZIP);
    }
    let mut plain = MultiGzDecoder::new(HashWriter::new(io::sink(), limit));
    let mut packed = HashWriter::new(chunks, u64::MAX);
    for_each_chunk(&mut source, |chunk| {
        plain.write_all(chunk)?;
        packed.write_all(chunk)
    })?;
    packed_layer(packed, plain.finish()?, DOCKER_LAYER_GZIP)
}

/// The size by the last bytes of a gzip stream, or by the first ones of a zstd frame.
fn estimate(reader: &mut Reader, member: &Member) -> io::Result<Size> {
    let size = match member.compression {
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
        ..size
    })
}
