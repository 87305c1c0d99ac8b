//! Manifests and indexes (the engine's schema 2, OCI image specification 1.1), read strictly.
//! What cannot run here or would make somebody fetch from elsewhere is refused with the reason.

use std::collections::BTreeMap;

use onedock_common::Digest;
use serde::{Deserialize, Serialize};

pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
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

const DOCKER_LAYER_TAR: &str = "application/vnd.docker.image.rootfs.diff.tar";
const OCI_LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// By this annotation BuildKit says that an entry of an index is no image but about one.
const ATTACHMENT: &str = "vnd.docker.reference.type";

/// One blob or manifest that another names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    /// Empty where some builders leave it out.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) media_type: String,
    pub(crate) size: u64,
    pub(crate) digest: Digest,
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) urls: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<EntryPlatform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, Option<String>>>,
}

/// The platform of an index's entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryPlatform {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) os: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

/// `null` where Go's encoder writes it for what is empty.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// One image: its configuration and its layers, base first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageManifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    artifact_type: Option<String>,
}

/// The images of several platforms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) entries: Vec<Descriptor>,
}

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
struct Raw {
    schema_version: u64,
    media_type: Option<String>,
    artifact_type: Option<String>,
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

/// Whether this is the configuration of a container image. The last four are what registries and
/// builders of the past wrote, which the engine takes as well (moby, `distribution/registry.go`).
pub(crate) fn is_image_config(media_type: &str) -> bool {
    let old = [
        "application/octet-stream",
        "application/json",
        "text/html",
        "",
    ];
    is_usual_config(media_type) || old.contains(&media_type)
}

fn is_usual_config(media_type: &str) -> bool {
    matches!(media_type, DOCKER_CONFIG | OCI_CONFIG)
}

/// Whether every engine knows the layer by this type. containerd goes by it, the older image
/// stores of the engine by the first bytes.
fn is_usual_layer(media_type: &str) -> bool {
    matches!(
        media_type,
        DOCKER_LAYER_TAR | DOCKER_LAYER_GZIP | OCI_LAYER_TAR | OCI_LAYER_GZIP | OCI_LAYER_ZSTD
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
    if let Some(own) = head.media_type.filter(|own| !own.is_empty()) {
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
    if raw.schema_version != 2
        || raw
            .media_type
            .as_deref()
            .is_some_and(|t| !t.is_empty() && t != media_type)
    {
        return Err("its manifest says another type than the registry".to_owned());
    }
    let artifact_type = raw.artifact_type.filter(|t| !t.is_empty());
    match (kind(media_type), raw.config, raw.layers, raw.manifests) {
        // Go writes `null` for no layers and for no entries.
        (Some(false), Some(config), layers, None) => Ok(Manifest::Image(ImageManifest {
            config,
            layers: layers.unwrap_or_default(),
            artifact_type,
        })),
        (Some(true), None, None, entries) => {
            let entries = entries.unwrap_or_default();
            if entries.len() > ENTRY_LIMIT {
                return Err(format!("its index has {} entries", entries.len()));
            }
            Ok(Manifest::Index(Index { entries }))
        }
        (None, ..) => Err(format!("its manifest has the unknown type {media_type}")),
        _ => Err("its manifest is neither an image nor an index".to_owned()),
    }
}

/// How a layer is packed, by its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Tar,
    Gzip,
    Zstd,
    /// Its first bytes tell.
    Unsaid,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, size: u64, digest: Digest) -> Self {
        Self {
            media_type: media_type.to_owned(),
            size,
            digest,
            urls: Vec::new(),
            platform: None,
            artifact_type: None,
            annotations: None,
        }
    }

    /// How this layer is packed; an error for layers that are not in the registry or unknown.
    pub(crate) fn packing(&self) -> Result<Packing, String> {
        match self.media_type.as_str() {
            DOCKER_LAYER_TAR | OCI_LAYER_TAR | "application/x-tar" | "application/tar" => {
                Ok(Packing::Tar)
            }
            DOCKER_LAYER_GZIP | OCI_LAYER_GZIP | "application/gzip" | "application/x-gzip" => {
                Ok(Packing::Gzip)
            }
            OCI_LAYER_ZSTD
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
            | "application/zstd" => Ok(Packing::Zstd),
            "" | "application/octet-stream" => Ok(Packing::Unsaid),
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

    /// Whether an index's entry is no image but about one: an attestation, a signature, a bill of
    /// materials.
    pub(crate) fn is_attachment(&self) -> bool {
        let annotated = |all: &BTreeMap<String, Option<String>>| all.contains_key(ATTACHMENT);
        let unknown = |p: &EntryPlatform| p.os == "unknown" || p.architecture == "unknown";
        self.annotations.as_ref().is_some_and(annotated)
            || self.artifact_type.as_ref().is_some_and(|t| !t.is_empty())
            || self.platform.as_ref().is_some_and(unknown)
    }

    /// The name that an OCI layout gives an entry (image-layout.md), or that containerd does.
    pub(crate) fn names(&self) -> Vec<String> {
        let keys = [
            "io.containerd.image.name",
            "org.opencontainers.image.ref.name",
        ];
        let all = self.annotations.as_ref();
        let name = |key: &&str| all.and_then(|all| all.get(*key)).cloned().flatten();
        keys.iter().find_map(name).into_iter().collect()
    }

    /// The platform that an index's entry says.
    pub(crate) fn said_platform(&self) -> Option<&EntryPlatform> {
        let said = |p: &&EntryPlatform| !p.os.is_empty() && !p.architecture.is_empty();
        self.platform.as_ref().filter(said)
    }

    /// Whether an index's entry may be another index; `None`: it does not say what it is.
    pub(crate) fn is_index(&self) -> Option<bool> {
        kind(&self.media_type)
    }
}

/// The type of a configuration in a manifest of this type.
pub(crate) fn config_type(manifest: &str) -> &'static str {
    match manifest {
        DOCKER_MANIFEST => DOCKER_CONFIG,
        _ => OCI_CONFIG,
    }
}

/// The type of a layer in a manifest of this type.
pub(crate) fn layer_type(manifest: &str, packing: Packing) -> &'static str {
    match (manifest, packing) {
        (DOCKER_MANIFEST, Packing::Tar) => DOCKER_LAYER_TAR,
        (DOCKER_MANIFEST, _) => DOCKER_LAYER_GZIP,
        (_, Packing::Tar) => OCI_LAYER_TAR,
        _ => OCI_LAYER_GZIP,
    }
}

impl ImageManifest {
    /// What it is, when it is no container image: signatures and attestations have an image's
    /// configuration and layers of other types.
    pub(crate) fn other_kind(&self) -> Option<String> {
        let config = &self.config.media_type;
        let other = match &self.artifact_type {
            Some(kind) if !is_usual_config(config) => Some(kind),
            _ if !is_image_config(config) => Some(config),
            _ => {
                let types = self.layers.iter().map(|layer| &layer.media_type);
                types.into_iter().find(|t| is_about(t))
            }
        };
        other.map(|kind| crate::error::one_line(kind))
    }

    /// The manifest with the types that every engine knows, and with `layers` in place of its own.
    /// Everything else in it stays; the bytes stay the same when nothing changes.
    pub(crate) fn rewritten(
        &self,
        bytes: &[u8],
        media_type: &str,
        layers: &[Descriptor],
    ) -> Result<Vec<u8>, String> {
        if is_usual_config(&self.config.media_type) && *layers == self.layers {
            return Ok(bytes.to_vec());
        }
        let damaged = |e: serde_json::Error| format!("its manifest is damaged ({e})");
        let mut value: serde_json::Value = serde_json::from_slice(bytes).map_err(damaged)?;
        value["mediaType"] = media_type.into();
        if !is_usual_config(&self.config.media_type) {
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

    /// The layer's descriptor with a type that every engine knows.
    pub(crate) fn usual(media_type: &str, layer: &Descriptor, packing: Packing) -> Descriptor {
        if is_usual_layer(&layer.media_type) && layer.packing() == Ok(packing) {
            return layer.clone();
        }
        Descriptor {
            media_type: layer_type(media_type, packing).to_owned(),
            ..layer.clone()
        }
    }

    /// Refuses what cannot or must not be copied, before a byte of it is asked for.
    pub(crate) fn check(&self, limit: u64) -> Result<(), String> {
        if let Some(kind) = self.other_kind() {
            return Err(format!("it is no container image but {kind}"));
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

/// Whether the type of a layer says that it is no part of a file system: in-toto statements, cosign's
/// signatures, bills of materials.
fn is_about(layer: &str) -> bool {
    layer.ends_with("+json") || layer.contains("in-toto") || layer.contains("cosign")
}

impl Index {
    /// The index with `kept` entries only, each with the digest that it had here and what stands in
    /// its place. Everything else in it stays; the bytes stay the same when nothing changes.
    pub(crate) fn rewritten(
        &self,
        bytes: &[u8],
        media_type: &str,
        kept: &[(Digest, Descriptor)],
    ) -> Result<Vec<u8>, String> {
        let same = |(own, (digest, entry)): (&Descriptor, &(Digest, Descriptor))| {
            own == entry && own.digest == *digest
        };
        if kept.len() == self.entries.len() && self.entries.iter().zip(kept).all(same) {
            return Ok(bytes.to_vec());
        }
        let damaged = |e: serde_json::Error| format!("its index is damaged ({e})");
        let mut value: serde_json::Value = serde_json::from_slice(bytes).map_err(damaged)?;
        let old = value["manifests"].as_array().cloned().unwrap_or_default();
        let mut entries = Vec::new();
        for (digest, entry) in kept {
            let old = old.iter().find(|old| old["digest"] == digest.as_str());
            let mut new = serde_json::to_value(entry).map_err(damaged)?;
            if let (Some(old), Some(new)) =
                (old.and_then(|old| old.as_object()), new.as_object_mut())
            {
                for (key, value) in old {
                    new.entry(key.as_str()).or_insert_with(|| value.clone());
                }
                // What the platform says beyond what is read here.
                let read = |key: &str| matches!(key, "os" | "architecture" | "variant");
                let more = old.get("platform").and_then(|p| p.as_object());
                for (key, value) in more.into_iter().flatten().filter(|(key, _)| !read(key)) {
                    new["platform"][key.as_str()] = value.clone();
                }
            }
            entries.push(new);
        }
        value["manifests"] = entries.into();
        value["mediaType"] = media_type.into();
        serde_json::to_vec_pretty(&value).map_err(damaged)
    }
}

#[cfg(test)]
mod tests;
