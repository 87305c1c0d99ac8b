//! One more layer upon an image: what a VM changed travels as a layer, without the engine's
//! commit and push.

use bytes::Bytes;
use onedock_common::Digest;
use onedock_common::types::reference::{Repository, Source, Tag};
use serde_json::{Value, json};
use tokio::io::AsyncRead;

use crate::client::{Client, Resolved};
use crate::error::Error;
use crate::image::copy::{Copy, share};
use crate::image::time;
use crate::layer::stream::{LayerStream, PackedLayer};
use crate::oci::config;
use crate::oci::manifest::{
    CONFIG_LIMIT, DOCKER_LAYER_GZIP, DOCKER_MANIFEST, Descriptor, ImageManifest, LAYER_LIMIT,
    OCI_LAYER_GZIP,
};
use crate::oci::platform::Platform;
use crate::repository::remote::Remote;

/// An image that [`Client::append_layer`] made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The new image's manifest.
    pub digest: Digest,
    /// The new layer's packed blob in the target repository.
    pub layer: Digest,
    /// How many bytes the packed layer takes in the registry.
    pub bytes: u64,
    /// The digest of the layer's tar archive.
    pub diff_id: Digest,
}

impl Client {
    /// Puts an uncompressed tar archive as a further layer upon `base` and the new image under
    /// `tag` of `target`. `None`: the archive has no entry, nothing was pushed and no tag moved.
    ///
    /// The configuration is that of `base` (of a base for several platforms, that of this
    /// machine), with `comment` and the present time in its history; manifest and layer have the
    /// media types of the base's family. `whole`: the image has this layer alone, because it
    /// holds the whole tree. The layers of `base` are mounted where `target` is another
    /// repository of its registry, and copied where they cannot be.
    ///
    /// Reading, packing (gzip, level 1) and sending overlap; nothing is kept on disk. A stream
    /// cannot be read twice, so an upload that breaks is not begun again: the call fails with
    /// the registry's error, no tag has moved, and the caller may call again with a new stream.
    /// An error while reading `layer` is [`Error::Layer`]: an archive that was cut short must
    /// give such an error and not just end, but one that ends within an entry or without the two
    /// zero blocks is refused as well.
    pub async fn append_layer(
        &self,
        base: &Source,
        target: &Repository,
        tag: &Tag,
        layer: impl AsyncRead + Send,
        whole: bool,
        comment: &str,
    ) -> Result<Option<Appended>, Error> {
        let what = format!("a further layer for {base}");
        self.within(target.registry(), &what, async |deadline| {
            let reference = base.reference();
            let from = self.remote(base.repository(), deadline).await?;
            let (resolved, image) = self
                .image_manifest(&from, &reference, &Platform::here())
                .await?;
            let config = from.small_blob(&image.config, CONFIG_LIMIT).await?;
            let plan = Plan::of(&resolved, &image, &config, whole);
            let plan = plan.map_err(|reason| from.refuse(reason))?;
            let to = self.remote(target, deadline).await?;
            let others = plan.layers.iter().map(|layer| layer.size).sum();
            let limit = self.options.image_limit;
            let Some(stream) = LayerStream::open(to.name(), layer, others, limit).await? else {
                return Ok(None);
            };
            let pool = self.pool(&to);
            if base.repository() != target {
                let copy = Copy {
                    image: &reference,
                    source: from,
                    target: to.clone(),
                    pool: pool.clone(),
                    platforms: &[],
                    limit,
                };
                let blobs = image.blobs().map_err(|reason| to.refuse(reason))?;
                let wanted = |blob: &Descriptor| plan.layers.contains(blob);
                copy.layers(blobs.into_iter().filter(wanted)).await?;
            }
            let packed = to
                .put_once(stream, |stream| {
                    let packed = stream.finished(plan.layer_type)?;
                    Ok((packed.blob.digest.clone(), packed))
                })
                .await?;
            share(pool.as_ref(), &to, &packed.blob).await;
            let (bytes, diff_id) = (packed.blob.size, packed.diff_id.clone());
            let layer = packed.blob.digest.clone();
            let digest = plan.put(&to, tag, packed, comment).await?;
            Ok(Some(Appended {
                digest,
                layer,
                bytes,
                diff_id,
            }))
        })
        .await
    }

    /// How many layers an image has; of one for several platforms, that of this machine.
    pub async fn depth(&self, image: &Source) -> Result<usize, Error> {
        self.at(image.repository(), "to count layers", async |remote| {
            let image = self
                .image(&remote, &image.reference(), &Platform::here())
                .await?;
            Ok(image.layers.len())
        })
        .await
    }
}

/// What the new image keeps of its base.
struct Plan<'a> {
    media_type: &'a str,
    config_type: &'a str,
    layer_type: &'static str,
    config: Value,
    layers: &'a [Descriptor],
}

impl<'a> Plan<'a> {
    /// The error is the reason in words.
    fn of(
        base: &'a Resolved,
        image: &'a ImageManifest,
        config: &[u8],
        whole: bool,
    ) -> Result<Self, String> {
        let read = config::parse(config)?;
        if read.diff_ids.len() != image.layers.len() {
            return Err(format!(
                "its configuration has {} layers and its manifest {}",
                read.diff_ids.len(),
                image.layers.len()
            ));
        }
        let layers = if whole { &[] } else { image.layers.as_slice() };
        if layers.len() >= LAYER_LIMIT {
            return Err(format!(
                "it has {} layers and the engine takes at most {LAYER_LIMIT}",
                layers.len()
            ));
        }
        let damaged = |e: serde_json::Error| format!("its configuration is damaged ({e})");
        let mut config: Value = serde_json::from_slice(config).map_err(damaged)?;
        let diff_ids: &[Digest] = if whole { &[] } else { &read.diff_ids };
        config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        if whole || !config["history"].is_array() {
            config["history"] = json!([]);
        }
        Ok(Self {
            media_type: &base.media_type,
            config_type: &image.config.media_type,
            layer_type: if base.media_type == DOCKER_MANIFEST {
                DOCKER_LAYER_GZIP
            } else {
                OCI_LAYER_GZIP
            },
            config,
            layers,
        })
    }

    /// Puts the new image's configuration and manifest.
    async fn put(
        self,
        target: &Remote,
        tag: &Tag,
        packed: PackedLayer,
        comment: &str,
    ) -> Result<Digest, Error> {
        let mut config = self.config;
        // Two states of a disk may have the same content and are two images all the same.
        let now = time::now();
        if let Some(diff_ids) = config["rootfs"]["diff_ids"].as_array_mut() {
            diff_ids.push(json!(packed.diff_id));
        }
        if let Some(history) = config["history"].as_array_mut() {
            history.push(json!({"created": now, "comment": comment}));
        }
        config["created"] = json!(now);
        let config = Bytes::from(config.to_string());
        let config = target.put_small(self.config_type, config).await?;
        let layers: Vec<&Descriptor> = self.layers.iter().chain([&packed.blob]).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": config,
            "layers": layers,
        });
        let bytes = Bytes::from(manifest.to_string());
        target.put_manifest(Some(tag), self.media_type, bytes).await
    }
}
