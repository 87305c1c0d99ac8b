//! OCI's form (image-layout.md): `index.json` and `blobs/sha256/<digest>`.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use onedock_common::Digest;
use onedock_common::types::reference::Tag;

use super::member::Member;
use super::select::{self, Candidate};
use super::table::Table;
use super::upload::Archive;
use crate::error::Error;
use crate::layer::size::Size;
use crate::oci::compression::Compression;
use crate::oci::config::Config;
use crate::oci::descriptor::Descriptor;
use crate::oci::index::Index;
use crate::oci::manifest::{self, ImageManifest, Manifest};
use crate::oci::media_type::{OCI_INDEX, layer_type};
use crate::oci::platform::{Platform, runs};
use crate::repository::remote::RemoteRepository;

const NAME: &str = "index.json";
/// How deep indexes lie in an index at most.
const DEPTH: usize = 3;
/// How many images of an archive are read at most.
const IMAGES: usize = 1000;

/// The one image of an archive: for one platform, or an index with those that are there.
#[derive(Debug)]
pub(super) struct Layout {
    images: Vec<Image>,
    index: Option<(String, Bytes, Index)>,
}

#[derive(Debug)]
struct Image {
    part: Part,
    config_blob: Member,
    /// As in the manifest, base first.
    layers: Vec<Member>,
}

/// An image that was found, with nothing of it checked.
#[derive(Debug)]
struct Part {
    /// As its index names it, with its platform.
    entry: Descriptor,
    media_type: String,
    bytes: Bytes,
    manifest: ImageManifest,
    config: Config,
}

/// What an entry of `index.json` is.
#[derive(Debug)]
struct Found {
    parts: Vec<Part>,
    index: Option<(String, Bytes, Index)>,
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Reads the form; `None` when the archive has another.
pub(super) fn read(
    table: &Table,
    limit: u64,
    platforms: &[Platform],
) -> Result<Option<Layout>, Error> {
    if !table.has(NAME) {
        return Ok(None);
    }
    let refuse = |reason: String| table.refuse(reason);
    let Manifest::Index(top) = manifest::parse(&table.text(NAME)?, OCI_INDEX).map_err(refuse)?
    else {
        return Err(table.refuse(format!("its {NAME} is no index")));
    };
    let mut candidates: BTreeMap<Digest, Candidate<Found>> = BTreeMap::new();
    let mut other = None;
    for entry in top.entries.iter().filter(|entry| !entry.is_attachment()) {
        // One image under several names stands there several times.
        if let Some(same) = candidates.get_mut(&entry.digest) {
            same.names.extend(entry.names());
            continue;
        }
        match found(table, entry)? {
            Ok(found) => drop(
                candidates.insert(
                    entry.digest.clone(),
                    Candidate {
                        names: entry.names(),
                        built_for: found
                            .parts
                            .iter()
                            .map(|p| p.config.platform_text())
                            .collect(),
                        runs: found
                            .parts
                            .iter()
                            .any(|p| runs(p.entry.platform.as_ref(), platforms)),
                        image: found,
                    },
                ),
            ),
            Err(reason) => other = other.or(Some(reason)),
        }
    }
    if candidates.is_empty() {
        let nothing = || "it holds no image (its index.json names none)".to_owned();
        return Err(table.refuse(other.unwrap_or_else(nothing)));
    }
    let Found { mut parts, index } =
        select::one(candidates.into_values().collect(), platforms).map_err(refuse)?;
    parts.retain(|part| runs(part.entry.platform.as_ref(), platforms));
    let images = parts.into_iter().map(|part| image(table, part, limit));
    Ok(Some(Layout {
        images: images.collect::<Result<_, _>>()?,
        index,
    }))
}

/// What an entry of `index.json` is. The inner error is the reason why it is no image.
fn found(table: &Table, entry: &Descriptor) -> Result<Result<Found, String>, Error> {
    let (media_type, bytes) = document(table, entry)?;
    let index = match parse(table, &bytes, &media_type)? {
        Manifest::Image(manifest) => {
            if let Some(kind) = manifest.other_kind() {
                return Ok(Err(format!("it holds no container image but {kind}")));
            }
            let part = part(table, entry, media_type, bytes, manifest)?;
            return Ok(Ok(Found {
                parts: vec![part],
                index: None,
            }));
        }
        Manifest::Index(index) => index,
    };
    let mut parts = Vec::new();
    gather(table, &index, 0, &mut parts)?;
    if parts.is_empty() {
        return Ok(Err(
            "none of the images that its index names is in it".to_owned()
        ));
    }
    Ok(Ok(Found {
        parts,
        index: Some((media_type, bytes, index)),
    }))
}

/// The images of an index and of the indexes within. An engine saves the index whole and only those
/// platforms that it has pulled.
fn gather(table: &Table, index: &Index, depth: usize, into: &mut Vec<Part>) -> Result<(), Error> {
    if depth > DEPTH {
        return Err(table.refuse("it has too many indexes within its index"));
    }
    for entry in index.entries.iter().filter(|entry| !entry.is_attachment()) {
        let known = into.iter().any(|part| part.entry.digest == entry.digest);
        if known || !table.has(&blob_name(&entry.digest)) {
            continue;
        }
        if into.len() > IMAGES {
            return Err(table.refuse(format!("its index names more than {IMAGES} images")));
        }
        let (media_type, bytes) = document(table, entry)?;
        match parse(table, &bytes, &media_type)? {
            Manifest::Index(inner) => gather(table, &inner, depth + 1, into)?,
            Manifest::Image(manifest) => {
                let there = table.has(&blob_name(&manifest.config.digest));
                if there && manifest.other_kind().is_none() {
                    into.push(part(table, entry, media_type, bytes, manifest)?);
                }
            }
        }
    }
    Ok(())
}

fn parse(table: &Table, bytes: &[u8], media_type: &str) -> Result<Manifest, Error> {
    manifest::parse(bytes, media_type).map_err(|reason| table.refuse(reason))
}

fn part(
    table: &Table,
    entry: &Descriptor,
    media_type: String,
    bytes: Bytes,
    manifest: ImageManifest,
) -> Result<Part, Error> {
    let config = table.document(&blob_name(&manifest.config.digest))?;
    let config = Config::parse(&config).map_err(|reason| table.refuse(reason))?;
    let mut entry = entry.clone();
    if entry.known_platform().is_none() {
        entry.platform = config.built_for.clone();
    }
    entry.media_type.clone_from(&media_type);
    Ok(Part {
        entry,
        media_type,
        bytes,
        manifest,
        config,
    })
}

/// A manifest or index, verified.
fn document(table: &Table, entry: &Descriptor) -> Result<(String, Bytes), Error> {
    let bytes = table.document(&blob_name(&entry.digest))?;
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

fn image(table: &Table, part: Part, limit: u64) -> Result<Image, Error> {
    let manifest = &part.manifest;
    manifest
        .check(limit)
        .map_err(|reason| table.refuse(reason))?;
    // Its contradictions.
    manifest.blobs().map_err(|reason| table.refuse(reason))?;
    manifest
        .check_config(&part.config)
        .map_err(|reason| table.refuse(reason))?;
    let member = |blob: &Descriptor| {
        let (_, member) = table
            .find(&blob_name(&blob.digest))
            .ok_or_else(|| table.refuse(format!("{} is missing in it", blob.digest)))?;
        if member.size != blob.size {
            return Err(Error::Length {
                what: format!("{} in the archive", blob.digest),
                expected: blob.size,
                found: member.size,
            });
        }
        Ok(member.clone())
    };
    Ok(Image {
        config_blob: member(&manifest.config)?,
        layers: manifest
            .layers
            .iter()
            .map(member)
            .collect::<Result<_, _>>()?,
        part,
    })
}

impl Layout {
    /// Whether every layer is compressed already.
    pub(super) fn is_compressed(&self) -> bool {
        let mut layers = self.images.iter().flat_map(|image| &image.layers);
        layers.all(|layer| layer.compression != Compression::None)
    }

    /// Of several platforms the largest.
    pub(super) async fn size(&self, archive: &Archive) -> Result<Size, Error> {
        let mut largest = Size::EMPTY;
        for image in &self.images {
            let sum = archive.size_of(image.layers.iter()).await?;
            if sum.bytes >= largest.bytes {
                largest = sum;
            }
        }
        Ok(largest)
    }

    /// Pushes everything with its own digests, as far as every engine can read it.
    pub(super) async fn push(
        &self,
        archive: &Archive,
        target: &RemoteRepository,
        tag: &Tag,
    ) -> Result<Digest, Error> {
        let mut pushed = Vec::new();
        for image in &self.images {
            let bytes = image.push(archive, target).await?;
            let (entry, size) = (&image.part.entry, bytes.len() as u64);
            let tag = self.index.is_none().then_some(tag);
            let digest = target
                .put_manifest(tag, &image.part.media_type, bytes)
                .await?;
            if self.index.is_none() {
                return Ok(digest);
            }
            let new = Descriptor {
                size,
                digest,
                ..entry.clone()
            };
            pushed.push((entry.digest.clone(), new));
        }
        let Some((media_type, bytes, index)) = &self.index else {
            return Err(target.refuse("the archive holds no image".to_owned()));
        };
        let bytes = index
            .rewritten(bytes, media_type, &pushed)
            .map_err(|reason| target.refuse(reason))?;
        target
            .put_manifest(Some(tag), media_type, Bytes::from(bytes))
            .await
    }
}

impl Image {
    /// Pushes the image's blobs; returns its manifest.
    async fn push(&self, archive: &Archive, target: &RemoteRepository) -> Result<Bytes, Error> {
        let Part {
            manifest,
            media_type,
            bytes,
            config,
            ..
        } = &self.part;
        // In the archive's order: a packed archive is then read once.
        let mut order: Vec<_> = manifest
            .layers
            .iter()
            .zip(&self.layers)
            .enumerate()
            .collect();
        order.sort_by_key(|(_, (_, member))| member.offset());
        let unpacked = archive.unpacked();
        let mut pushed: HashMap<&Digest, Descriptor> = HashMap::new();
        for (at, (blob, member)) in order {
            if pushed.contains_key(&blob.digest) {
                continue;
            }
            let same = manifest.layers.iter().filter(|l| l.digest == blob.digest);
            let counted = (same.count() as u64, &unpacked);
            let new = if member.compression.is_portable() {
                archive
                    .push_blob(blob, member, Some(counted), target)
                    .await?;
                target.share(blob).await;
                blob.with_known_type(media_type, member.compression)
            } else {
                let name = blob.digest.as_str();
                let packed = archive.push_layer(name, member, counted, target).await?;
                archive.check_diff_id(name, &packed, config.diff_ids.get(at))?;
                Descriptor {
                    media_type: layer_type(media_type, Compression::Gzip).to_owned(),
                    ..packed.blob
                }
            };
            pushed.insert(&blob.digest, new);
        }
        archive
            .push_blob(&manifest.config, &self.config_blob, None, target)
            .await?;
        let layers: Vec<Descriptor> = manifest
            .layers
            .iter()
            .filter_map(|layer| pushed.get(&layer.digest).cloned())
            .collect();
        let new = manifest
            .rewritten(bytes, media_type, &layers)
            .map_err(|reason| target.refuse(reason))?;
        Ok(Bytes::from(new))
    }
}

#[cfg(test)]
mod tests;
