//! Disks into a registry: artifacts whose layers are pieces of a disk's file. A piece of zeros is
//! left out, and one that the repository has is not uploaded again.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use onedock_common::Digest;
use onedock_common::state::disk_image::{DiskFormat, DiskMeta};
use onedock_common::types::reference::{Repository, Tag};
use serde_json::json;

use super::file::DiskFile;
use super::manifest::{
    DISK_CONFIG, DiskManifest, PIECE, PIECES, Piece, RESERVED_CONFIG, check_length, check_meta,
    pieces_of,
};
use crate::blocking::blocking;
use crate::chunks::{Cancellation, transfer_all};
use crate::client::Client;
use crate::error::{Error, cannot_read};
use crate::layer::packer::Packer;
use crate::oci::descriptor::Descriptor;
use crate::oci::manifest::Manifest;
use crate::oci::media_type::OCI_MANIFEST;
use crate::repository::remote::RemoteRepository;

/// In how many tags of a repository known pieces are looked up.
const TAGS: usize = 64;

impl Client {
    /// Stores a disk's file under `tag`: 64 MiB pieces, each packed with gzip (level 1), a few at
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
        self.at(target, &what, async |target| {
            let failed = cannot_read(file);
            let refuse = |reason: String| Error::Disk {
                path: file.to_owned(),
                reason,
            };
            let mut disk = DiskFile::open(file).map_err(failed)?;
            check_meta(meta).map_err(refuse)?;
            if meta.format != DiskFormat::Qcow2 && meta.size < disk.length.saturating_add(PIECE) {
                disk.extend(meta.size);
            }
            check_length(meta, disk.length).map_err(refuse)?;
            if meta.blank {
                return Err(refuse("a blank disk has no file".to_owned()));
            }
            let upload = Upload {
                file,
                disk: Arc::new(disk),
                known: known_pieces(&target, tag).await,
                target,
            };
            let disk = Arc::clone(&upload.disk);
            let offsets = blocking(move || disk.pieces()).await.map_err(failed)?;
            let offsets = offsets
                .ok_or_else(|| refuse(format!("it has content in more than {PIECES} pieces")))?;
            let pieces = transfer_all(offsets, |offset, cancellation| {
                upload.piece(offset, cancellation)
            });
            let mut pieces: Vec<Piece> = pieces.await?.into_iter().flatten().collect();
            pieces.sort_by_key(|piece| piece.offset);
            if !upload.disk.is_unchanged().map_err(failed)? {
                return Err(refuse("it was written to while it was read".to_owned()));
            }
            let (target, length) = (&upload.target, upload.disk.length);
            let config = target.put_small(DISK_CONFIG, json_of(meta)).await?;
            let bytes = DiskManifest { length, pieces }.to_bytes(&config);
            target.put_manifest(Some(tag), OCI_MANIFEST, bytes).await
        })
        .await
    }

    /// Stores a disk without content: whoever stages it makes the file, and `meta.fs` in it.
    /// `meta.blank` must be true.
    pub async fn put_blank_disk(
        &self,
        target: &Repository,
        tag: &Tag,
        meta: &DiskMeta,
    ) -> Result<Digest, Error> {
        self.at(target, "to store a blank disk", async |repository| {
            check_meta(meta).map_err(|reason| repository.refuse(reason))?;
            if !meta.blank {
                return Err(repository.refuse("a disk with content needs its file".to_owned()));
            }
            repository
                .put_artifact(tag, DISK_CONFIG, &json_of(meta))
                .await
        })
        .await
    }

    /// Reserves a SOURCE for an image whose content comes later. The same label gives the same
    /// digest, another label another one.
    pub async fn put_reserved(
        &self,
        target: &Repository,
        tag: &Tag,
        label: &str,
    ) -> Result<Digest, Error> {
        let json = json!({ "reserved": label }).to_string();
        self.at(target, "to reserve an image", async |repository| {
            repository
                .put_artifact(tag, RESERVED_CONFIG, json.as_bytes())
                .await
        })
        .await
    }
}

/// The upload of one disk.
struct Upload<'a> {
    file: &'a Path,
    disk: Arc<DiskFile>,
    target: RemoteRepository,
    known: HashMap<Digest, Descriptor>,
}

impl Upload<'_> {
    /// Uploads the piece at `offset`, unless the repository has it; `None` for zeros.
    async fn piece(&self, offset: u64, cancellation: Cancellation) -> Result<Option<Piece>, Error> {
        let disk = Arc::clone(&self.disk);
        let content = blocking(move || disk.content(offset)).await;
        let Some(content) = content.map_err(cannot_read(self.file))? else {
            return Ok(None);
        };
        let blob = match self.known.get(&content) {
            Some(blob) if self.target.has_blob(&blob.digest).await? => blob.clone(),
            _ => self.send(offset, &cancellation).await?,
        };
        Ok(Some(Piece {
            blob,
            offset,
            content,
        }))
    }

    async fn send(&self, offset: u64, cancellation: &Cancellation) -> Result<Descriptor, Error> {
        let open = || {
            let (disk, file) = (Arc::clone(&self.disk), self.file.to_owned());
            let pack = move |chunks| disk.pack(offset, chunks).map_err(cannot_read(&file));
            Packer::spawn(pack).until(cancellation.clone())
        };
        self.target
            .put_stream(open, |packer| {
                let blob = packer.finished().ok_or_else(|| Error::Disk {
                    path: self.file.to_owned(),
                    reason: "its packing ended early".to_owned(),
                })?;
                Ok((blob.digest.clone(), blob))
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

/// The pieces of disks in the repository, by their content.
async fn known_pieces(target: &RemoteRepository, tag: &Tag) -> HashMap<Digest, Descriptor> {
    let mut known = HashMap::new();
    let mut tags = target.tags().await.unwrap_or_default();
    // What the tag points at now is the most similar.
    tags.sort_by_key(|other| other != tag);
    for tag in tags.iter().take(TAGS) {
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
