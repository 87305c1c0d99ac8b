//! OCI's form (image-layout.md): `index.json` and `blobs/sha256/<digest>`.

use std::collections::BTreeMap;

use bytes::Bytes;
use onedock_common::Digest;
use onedock_common::reference::Tag;

use super::Archive;
use super::layer;
use super::table::{Member, Table};
use crate::client::Size;
use crate::config;
use crate::copy::share;
use crate::error::Error;
use crate::manifest::{self, Descriptor, ImageManifest, Manifest, OCI_INDEX, Packing};
use crate::remote::Remote;

const NAME: &str = "index.json";

/// The one image of an archive: for one platform, or an index with those that are there.
#[derive(Debug)]
pub(super) struct Layout {
    images: Vec<Image>,
    index: Option<(String, Bytes)>,
}

#[derive(Debug)]
struct Image {
    media_type: String,
    bytes: Bytes,
    manifest: ImageManifest,
    /// Configuration and layers, each once.
    blobs: Vec<(Descriptor, Member)>,
}

fn place(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Reads the form; `None` when the archive has another.
pub(super) fn read(table: &Table, limit: u64) -> Result<Option<Layout>, Error> {
    if !table.has(NAME) {
        return Ok(None);
    }
    let refuse = |reason: String| table.refuse(reason);
    let Manifest::Index(top) =
        manifest::parse(&table.document(NAME)?, OCI_INDEX).map_err(refuse)?
    else {
        return Err(table.refuse(format!("its {NAME} is no index")));
    };
    // One image under several names stands there several times.
    let named: BTreeMap<&Digest, &Descriptor> = top
        .entries
        .iter()
        .filter(|e| e.platform.as_ref().is_none_or(|p| p.os != "unknown"))
        .map(|e| (&e.digest, e))
        .collect();
    let mut named = named.into_values();
    let (Some(one), None) = (named.next(), named.next()) else {
        return Err(table.refuse("it does not hold exactly one image; save one image alone"));
    };
    let (media_type, bytes) = document(table, one)?;
    let layout = match manifest::parse(&bytes, &media_type).map_err(refuse)? {
        Manifest::Image(manifest) => Layout {
            images: vec![image(table, media_type, bytes, manifest, limit)?],
            index: None,
        },
        Manifest::Index(index) => {
            let mut images = Vec::new();
            let mut kept = Vec::new();
            // An engine saves the index whole and only those platforms that it has pulled.
            let wanted = index
                .wanted(&[])
                .map_err(|_| table.refuse("its index names no image"))?;
            for entry in wanted.into_iter().filter(|e| table.has(&place(&e.digest))) {
                let (media_type, bytes) = document(table, entry)?;
                let Manifest::Image(found) =
                    manifest::parse(&bytes, &media_type).map_err(refuse)?
                else {
                    return Err(table.refuse("its index names another index"));
                };
                if table.has(&place(&found.config.digest)) {
                    images.push(image(table, media_type, bytes, found, limit)?);
                    kept.push(entry);
                }
            }
            if images.is_empty() {
                return Err(table.refuse("none of the images that its index names is in it"));
            }
            let bytes = index.filtered(&bytes, &kept).map_err(refuse)?;
            Layout {
                images,
                index: Some((media_type, Bytes::from(bytes))),
            }
        }
    };
    Ok(Some(layout))
}

/// A manifest or index, verified.
fn document(table: &Table, entry: &Descriptor) -> Result<(String, Bytes), Error> {
    let bytes = table.document(&place(&entry.digest))?;
    let found = Digest::of(&bytes);
    if found != entry.digest {
        return Err(Error::Digest {
            what: "a manifest in the archive".to_owned(),
            expected: entry.digest.clone(),
            found,
        });
    }
    let media_type = manifest::media_type(&bytes, Some(&entry.media_type))
        .map_err(|reason| table.refuse(reason))?;
    Ok((media_type, bytes))
}

fn image(
    table: &Table,
    media_type: String,
    bytes: Bytes,
    manifest: ImageManifest,
    limit: u64,
) -> Result<Image, Error> {
    manifest
        .check(limit)
        .map_err(|reason| table.refuse(reason))?;
    let config = table.document(&place(&manifest.config.digest))?;
    config::parse(&config).map_err(|reason| table.refuse(reason))?;
    let mut blobs = Vec::new();
    for blob in manifest.blobs().map_err(|reason| table.refuse(reason))? {
        let (_, member) = table
            .find(&place(&blob.digest))
            .ok_or_else(|| table.refuse(format!("{} is missing in it", blob.digest)))?;
        if member.size != blob.size {
            return Err(Error::Length {
                what: format!("{} in the archive", blob.digest),
                expected: blob.size,
                found: member.size,
            });
        }
        blobs.push((blob, member.clone()));
    }
    // In the archive's order: a packed archive is then read once.
    blobs.sort_by_key(|(_, member)| member.offset);
    Ok(Image {
        media_type,
        bytes,
        manifest,
        blobs,
    })
}

impl Layout {
    /// Whether every layer is packed already.
    pub(super) fn is_packed(&self) -> bool {
        let layers = || self.images.iter().flat_map(|image| &image.manifest.layers);
        layers().all(|layer| layer.packing() != Ok(Packing::Tar))
    }

    /// Of several platforms the largest.
    pub(super) async fn size(&self, archive: &Archive) -> Result<Size, Error> {
        let mut largest = Size::EMPTY;
        for image in &self.images {
            let mut sum = Size::EMPTY;
            for wanted in &image.manifest.layers {
                let found = image
                    .blobs
                    .iter()
                    .find(|(blob, _)| blob.digest == wanted.digest);
                let Some((_, member)) = found else {
                    continue;
                };
                sum = sum.plus(match wanted.packing() {
                    Ok(Packing::Zstd) => crate::size::from_zstd_header(member.size, &[]),
                    _ => layer::size(&archive.path, &archive.reader, member).await?,
                });
            }
            if sum.bytes >= largest.bytes {
                largest = sum;
            }
        }
        Ok(largest)
    }

    /// Pushes everything with its own digests.
    pub(super) async fn push(
        &self,
        archive: &Archive,
        target: &Remote,
        pool: Option<&Remote>,
        tag: &Tag,
    ) -> Result<Digest, Error> {
        for image in &self.images {
            for (blob, member) in &image.blobs {
                archive.push_blob(blob, member, target).await?;
                share(pool, target, blob).await;
            }
            let tag = self.index.is_none().then_some(tag);
            let digest = target
                .put_manifest(tag, &image.media_type, image.bytes.clone())
                .await?;
            if self.index.is_none() {
                return Ok(digest);
            }
        }
        match &self.index {
            Some((media_type, bytes)) => {
                target
                    .put_manifest(Some(tag), media_type, bytes.clone())
                    .await
            }
            None => Err(target.refuse("the archive holds no image".to_owned())),
        }
    }
}
