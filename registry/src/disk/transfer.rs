//! Disks in the registry: an artifact whose layers are pieces of the disk's file. A piece of
//! zeros is left out, one that the registry has is not sent again.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use onedock_common::Digest;
use onedock_common::state::disk_image::{DiskFormat, DiskMeta};
use onedock_common::types::reference::{Repository, Source, Tag};
use serde_json::json;
use tokio::sync::mpsc;

use crate::chunks::Stop;
use crate::client::{Client, find};
use crate::disk::file::{DiskFile, NewFile, PackedPiece, Unpack, unpack};
use crate::disk::kind::{Kind, of_manifest};
use crate::disk::manifest::{
    DISK_CONFIG, DiskManifest, PIECE, PIECES, Piece, RESERVED_CONFIG, check_length, check_meta,
    piece_length, pieces_of,
};
use crate::error::Error;
use crate::oci::manifest::{Descriptor, Manifest, OCI_MANIFEST};
use crate::repository::artifact;
use crate::repository::remote::Remote;

/// How many pieces are on their way at once.
const AT_ONCE: usize = 3;
/// How many tags of a repository are looked at for pieces that need not be sent.
const LOOKED_AT: usize = 64;

impl Client {
    /// Keeps a disk's file under `tag`: 64 MiB pieces, each packed with gzip (level 1), a few at
    /// once. The file must not change meanwhile: one whose length or time changed is refused.
    /// `meta.blank` must be false. A raw disk may be up to 64 MiB larger than its file and ends with
    /// zeros then. The same content and `meta` give the same digest.
    pub async fn put_disk(
        &self,
        file: &Path,
        target: &Repository,
        tag: &Tag,
        meta: &DiskMeta,
    ) -> Result<Digest, Error> {
        let what = format!("the push of {}", file.display());
        self.within(target.registry(), &what, async |deadline| {
            let target = self.remote(target, deadline).await?;
            let failed = |source| Error::File {
                path: file.to_owned(),
                source,
            };
            let refuse = |reason: String| Error::Disk {
                path: file.to_owned(),
                reason,
            };
            let mut disk = DiskFile::open(file).map_err(failed)?;
            check_meta(meta).map_err(refuse)?;
            if meta.format != DiskFormat::Qcow2 && meta.size < disk.length.saturating_add(PIECE) {
                disk.extend(meta.size);
            }
            let disk = Arc::new(disk);
            check_length(meta, disk.length).map_err(refuse)?;
            if meta.blank {
                return Err(refuse("a blank disk has no file".to_owned()));
            }
            let opened = Arc::clone(&disk);
            let offsets = blocking(move || opened.pieces()).await.map_err(failed)?;
            let offsets = offsets
                .ok_or_else(|| refuse(format!("it has content in more than {PIECES} pieces")))?;
            let stop = &Stop::default();
            let known = &known_pieces(&target, tag).await;
            let (target, disk) = (&target, &disk);
            let pieces = stream::iter(offsets).map(|offset| async move {
                if stop.is_wanted() {
                    return Err(Error::Stopped);
                }
                let opened = Arc::clone(disk);
                let content = blocking(move || opened.content(offset)).await;
                let sent = match content.map_err(failed) {
                    Ok(None) => Ok(None),
                    Ok(Some(content)) => {
                        let open = || PackedPiece::open(disk, file, offset, stop);
                        let sent = send(target, known.get(&content), open).await;
                        sent.map(|blob| {
                            Some(Piece {
                                blob,
                                offset,
                                content,
                            })
                        })
                    }
                    Err(e) => Err(e),
                };
                if sent.is_err() {
                    stop.now();
                }
                sent
            });
            let pieces = all(pieces.buffered(AT_ONCE)).await?;
            if !disk.is_unchanged().map_err(failed)? {
                return Err(refuse("it was written to while it was read".to_owned()));
            }
            let manifest = DiskManifest {
                length: disk.length,
                pieces: pieces.into_iter().flatten().collect(),
            };
            let config = target.put_small(DISK_CONFIG, json_of(meta)).await?;
            let bytes = manifest.to_bytes(&config);
            target.put_manifest(Some(tag), OCI_MANIFEST, bytes).await
        })
        .await
    }

    /// Keeps a disk without content: whoever stages it makes the file, and `meta.fs` in it.
    /// `meta.blank` must be true.
    pub async fn put_blank_disk(
        &self,
        target: &Repository,
        tag: &Tag,
        meta: &DiskMeta,
    ) -> Result<Digest, Error> {
        self.at(target, "to keep a blank disk", async |remote| {
            check_meta(meta).map_err(|reason| remote.refuse(reason))?;
            if !meta.blank {
                return Err(remote.refuse("a disk with content needs its file".to_owned()));
            }
            artifact::put(&remote, tag, DISK_CONFIG, &json_of(meta)).await
        })
        .await
    }

    /// Keeps a place for an image whose content comes later. The same label gives the same
    /// digest, another label another one.
    pub async fn put_reserved(
        &self,
        target: &Repository,
        tag: &Tag,
        label: &str,
    ) -> Result<Digest, Error> {
        let json = json!({ "reserved": label }).to_string();
        self.at(target, "to reserve a place", async |remote| {
            artifact::put(&remote, tag, RESERVED_CONFIG, json.as_bytes()).await
        })
        .await
    }

    /// Writes a disk's file to `path`, with holes, every piece verified, synchronised to its
    /// storage. `path` is made anew (an existing file is an error) and removed when it fails:
    /// the caller gives a temporary name beside the final one and renames it. Of a blank disk
    /// no file is made: the caller makes it as the answered [`DiskMeta`] says.
    pub async fn get_disk(&self, source: &Source, path: &Path) -> Result<DiskMeta, Error> {
        let what = format!("the disk of {source}");
        let registry = source.repository().registry();
        self.within(registry, &what, async |deadline| {
            let remote = self.remote(source.repository(), deadline).await?;
            let resolved = find(&remote, &source.reference()).await?;
            let Kind::Disk(meta) = of_manifest(&remote, &resolved).await? else {
                return Err(remote.refuse("it is no disk".to_owned()));
            };
            if meta.blank {
                return Ok(meta);
            }
            let manifest = DiskManifest::parse(&resolved.bytes, &meta, self.options.image_limit);
            let manifest = manifest.map_err(|reason| remote.refuse(reason))?;
            let failed = |source| Error::Write {
                path: path.to_owned(),
                source,
            };
            let new = NewFile::make(path, manifest.length).map_err(failed)?;
            let (stop, length) = (&Stop::default(), manifest.length);
            let (new_file, remote) = (&new, &remote);
            let written = stream::iter(manifest.pieces).map(|piece| async move {
                if stop.is_wanted() {
                    return Err(Error::Stopped);
                }
                let file = new_file.handle().map_err(failed)?;
                let written = receive(remote, &piece, file, length, stop).await;
                if written.is_err() {
                    stop.now();
                }
                written?.map_err(|fault| match fault {
                    Unpack::Write(source) => failed(source),
                    Unpack::Damaged => remote.refuse(format!(
                        "its piece {} is not what it should be when unpacked",
                        piece.blob.digest
                    )),
                })
            });
            all(written.buffer_unordered(AT_ONCE)).await?;
            blocking(move || new.keep()).await.map_err(failed)?;
            Ok(meta)
        })
        .await
    }
}

fn json_of(meta: &DiskMeta) -> Bytes {
    let DiskMeta {
        format,
        size,
        fs,
        blank,
    } = meta;
    let json = json!({"format": format, "size": size, "fs": fs, "blank": blank});
    Bytes::from(json.to_string())
}

/// Runs what blocks on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(io::Error::other(e)))
}

/// All results in order, or the first real error. Not ended at it: the others give up first.
async fn all<T>(
    results: impl futures_util::Stream<Item = Result<T, Error>>,
) -> Result<Vec<T>, Error> {
    results
        .fold(Ok(Vec::new()), async |sum, one| match (sum, one) {
            (Ok(mut sum), Ok(one)) => {
                sum.push(one);
                Ok(sum)
            }
            (Ok(_), Err(e)) | (Err(Error::Stopped), Err(e)) | (Err(e), _) => Err(e),
        })
        .await
}

/// The pieces of disks that the repository holds, by their content.
async fn known_pieces(target: &Remote, tag: &Tag) -> HashMap<Digest, Descriptor> {
    let mut known = HashMap::new();
    let mut tags = target.tags().await.unwrap_or_default();
    // What the tag holds now is most like what it will hold.
    tags.sort_by_key(|other| other != tag);
    for tag in tags.iter().take(LOOKED_AT) {
        if let Ok(resolved) = target.manifest_of_tag(tag).await
            && let Ok(Manifest::Image(image)) = target.parse(&resolved)
            && image.config.media_type == DISK_CONFIG
        {
            let pieces = pieces_of(&resolved.bytes);
            known.extend(pieces.map(|piece| (piece.content, piece.blob)));
        }
    }
    known
}

/// Has one piece in the repository.
async fn send(
    target: &Remote,
    known: Option<&Descriptor>,
    open: impl Fn() -> PackedPiece,
) -> Result<Descriptor, Error> {
    if let Some(blob) = known
        && target.has_blob(&blob.digest).await?
    {
        return Ok(blob.clone());
    }
    target
        .put_unknown(open, |piece| {
            let blob = piece.finished();
            Ok((blob.digest.clone(), blob))
        })
        .await
}

/// Writes one piece into the file.
async fn receive(
    remote: &Remote,
    piece: &Piece,
    file: std::fs::File,
    length: u64,
    stop: &Stop,
) -> Result<Result<(), Unpack>, Error> {
    let (sender, packed) = mpsc::channel(4);
    let (offset, length) = (piece.offset, piece_length(piece.offset, length));
    let unpacked = tokio::task::spawn_blocking(move || unpack(packed, &file, offset, length));
    let mut download = remote.download(&piece.blob).until(stop);
    while let Some(bytes) = download.next().await? {
        if sender.send(bytes).await.is_err() {
            break;
        }
    }
    drop(sender);
    let unpacked = unpacked.await;
    Ok(unpacked.unwrap_or_else(|e| Err(Unpack::Write(io::Error::other(e)))))
}
