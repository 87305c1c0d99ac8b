//! Copying an image from registry to registry: what is there is left, what another repository
//! of the registry holds is mounted, the rest streams through. The manifest is written last.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use onedock_common::Digest;
use onedock_common::types::reference::{Reference, Tag};

use crate::chunks::Stop;
use crate::client::Resolved;
use crate::error::Error;
use crate::image::repack::RepackedLayer;
use crate::layer::compression::Compression;
use crate::oci::config;
use crate::oci::manifest::{
    CONFIG_LIMIT, Descriptor, ImageManifest, Index, Manifest, Packing, layer_type,
};
use crate::oci::platform::Platform;
use crate::repository::remote::Remote;

/// How many layers of an image are on their way at once.
const AT_ONCE: usize = 3;
/// Smaller layers are sent without asking whether they could be mounted, in bytes.
const WORTH_MOUNTING: u64 = 16 * 1024;
/// How many places of a layer are compared, and how many bytes at each, before it is mounted.
const PROOFS: usize = 4;
const PROOF_LENGTH: u64 = 1024;

/// One copy: where from, where to, and what may be taken.
pub(crate) struct Copy<'a> {
    pub(crate) image: &'a Reference,
    pub(crate) source: Remote,
    pub(crate) target: Remote,
    pub(crate) pool: Option<Remote>,
    pub(crate) platforms: &'a [Platform],
    pub(crate) limit: u64,
}

impl Copy<'_> {
    /// Copies what `resolved` names and puts it under `tag`.
    pub(crate) async fn run(&self, resolved: Resolved, tag: &Tag) -> Result<Digest, Error> {
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
        let mut kept = Vec::new();
        for entry in wanted {
            let child = self.source.manifest_of(&entry.digest).await?;
            let agree = child.bytes.len() as u64 == entry.size
                && (child.media_type == entry.media_type || entry.media_type.is_empty());
            if !agree {
                let reason = format!("its index and its manifest {} do not agree", entry.digest);
                return Err(self.refuse(reason));
            }
            let Manifest::Image(image) = self.source.parse(&child)? else {
                return Err(self.refuse("its index says another type than its manifest".to_owned()));
            };
            // The index has said the platform; the configuration need not agree on the variant.
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
            kept.push((entry.digest, new));
        }
        let bytes = index
            .rewritten(&resolved.bytes, &resolved.media_type, &kept)
            .map_err(|reason| self.refuse(reason))?;
        self.target
            .put_manifest(Some(tag), &resolved.media_type, Bytes::from(bytes))
            .await
    }

    /// Copies an image's blobs; answers its manifest, which names layers that every engine reads.
    async fn image(
        &self,
        resolved: &Resolved,
        image: &ImageManifest,
        platforms: &[Platform],
    ) -> Result<Bytes, Error> {
        image
            .check(self.limit)
            .map_err(|reason| self.refuse(reason))?;
        let bytes = self.source.small_blob(&image.config, CONFIG_LIMIT).await?;
        let config = config::parse(&bytes).map_err(|reason| self.refuse(reason))?;
        if config.diff_ids.len() != image.layers.len() {
            return Err(self.refuse(format!(
                "its configuration has {} layers and its manifest {}",
                config.diff_ids.len(),
                image.layers.len()
            )));
        }
        config::check_platform(&config, platforms)
            .map_err(|(wanted, has)| self.no_platform(wanted, has))?;
        let media_type = &resolved.media_type;
        let mut new: BTreeMap<Digest, Descriptor> = BTreeMap::new();
        let mut anew = Vec::new();
        for (layer, diff) in image.layers.iter().zip(&config.diff_ids) {
            let packing = self.packing(layer).await?;
            if packing == Packing::Zstd {
                anew.push((layer, diff));
            } else {
                let usual = ImageManifest::usual(media_type, layer, packing);
                new.insert(layer.digest.clone(), usual);
            }
        }
        self.target
            .put_small(&image.config.media_type, bytes)
            .await?;
        let blobs = image.blobs().map_err(|reason| self.refuse(reason))?;
        let as_they_are = blobs
            .into_iter()
            .filter(|blob| new.contains_key(&blob.digest));
        self.layers(as_they_are).await?;
        for (layer, diff) in anew {
            if !new.contains_key(&layer.digest) {
                let packed = self.repack(media_type, layer, diff).await?;
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

    /// How a layer is packed: its type says it, else its first bytes. [`Packing::Zstd`] stands for
    /// every method that not every engine reads.
    async fn packing(&self, layer: &Descriptor) -> Result<Packing, Error> {
        match layer.packing().map_err(|reason| self.refuse(reason))? {
            Packing::Unsaid => self.source.first_bytes(layer).await.map(packing_of),
            said => Ok(said),
        }
    }

    /// Packs a layer anew on its way.
    async fn repack(
        &self,
        media_type: &str,
        layer: &Descriptor,
        diff: &Digest,
    ) -> Result<Descriptor, Error> {
        let (name, limit) = (self.target.name(), self.limit);
        let open = || RepackedLayer::open(self.source.download(layer), &name, limit);
        let packed = self
            .target
            .put_unknown(open, |packed| {
                let packed = packed.finished(layer_type(media_type, Packing::Gzip))?;
                if packed.diff != *diff {
                    return Err(Error::Digest {
                        what: format!("the archive in layer {} of {}", layer.digest, self.image),
                        expected: diff.clone(),
                        found: packed.diff,
                    });
                }
                Ok((packed.blob.digest.clone(), packed.blob))
            })
            .await?;
        share(self.pool.as_ref(), &self.target, &packed).await;
        Ok(packed)
    }

    /// Copies blobs, a few at once.
    pub(crate) async fn layers(
        &self,
        layers: impl Iterator<Item = Descriptor>,
    ) -> Result<(), Error> {
        let stop = &Stop::default();
        stream::iter(layers)
            .map(|layer| async move {
                if stop.is_wanted() {
                    return Ok(());
                }
                let copied = self.layer(&layer, stop).await;
                if copied.is_err() {
                    stop.now();
                }
                copied
            })
            .buffer_unordered(AT_ONCE)
            // Not ended at the first error: the others give their uploads up first.
            .fold(Ok(()), async |sum, one| match (sum, one) {
                (Err(Error::Stopped) | Ok(()), one) => one,
                (sum, _) => sum,
            })
            .await
    }

    async fn layer(&self, layer: &Descriptor, stop: &Stop) -> Result<(), Error> {
        if self.target.has_blob(&layer.digest).await? {
            return Ok(());
        }
        let same = Arc::ptr_eq(&self.source.endpoint, &self.target.endpoint);
        if same && self.target.mount(&layer.digest, &self.source.path).await? {
            return Ok(());
        }
        if let Some(pool) = &self.pool
            && layer.size >= WORTH_MOUNTING
            && pool.has_blob(&layer.digest).await?
            && self.proved(pool, layer).await?
            && self.target.mount(&layer.digest, &pool.path).await?
        {
            return Ok(());
        }
        self.target
            .put_blob(layer, || self.source.download(layer).until(stop))
            .await?;
        share(self.pool.as_ref(), &self.target, layer).await;
        Ok(())
    }

    /// Whether the source really holds a layer that it names. A manifest may name any digest;
    /// without this, naming the layer of a stranger's image would be enough to get it mounted
    /// (attack 22). A few bytes at random places cost nothing and cannot be guessed.
    async fn proved(&self, pool: &Remote, layer: &Descriptor) -> Result<bool, Error> {
        for _ in 0..PROOFS {
            let start = RandomState::new().hash_one(&layer.digest) % (layer.size - PROOF_LENGTH);
            let theirs = self
                .source
                .range(&layer.digest, start, PROOF_LENGTH)
                .await?;
            let ours = pool.range(&layer.digest, start, PROOF_LENGTH).await?;
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

    fn no_platform(&self, wanted: String, has: String) -> Error {
        Error::Platform {
            image: self.image.to_string(),
            wanted,
            has,
        }
    }
}

fn packing_of(beginning: Vec<u8>) -> Packing {
    match Compression::of(&beginning) {
        Compression::None => Packing::Tar,
        Compression::Gzip => Packing::Gzip,
        Compression::Zstd | Compression::Xz | Compression::Bzip2 => Packing::Zstd,
    }
}

/// Makes a layer known in the shared repository. Without it later copies cost more, nothing else.
pub(crate) async fn share(pool: Option<&Remote>, target: &Remote, layer: &Descriptor) {
    let Some(pool) = pool.filter(|_| layer.size >= WORTH_MOUNTING) else {
        return;
    };
    match pool.mount(&layer.digest, &target.path).await {
        Ok(true) => {}
        Ok(false) => tracing::debug!(layer = %layer.digest, "the registry does not mount"),
        Err(error) => tracing::warn!(%error, layer = %layer.digest, "a layer cannot be shared"),
    }
}
