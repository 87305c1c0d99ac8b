//! Manifests and indexes (the engine's schema 2, OCI image specification 1.1), read strictly.
//! What cannot run here or would make somebody fetch from elsewhere is refused with the reason.

use std::collections::{BTreeMap, BTreeSet};

use onedock_common::Digest;
use serde::{Deserialize, Serialize};

use crate::platform::Platform;

pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The largest manifest, in bytes (the distribution specification asks registries for 4 MiB).
pub(crate) const MANIFEST_LIMIT: u64 = 4 << 20;
/// The largest image configuration, in bytes.
pub(crate) const CONFIG_LIMIT: u64 = 8 << 20;
/// The most layers of an image: the engine's layer store takes no more (`maxLayerDepth`).
pub(crate) const LAYER_LIMIT: usize = 125;
/// The most entries of an index.
const ENTRY_LIMIT: usize = 1000;

/// One blob or manifest that another names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) size: u64,
    pub(crate) digest: Digest,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) urls: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<EntryPlatform>,
}

/// The platform of an index's entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryPlatform {
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

/// One image: its configuration and its layers, base first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageManifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// The images of several platforms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) entries: Vec<Descriptor>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Manifest {
    Image(ImageManifest),
    Index(Index),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u64,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

/// What a media type says about a manifest.
fn kind(media_type: &str) -> Option<bool> {
    match media_type {
        DOCKER_MANIFEST | OCI_MANIFEST => Some(false),
        DOCKER_INDEX | OCI_INDEX => Some(true),
        _ => None,
    }
}

/// Whether this is the configuration of a container image.
pub(crate) fn is_image_config(media_type: &str) -> bool {
    matches!(
        media_type,
        DOCKER_CONFIG | OCI_CONFIG | "application/octet-stream"
    )
}

/// The media type of a manifest that came with this Content-Type: its own word counts first.
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
            "its manifest has schema {}, only schema 2 is served; push it again with a current engine",
            head.schema_version
        ));
    }
    if let Some(own) = head.media_type {
        if kind(&own).is_none() {
            return Err(format!(
                "its manifest has the unknown type {}",
                crate::error::one_line(&own)
            ));
        }
        let said = header.as_deref().and_then(kind);
        if said.is_some() && said != kind(&own) {
            return Err("its manifest says another type than the registry".to_owned());
        }
        return Ok(own);
    }
    match header.filter(|h| kind(h).is_some()) {
        Some(header) => Ok(header),
        // OCI documents may leave their type out.
        None if head.manifests.is_some() => Ok(OCI_INDEX.to_owned()),
        None => Ok(OCI_MANIFEST.to_owned()),
    }
}

/// Reads a manifest whose type [`media_type`] told. The error is the reason in words.
pub(crate) fn parse(bytes: &[u8], media_type: &str) -> Result<Manifest, String> {
    let raw: Raw =
        serde_json::from_slice(bytes).map_err(|e| format!("its manifest is damaged ({e})"))?;
    if raw.schema_version != 2 || raw.media_type.as_deref().is_some_and(|t| t != media_type) {
        return Err("its manifest says another type than the registry".to_owned());
    }
    match (kind(media_type), raw.config, raw.layers, raw.manifests) {
        (Some(false), Some(config), Some(layers), None) => {
            Ok(Manifest::Image(ImageManifest { config, layers }))
        }
        (Some(true), None, None, Some(entries)) => {
            if entries.len() > ENTRY_LIMIT {
                return Err(format!("its index has {} entries", entries.len()));
            }
            Ok(Manifest::Index(Index { entries }))
        }
        (None, ..) => Err(format!("its manifest has the unknown type {media_type}")),
        _ => Err("its manifest is neither an image nor an index".to_owned()),
    }
}

/// How a layer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Tar,
    Gzip,
    Zstd,
}

impl Descriptor {
    /// How this layer is packed; an error for layers that are not in the registry or unknown.
    pub(crate) fn packing(&self) -> Result<Packing, String> {
        match self.media_type.as_str() {
            "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.oci.image.layer.v1.tar" => Ok(Packing::Tar),
            DOCKER_LAYER_GZIP | OCI_LAYER_GZIP => Ok(Packing::Gzip),
            "application/vnd.oci.image.layer.v1.tar+zstd" => Ok(Packing::Zstd),
            other if other.contains("foreign") || other.contains("nondistributable") => {
                Err(format!(
                    "its layer {} is kept elsewhere (foreign), which is not followed",
                    self.digest
                ))
            }
            other => Err(format!(
                "its layer {} has the unknown type {}",
                self.digest,
                crate::error::one_line(other)
            )),
        }
    }
}

impl ImageManifest {
    /// Refuses what cannot or must not be copied, before a byte of it is asked for.
    pub(crate) fn check(&self, limit: u64) -> Result<(), String> {
        if !is_image_config(&self.config.media_type) {
            return Err(format!(
                "it is no container image but {}",
                crate::error::one_line(&self.config.media_type)
            ));
        }
        if self.config.size == 0 || self.config.size > CONFIG_LIMIT {
            return Err(format!(
                "its configuration has {} bytes (1 to {CONFIG_LIMIT} are served)",
                self.config.size
            ));
        }
        if self.layers.len() > LAYER_LIMIT {
            return Err(format!(
                "it has {} layers and the engine takes at most {LAYER_LIMIT}",
                self.layers.len()
            ));
        }
        let mut total: u64 = 0;
        for layer in self.layers.iter().chain([&self.config]) {
            if !layer.urls.is_empty() {
                return Err(format!(
                    "its layer {} is kept elsewhere (it names URLs), which is not followed",
                    layer.digest
                ));
            }
            total = total.saturating_add(layer.size);
        }
        if total > limit {
            return Err(format!(
                "it has {total} bytes and at most {limit} are served"
            ));
        }
        self.layers
            .iter()
            .try_for_each(|layer| layer.packing().map(drop))
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

impl Index {
    /// The entries that are images of a real platform: attestations, nested indexes and
    /// unknown kinds are no images.
    fn images(&self) -> impl Iterator<Item = (&Descriptor, &EntryPlatform)> {
        self.entries.iter().filter_map(|entry| {
            let platform = entry.platform.as_ref()?;
            let real = kind(&entry.media_type) == Some(false)
                && !platform.os.is_empty()
                && platform.os != "unknown"
                && platform.architecture != "unknown";
            real.then_some((entry, platform))
        })
    }

    /// The images for these platforms, in the index's order; all when none is named. The
    /// error names what is missing and what is there.
    pub(crate) fn wanted(
        &self,
        platforms: &[Platform],
    ) -> Result<Vec<&Descriptor>, (String, String)> {
        let runs = |wanted: &Platform, p: &EntryPlatform| {
            wanted.runs(&p.os, &p.architecture, p.variant.as_deref())
        };
        let found: Vec<&Descriptor> = self
            .images()
            .filter(|(_, p)| platforms.is_empty() || platforms.iter().any(|w| runs(w, p)))
            .map(|(entry, _)| entry)
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let wanted: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        let has: BTreeSet<String> = self
            .images()
            .take(20)
            .map(|(_, p)| crate::error::one_line(&format!("{}/{}", p.os, p.architecture)))
            .collect();
        let or_nothing = |list: Vec<String>, nothing: &str| {
            if list.is_empty() {
                nothing.to_owned()
            } else {
                list.join(", ")
            }
        };
        Err((
            or_nothing(wanted, "any platform"),
            or_nothing(has.into_iter().collect(), "no image"),
        ))
    }

    /// The index with `kept` entries only. Everything else in it stays; the bytes stay the same
    /// when nothing is dropped.
    pub(crate) fn filtered(&self, bytes: &[u8], kept: &[&Descriptor]) -> Result<Vec<u8>, String> {
        if kept.len() == self.entries.len() {
            return Ok(bytes.to_vec());
        }
        let damaged = |e: serde_json::Error| format!("its index is damaged ({e})");
        let mut value: serde_json::Value = serde_json::from_slice(bytes).map_err(damaged)?;
        let keep: BTreeSet<&str> = kept.iter().map(|entry| entry.digest.as_str()).collect();
        if let Some(entries) = value["manifests"].as_array_mut() {
            entries.retain(|entry| entry["digest"].as_str().is_some_and(|d| keep.contains(d)));
        }
        serde_json::to_vec_pretty(&value).map_err(damaged)
    }
}

#[cfg(test)]
mod tests;
