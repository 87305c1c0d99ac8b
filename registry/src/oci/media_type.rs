//! Media types of the OCI image specification and of the engine (schema 2), and what they mean.

use crate::oci::compression::Compression;

pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

pub(super) const DOCKER_LAYER_TAR: &str = "application/vnd.docker.image.rootfs.diff.tar";
pub(super) const OCI_LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub(super) const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// What a manifest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ManifestKind {
    Image,
    Index,
}

impl ManifestKind {
    /// By its media type; `None` for an unknown one.
    pub(super) fn of(media_type: &str) -> Option<Self> {
        match media_type {
            DOCKER_MANIFEST | OCI_MANIFEST => Some(Self::Image),
            DOCKER_INDEX | OCI_INDEX => Some(Self::Index),
            _ => None,
        }
    }
}

/// Whether this is the configuration of a container image. The last four are what registries and
/// builders of the past wrote, which the engine takes as well (moby, `distribution/registry.go`).
pub(crate) fn is_image_config(media_type: &str) -> bool {
    is_known_config(media_type)
        || matches!(
            media_type,
            "application/octet-stream" | "application/json" | "text/html" | ""
        )
}

pub(super) fn is_known_config(media_type: &str) -> bool {
    matches!(media_type, DOCKER_CONFIG | OCI_CONFIG)
}

/// Whether every engine knows this type of a layer. containerd goes by it, the older image
/// stores of the engine by the first bytes.
pub(super) fn is_known_layer(media_type: &str) -> bool {
    matches!(
        media_type,
        DOCKER_LAYER_TAR | DOCKER_LAYER_GZIP | OCI_LAYER_TAR | OCI_LAYER_GZIP | OCI_LAYER_ZSTD
    )
}

/// The type of a configuration in a manifest of this type.
pub(crate) fn config_type(manifest: &str) -> &'static str {
    match manifest {
        DOCKER_MANIFEST => DOCKER_CONFIG,
        _ => OCI_CONFIG,
    }
}

/// The type of a layer, uncompressed or gzip, in a manifest of this type.
pub(crate) fn layer_type(manifest: &str, compression: Compression) -> &'static str {
    match (manifest, compression) {
        (DOCKER_MANIFEST, Compression::None) => DOCKER_LAYER_TAR,
        (DOCKER_MANIFEST, _) => DOCKER_LAYER_GZIP,
        (_, Compression::None) => OCI_LAYER_TAR,
        _ => OCI_LAYER_GZIP,
    }
}

/// Whether a layer of this type is no part of a file system: in-toto statements, cosign's
/// signatures, bills of materials.
pub(super) fn is_attachment_layer(layer: &str) -> bool {
    layer.ends_with("+json") || layer.contains("in-toto") || layer.contains("cosign")
}
