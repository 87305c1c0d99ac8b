//! One more layer on top of an image: the changes of a VM become a layer, without the engine's
//! commit and push.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use onedock_common::Digest;
use onedock_common::types::date::rfc3339;
use onedock_common::types::reference::{Repository, Source, Tag};
use serde_json::{Value, json};
use tokio::io::AsyncRead;

use super::copy::Copy;
use crate::client::Client;
use crate::error::Error;
use crate::layer::packer::PackedLayer;
use crate::layer::stream::LayerStream;
use crate::oci::compression::Compression;
use crate::oci::config::Config;
use crate::oci::descriptor::Descriptor;
use crate::oci::manifest::{ImageManifest, check_layers, manifest_of};
use crate::oci::media_type::layer_type;
use crate::oci::platform::Platform;
use crate::repository::remote::{RemoteRepository, Resolved};

/// The result of [`Client::append_layer`].
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
    /// Puts an uncompressed tar archive as a further layer on top of `base`, and the new image under
    /// `tag` of `target`. `None`: the archive has no entry, nothing was pushed and no tag moved.
    ///
    /// The configuration is that of `base` (of a base for several platforms, that of this
    /// machine), with `comment` and the present time in its history; manifest and layer have the
    /// media types of the base's family. `whole`: this is the only layer of the image, because it
    /// has the whole tree. The layers of `base` are mounted where `target` is another
    /// repository of its registry, and copied where they cannot be.
    ///
    /// Reading, packing (gzip, level 1) and uploading overlap; nothing is stored on disk. A stream
    /// cannot be read twice, so an upload that breaks is not restarted: the call fails with
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
            let (json, config) = from.config(&image).await?;
            let plan = Plan::of(&resolved, &image, &json, &config, whole);
            let plan = plan.map_err(|reason| from.refuse(reason))?;
            let to = self.remote(target, deadline).await?;
            let others = plan.layers.iter().map(|layer| layer.size).sum();
            let limit = self.options.image_limit;
            let Some(stream) = LayerStream::open(to.name(), layer, others, limit).await? else {
                return Ok(None);
            };
            if base.repository() != target {
                let copy = Copy {
                    image: &reference,
                    source: from,
                    target: to.clone(),
                    platforms: &[],
                    limit,
                    unpacked_limit: u64::MAX,
                };
                let blobs = image.blobs().map_err(|reason| to.refuse(reason))?;
                let of_base = |blob: &Descriptor| plan.layers.contains(blob);
                let uncounted = blobs.into_iter().filter(of_base).map(|blob| (blob, None));
                copy.layers(uncounted).await?;
            }
            let packed = to
                .put_once(stream, |stream| {
                    let packed = stream.finished(plan.layer_type)?;
                    Ok((packed.blob.digest.clone(), packed))
                })
                .await?;
            to.share(&packed.blob).await;
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
}

/// What the new image has of its base.
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
        json: &[u8],
        config: &Config,
        whole: bool,
    ) -> Result<Self, String> {
        image.check_config(config)?;
        let (layers, diff_ids) = match whole {
            true => (&[][..], &[][..]),
            false => (image.layers.as_slice(), config.diff_ids.as_slice()),
        };
        check_layers(layers.len() + 1)?;
        let damaged = |e: serde_json::Error| format!("its configuration is damaged ({e})");
        let mut config: Value = serde_json::from_slice(json).map_err(damaged)?;
        config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        if whole || !config["history"].is_array() {
            config["history"] = json!([]);
        }
        Ok(Self {
            media_type: &base.media_type,
            config_type: &image.config.media_type,
            layer_type: layer_type(&base.media_type, Compression::Gzip),
            config,
            layers,
        })
    }

    /// Puts the new image's configuration and manifest.
    async fn put(
        self,
        target: &RemoteRepository,
        tag: &Tag,
        packed: PackedLayer,
        comment: &str,
    ) -> Result<Digest, Error> {
        let mut config = self.config;
        // Two states of a disk may have the same content and are two images all the same.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = rfc3339(now.unwrap_or_default());
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
        let bytes = manifest_of(self.media_type, &config, &layers);
        target.put_manifest(Some(tag), self.media_type, bytes).await
    }
}
