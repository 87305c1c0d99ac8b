//! Copies of images from registry to registry: layers that are there stay, those of another
//! repository of the registry are mounted, the rest streams through. The manifest is written last.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use onedock_common::Digest;
use onedock_common::types::reference::{Reference, Repository, Tag};

use crate::chunks::{Cancellation, transfer_all};
use crate::client::{Client, repository_of};
use crate::error::Error;
use crate::layer::counted::{CountedLayer, Unpacked};
use crate::layer::recompress::RecompressedLayer;
use crate::oci::compression::Compression;
use crate::oci::descriptor::Descriptor;
use crate::oci::index::Index;
use crate::oci::manifest::{ImageManifest, Manifest};
use crate::oci::media_type::layer_type;
use crate::oci::platform::Platform;
use crate::repository::remote::{RemoteRepository, Resolved};
use crate::repository::upload::WORTH_MOUNTING;

/// At how many offsets a layer is compared before it is mounted, and how many bytes at each.
const PROOFS: usize = 4;
const PROOF_LENGTH: u64 = 1024;

/// One copy: its source, its target, and what of the image is copied.
pub(crate) struct Copy<'a> {
    pub(crate) image: &'a Reference,
    pub(crate) source: RemoteRepository,
    pub(crate) target: RemoteRepository,
    pub(crate) platforms: &'a [Platform],
    pub(crate) limit: u64,
    /// What one image may unpack to, in bytes.
    pub(crate) unpacked_limit: u64,
}

/// Of how many layers of the image a blob is, and what counts them; nothing does where it is one of ours.
pub(crate) type Counted = Option<(u64, Unpacked)>;

impl Client {
    /// Copies an image from registry to registry and tags it; returns the digest of what was
    /// tagged. Of an index, an index with the entries of `platforms` is copied (all entries of
    /// real platforms when the list is empty); a single image must be built for one of them.
    pub async fn copy(
        &self,
        source: &Reference,
        target: &Repository,
        tag: &Tag,
        platforms: &[Platform],
    ) -> Result<Digest, Error> {
        let repository = repository_of(source);
        let what = format!("the copy of {source}");
        self.within(repository.registry(), &what, async |deadline| {
            let from = self.remote(&repository, deadline).await?;
            let resolved = from.resolve(source).await?;
            let copy = Copy {
                image: source,
                source: from,
                target: self.remote(target, deadline).await?,
                platforms,
                limit: self.options.image_limit,
                unpacked_limit: self.options.unpacked_limit,
            };
            copy.run(resolved, tag).await
        })
        .await
    }
}

impl Copy<'_> {
    /// Copies what `resolved` names and puts it under `tag`.
    async fn run(&self, resolved: Resolved, tag: &Tag) -> Result<Digest, Error> {
        match self.source.parse(&resolved)? {
            Manifest::Image(image) => {
                let bytes = self.image(&resolved, &image, self.platforms).await?;
                self.target
                    .put_manifest(Some(tag), &resolved.media_type, bytes)
                    .await
            }
            Manifest::Index(index) => self.index(&index, resolved, tag).await,
        }
    }

    async fn index(&self, index: &Index, resolved: Resolved, tag: &Tag) -> Result<Digest, Error> {
        let name = self.image.to_string();
        let wanted = self.source.images_of(&name, index, self.platforms).await?;
        let mut copied = Vec::new();
        for entry in wanted {
            let child = self.source.manifest_of(&entry.digest).await?;
            let agree = child.bytes.len() as u64 == entry.size
                && (child.media_type == entry.media_type || entry.media_type.is_empty());
            if !agree {
                let reason = format!("its index and its manifest {} do not agree", entry.digest);
                return Err(self.refuse(reason));
            }
            let Manifest::Image(image) = self.source.parse(&child)? else {
                return Err(
                    self.refuse("its index and its manifest give different types".to_owned())
                );
            };
            // The index names the platform; the configuration need not agree on the variant.
            let bytes = self.image(&child, &image, &[]).await?;
            let size = bytes.len() as u64;
            let digest = self
                .target
                .put_manifest(None, &child.media_type, bytes)
                .await?;
            let new = Descriptor {
                media_type: child.media_type,
                size,
                digest,
                ..entry.clone()
            };
            copied.push((entry.digest, new));
        }
        let bytes = index
            .rewritten(&resolved.bytes, &resolved.media_type, &copied)
            .map_err(|reason| self.refuse(reason))?;
        self.target
            .put_manifest(Some(tag), &resolved.media_type, Bytes::from(bytes))
            .await
    }

    /// Copies an image's blobs; returns its manifest, which names layers that every engine reads.
    async fn image(
        &self,
        resolved: &Resolved,
        image: &ImageManifest,
        platforms: &[Platform],
    ) -> Result<Bytes, Error> {
        image
            .check(self.limit)
            .map_err(|reason| self.refuse(reason))?;
        let (bytes, config) = self.source.config(image).await?;
        image
            .check_config(&config)
            .map_err(|reason| self.refuse(reason))?;
        if !config.runs(platforms) {
            let wanted: Vec<String> = platforms.iter().map(ToString::to_string).collect();
            return Err(Error::Platform {
                image: self.image.to_string(),
                wanted: wanted.join(", "),
                has: config.platform_text(),
            });
        }
        let media_type = &resolved.media_type;
        let mut new: BTreeMap<Digest, Descriptor> = BTreeMap::new();
        let mut to_recompress = Vec::new();
        let unpacked = Unpacked::new(self.image.to_string(), self.unpacked_limit);
        let mut counts: BTreeMap<Digest, u64> = BTreeMap::new();
        for (layer, diff_id) in image.layers.iter().zip(&config.diff_ids) {
            let compression = self.compression(layer).await?;
            *counts.entry(layer.digest.clone()).or_default() += 1;
            if compression.is_portable() {
                let layer = layer.with_known_type(media_type, compression);
                new.insert(layer.digest.clone(), layer);
            } else {
                to_recompress.push((layer, diff_id));
            }
        }
        self.target
            .put_small(&image.config.media_type, bytes)
            .await?;
        let blobs = image.blobs().map_err(|reason| self.refuse(reason))?;
        let unchanged = blobs
            .into_iter()
            .filter(|blob| new.contains_key(&blob.digest))
            .map(|blob| {
                let times = counts.get(&blob.digest);
                let counted = times.map(|times| (*times, unpacked.clone()));
                (blob, counted)
            });
        self.layers(unchanged).await?;
        for (layer, diff_id) in to_recompress {
            if !new.contains_key(&layer.digest) {
                let times = counts.get(&layer.digest).copied().unwrap_or(1);
                let packed = self
                    .recompress(media_type, layer, diff_id, (times, &unpacked))
                    .await?;
                new.insert(layer.digest.clone(), packed);
            }
        }
        let layers: Vec<Descriptor> = image
            .layers
            .iter()
            .filter_map(|layer| new.get(&layer.digest).cloned())
            .collect();
        let bytes = image
            .rewritten(&resolved.bytes, media_type, &layers)
            .map_err(|reason| self.refuse(reason))?;
        Ok(Bytes::from(bytes))
    }

    /// How a layer is compressed: by its type, else by its first bytes.
    async fn compression(&self, layer: &Descriptor) -> Result<Compression, Error> {
        match layer.compression().map_err(|reason| self.refuse(reason))? {
            Some(compression) => Ok(compression),
            None => {
                let beginning = self.source.first_bytes(layer).await?;
                Ok(Compression::of(&beginning))
            }
        }
    }

    /// Packs a layer with gzip on its way.
    async fn recompress(
        &self,
        media_type: &str,
        layer: &Descriptor,
        diff_id: &Digest,
        (times, unpacked): (u64, &Unpacked),
    ) -> Result<Descriptor, Error> {
        let counted = || {
            let download = self.source.download(layer);
            CountedLayer::new(download, (&layer.digest, times), unpacked)
        };
        let (name, limit) = (self.target.name(), self.limit);
        let media_type = layer_type(media_type, Compression::Gzip);
        let open = || RecompressedLayer::open(counted(), &name, limit, media_type);
        let packed = self
            .target
            .put_stream(open, |packed| {
                let packed = packed.finished()?;
                if packed.diff_id != *diff_id {
                    return Err(Error::Digest {
                        what: format!("the archive in layer {} of {}", layer.digest, self.image),
                        expected: diff_id.clone(),
                        found: packed.diff_id,
                    });
                }
                Ok((packed.blob.digest.clone(), packed.blob))
            })
            .await?;
        self.target.share(&packed).await;
        Ok(packed)
    }

    /// Copies blobs, a few at once.
    pub(crate) async fn layers(
        &self,
        layers: impl Iterator<Item = (Descriptor, Counted)>,
    ) -> Result<(), Error> {
        transfer_all(layers, |(layer, counted), cancellation| async move {
            self.layer(&layer, counted, cancellation).await
        })
        .await
        .map(drop)
    }

    async fn layer(
        &self,
        layer: &Descriptor,
        counted: Counted,
        cancellation: Cancellation,
    ) -> Result<(), Error> {
        if self.is_there(layer).await? {
            // It counts with what its measurement has given, as in the image's SIZE.
            if let Some((times, unpacked)) = counted {
                let size = self.target.layer_size_in_time(layer).await?;
                unpacked.charge(&layer.digest, size.bytes.saturating_mul(times))?;
            }
            return Ok(());
        }
        let open = || self.source.download(layer).until(cancellation.clone());
        match counted {
            None => self.target.put_blob(layer, open).await?,
            Some((times, unpacked)) => {
                let open = || CountedLayer::new(open(), (&layer.digest, times), &unpacked);
                self.target.put_blob(layer, open).await?;
            }
        }
        self.target.share(layer).await;
        Ok(())
    }

    /// Whether the target has a layer, or takes it from another repository of its registry.
    async fn is_there(&self, layer: &Descriptor) -> Result<bool, Error> {
        if self.target.has_blob(&layer.digest).await? {
            return Ok(true);
        }
        let same = Arc::ptr_eq(&self.source.endpoint, &self.target.endpoint);
        if same && self.target.mount(&layer.digest, &self.source.path).await? {
            return Ok(true);
        }
        let Some(shared) = self.target.shared() else {
            return Ok(false);
        };
        Ok(layer.size >= WORTH_MOUNTING
            && shared.has_blob(&layer.digest).await?
            && self.is_proved(&shared, layer).await?
            && self.target.mount(&layer.digest, &shared.path).await?)
    }

    /// Whether the source really has a layer that it names. A manifest may name any digest;
    /// without this, naming the layer of a stranger's image would be enough to get it mounted
    /// (attack 22). A few bytes at random offsets cost nothing and cannot be guessed.
    async fn is_proved(
        &self,
        shared: &RemoteRepository,
        layer: &Descriptor,
    ) -> Result<bool, Error> {
        for _ in 0..PROOFS {
            let start = RandomState::new().hash_one(&layer.digest) % (layer.size - PROOF_LENGTH);
            let theirs = self
                .source
                .range(&layer.digest, start, PROOF_LENGTH)
                .await?;
            let ours = shared.range(&layer.digest, start, PROOF_LENGTH).await?;
            if theirs.is_none() || theirs != ours {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn refuse(&self, reason: String) -> Error {
        Error::Image {
            image: self.image.to_string(),
            reason,
        }
    }
}
