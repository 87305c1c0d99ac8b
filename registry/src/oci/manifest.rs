//! Manifests (the engine's schema 2, OCI image specification 1.1), read strictly. What cannot run
//! here or would make somebody fetch from elsewhere is refused with the reason.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::config::Config;
use super::descriptor::Descriptor;
use super::index::Index;
use super::media_type::{
    ManifestKind, OCI_INDEX, OCI_MANIFEST, config_type, is_attachment_layer, is_image_config,
    is_known_config,
};
use crate::error::one_line;

/// Why a manifest is refused whose types contradict each other.
const OTHER_TYPE: &str = "its manifest and the registry give different types";
/// The largest manifest, in bytes (the distribution specification expects 4 MiB of registries).
pub(crate) const MANIFEST_LIMIT: u64 = 4 << 20;
/// The largest image configuration, in bytes.
pub(crate) const CONFIG_LIMIT: u64 = 8 << 20;
/// The most layers of an image: the engine's layer store takes no more (`maxLayerDepth`).
pub(crate) const LAYER_LIMIT: usize = 125;
/// One image: its configuration and its layers, base first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageManifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    artifact_type: Option<String>,
}

/// A manifest of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "there are never many of them at once"
)]
pub(crate) enum Manifest {
    Image(ImageManifest),
    Index(Index),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawManifest {
    schema_version: u64,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

/// The media type of a manifest that came with this Content-Type: the one in the manifest first.
pub(crate) fn media_type(bytes: &[u8], content_type: Option<&str>) -> Result<String, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        schema_version: u64,
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let header = content_type.map(|t| t.split(';').next().unwrap_or(t).trim().to_ascii_lowercase());
    let head: Head = serde_json::from_slice(bytes)
        .map_err(|e| format!("its manifest is not one of schema 2 ({e})"))?;
    if head.schema_version != 2 {
        return Err(format!(
            "its manifest has schema {}, only schema 2 is supported; push it again with a current engine",
            head.schema_version
        ));
    }
    if let Some(own) = head.media_type.filter(|own| !own.is_empty()) {
        let Some(kind) = ManifestKind::of(&own) else {
            return Err(format!(
                "its manifest has the unknown type {}",
                one_line(&own)
            ));
        };
        let given = header.as_deref().and_then(ManifestKind::of);
        if given.is_some_and(|given| given != kind) {
            return Err(OTHER_TYPE.to_owned());
        }
        return Ok(own);
    }
    match header.filter(|h| ManifestKind::of(h).is_some()) {
        Some(header) => Ok(header),
        // OCI documents may leave their type out.
        None if head.manifests.is_some() => Ok(OCI_INDEX.to_owned()),
        None => Ok(OCI_MANIFEST.to_owned()),
    }
}

/// Reads a manifest whose type [`media_type`] found. The error is the reason in words.
pub(crate) fn parse(bytes: &[u8], media_type: &str) -> Result<Manifest, String> {
    let raw: RawManifest =
        serde_json::from_slice(bytes).map_err(|e| format!("its manifest is damaged ({e})"))?;
    let own = raw.media_type.filter(|own| !own.is_empty());
    if raw.schema_version != 2 || own.is_some_and(|own| own != media_type) {
        return Err(OTHER_TYPE.to_owned());
    }
    let kind = ManifestKind::of(media_type)
        .ok_or_else(|| format!("its manifest has the unknown type {media_type}"))?;
    match (kind, raw.config, raw.layers, raw.manifests) {
        // Go writes `null` for no layers and for no entries.
        (ManifestKind::Image, Some(config), layers, None) => Ok(Manifest::Image(ImageManifest {
            config,
            layers: layers.unwrap_or_default(),
            artifact_type: raw.artifact_type.filter(|t| !t.is_empty()),
        })),
        (ManifestKind::Index, None, None, entries) => {
            Index::new(entries.unwrap_or_default()).map(Manifest::Index)
        }
        _ => Err("its manifest is neither an image nor an index".to_owned()),
    }
}

/// A manifest of our own, or one like that which the image had.
pub(crate) fn manifest_of(media_type: &str, config: &Descriptor, layers: &[&Descriptor]) -> Bytes {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config,
        "layers": layers,
    });
    Bytes::from(manifest.to_string())
}

/// An image may have only as many layers as the engine takes. The error is the reason in words.
pub(crate) fn check_layers(count: usize) -> Result<(), String> {
    match count {
        0..=LAYER_LIMIT => Ok(()),
        _ => Err(format!(
            "it has {count} layers and the engine takes at most {LAYER_LIMIT}"
        )),
    }
}

/// The sum of blobs may be at most `limit` bytes. The error is the reason in words.
pub(crate) fn check_total(sizes: impl Iterator<Item = u64>, limit: u64) -> Result<(), String> {
    match sizes.fold(0, u64::saturating_add) {
        total if total <= limit => Ok(()),
        total => Err(format!(
            "it has {total} bytes and at most {limit} are supported"
        )),
    }
}

impl ImageManifest {
    /// What it is, when it is no container image: signatures and attestations have an image's
    /// configuration and layers of other types.
    pub(crate) fn other_kind(&self) -> Option<String> {
        let config = &self.config.media_type;
        let other = match &self.artifact_type {
            Some(kind) if !is_known_config(config) => Some(kind),
            _ if !is_image_config(config) => Some(config),
            _ => {
                let types = self.layers.iter().map(|layer| &layer.media_type);
                types.into_iter().find(|t| is_attachment_layer(t))
            }
        };
        other.map(|kind| one_line(kind))
    }

    /// The manifest with the types that every engine knows, and with `layers` instead of its own.
    /// Everything else in it stays; the bytes stay the same when nothing changes.
    pub(crate) fn rewritten(
        &self,
        bytes: &[u8],
        media_type: &str,
        layers: &[Descriptor],
    ) -> Result<Vec<u8>, String> {
        if is_known_config(&self.config.media_type) && *layers == self.layers {
            return Ok(bytes.to_vec());
        }
        let damaged = |e: serde_json::Error| format!("its manifest is damaged ({e})");
        let mut value: serde_json::Value = serde_json::from_slice(bytes).map_err(damaged)?;
        value["mediaType"] = media_type.into();
        if !is_known_config(&self.config.media_type) {
            value["config"]["mediaType"] = config_type(media_type).into();
        }
        let entries = value["layers"].as_array_mut().into_iter().flatten();
        for (entry, layer) in entries.zip(layers) {
            entry["mediaType"] = layer.media_type.as_str().into();
            entry["size"] = layer.size.into();
            entry["digest"] = layer.digest.as_str().into();
        }
        serde_json::to_vec(&value).map_err(damaged)
    }

    /// Refuses what cannot or must not be copied, before a byte of it is requested.
    pub(crate) fn check(&self, limit: u64) -> Result<(), String> {
        if let Some(kind) = self.other_kind() {
            return Err(format!("it is no container image but {kind}"));
        }
        if self.config.size == 0 || self.config.size > CONFIG_LIMIT {
            return Err(format!(
                "its configuration has {} bytes (1 to {CONFIG_LIMIT} are supported)",
                self.config.size
            ));
        }
        check_layers(self.layers.len())?;
        let blobs = self.layers.iter().chain([&self.config]);
        if let Some(blob) = blobs.clone().find(|blob| !blob.urls.is_empty()) {
            return Err(format!(
                "its layer {} is stored elsewhere (it names URLs), and is not fetched from there",
                blob.digest
            ));
        }
        check_total(blobs.map(|blob| blob.size), limit)?;
        self.layers
            .iter()
            .try_for_each(|layer| layer.compression().map(drop))
    }

    /// The configuration must have as many layers as the manifest. The error is the reason in words.
    pub(crate) fn check_config(&self, config: &Config) -> Result<(), String> {
        config.check(self.layers.len(), "manifest")
    }

    /// Every blob once: an image may name the same layer several times.
    pub(crate) fn blobs(&self) -> Result<Vec<Descriptor>, String> {
        let mut sizes = BTreeMap::new();
        let mut found = Vec::new();
        for blob in self.layers.iter().chain([&self.config]) {
            match sizes.insert(blob.digest.clone(), blob.size) {
                None => found.push(blob.clone()),
                Some(size) if size == blob.size => {}
                Some(_) => return Err(format!("it gives two sizes for {}", blob.digest)),
            }
        }
        Ok(found)
    }
}
