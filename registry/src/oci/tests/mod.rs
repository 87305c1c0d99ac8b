//! Manifests, indexes and descriptors, read from documents.

use serde_json::{Value, json};

use super::descriptor::Descriptor;
use super::index::Index;
use super::manifest::{Manifest, media_type, parse};
use super::media_type::{
    DOCKER_CONFIG, DOCKER_LAYER_GZIP, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST,
};

mod descriptors;
mod indexes;
mod manifests;

pub(super) const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
pub(super) const LIMIT: u64 = 1 << 30;

pub(super) fn descriptor(media_type: &str, size: i64, n: usize) -> Value {
    let digest = format!("sha256:{n:04x}{}", HEX.get(4..).unwrap());
    json!({"mediaType": media_type, "size": size, "digest": digest})
}

pub(super) fn image() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": descriptor(DOCKER_CONFIG, 100, 0),
        "layers": [descriptor(DOCKER_LAYER_GZIP, 1000, 1)],
    })
}

pub(super) fn index(platforms: &[(&str, &str)]) -> Value {
    let entries: Vec<Value> = platforms
        .iter()
        .enumerate()
        .map(|(n, (os, architecture))| {
            let mut entry = descriptor(OCI_MANIFEST, 10, n);
            entry["platform"] = json!({"os": os, "architecture": architecture});
            entry
        })
        .collect();
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, "annotations": {"a": "b"}})
}

/// Everything that is asked of a manifest before it is copied.
pub(super) fn read(value: &Value) -> Result<Manifest, String> {
    let bytes = value.to_string();
    let media_type = media_type(bytes.as_bytes(), None)?;
    let manifest = parse(bytes.as_bytes(), &media_type)?;
    if let Manifest::Image(image) = &manifest {
        image.check(LIMIT)?;
        image.blobs()?;
    }
    Ok(manifest)
}

pub(super) fn index_of(value: &Value) -> Index {
    let Ok(Manifest::Index(index)) = read(value) else {
        panic!("no index");
    };
    index
}
