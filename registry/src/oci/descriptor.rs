//! Descriptors: how a manifest or an index names a blob or another manifest (descriptor.md).

use std::collections::BTreeMap;

use onedock_common::Digest;
use serde::{Deserialize, Serialize};

use super::compression::Compression;
use super::media_type::{
    DOCKER_LAYER_GZIP, DOCKER_LAYER_TAR, ManifestKind, OCI_LAYER_GZIP, OCI_LAYER_TAR,
    OCI_LAYER_ZSTD, is_known_layer, layer_type,
};
use super::platform::{EntryPlatform, or_default};
use crate::error::one_line;

/// BuildKit's annotation of an index entry that is an attachment of an image.
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

impl Descriptor {
    /// One without anything else.
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

    /// How this layer is compressed by its type; `None` when the type does not say it. An error for
    /// layers that are not in the registry or unknown.
    pub(crate) fn compression(&self) -> Result<Option<Compression>, String> {
        let digest = &self.digest;
        match self.media_type.as_str() {
            DOCKER_LAYER_TAR | OCI_LAYER_TAR | "application/x-tar" | "application/tar" => {
                Ok(Some(Compression::None))
            }
            DOCKER_LAYER_GZIP | OCI_LAYER_GZIP | "application/gzip" | "application/x-gzip" => {
                Ok(Some(Compression::Gzip))
            }
            OCI_LAYER_ZSTD
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
            | "application/zstd" => Ok(Some(Compression::Zstd)),
            "" | "application/octet-stream" => Ok(None),
            other if other.contains("foreign") || other.contains("nondistributable") => {
                Err(format!(
                    "its layer {digest} is stored elsewhere (foreign), and is not fetched from there"
                ))
            }
            other => Err(format!(
                "its layer {digest} has the unknown type {}",
                one_line(other)
            )),
        }
    }

    /// The same layer with a type that every engine knows, in a manifest of this type.
    pub(crate) fn with_known_type(&self, manifest: &str, compression: Compression) -> Self {
        if is_known_layer(&self.media_type) && self.compression() == Ok(Some(compression)) {
            return self.clone();
        }
        Self {
            media_type: layer_type(manifest, compression).to_owned(),
            ..self.clone()
        }
    }

    /// Whether an index's entry is not an image but an attachment of one: an attestation, a
    /// signature, a bill of materials.
    pub(crate) fn is_attachment(&self) -> bool {
        let annotated = |all: &BTreeMap<String, Option<String>>| all.contains_key(ATTACHMENT);
        let unknown = |p: &EntryPlatform| p.os == "unknown" || p.architecture == "unknown";
        self.annotations.as_ref().is_some_and(annotated)
            || self.artifact_type.as_ref().is_some_and(|t| !t.is_empty())
            || self.platform.as_ref().is_some_and(unknown)
    }

    /// The name of an entry of an OCI layout (image-layout.md), or that of containerd.
    pub(crate) fn names(&self) -> Vec<String> {
        let keys = [
            "io.containerd.image.name",
            "org.opencontainers.image.ref.name",
        ];
        let all = self.annotations.as_ref();
        let value = |key: &&str| all.and_then(|all| all.get(*key)).cloned().flatten();
        keys.iter().find_map(value).into_iter().collect()
    }

    /// The platform of an index's entry, when it is complete.
    pub(crate) fn known_platform(&self) -> Option<&EntryPlatform> {
        let complete = |p: &&EntryPlatform| !p.os.is_empty() && !p.architecture.is_empty();
        self.platform.as_ref().filter(complete)
    }

    /// What an index's entry is by its type; `None` for an unknown or an empty one.
    pub(crate) fn kind(&self) -> Option<ManifestKind> {
        ManifestKind::of(&self.media_type)
    }
}
