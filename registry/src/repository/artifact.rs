//! A small document of our own beside an image: an OCI manifest whose configuration it is
//! (OCI image specification 1.1, "Guidelines for Artifact Usage").

use bytes::Bytes;
use onedock_common::Digest;
use onedock_common::types::reference::Tag;
use serde_json::json;

use crate::error::Error;
use crate::oci::manifest::{Manifest, OCI_MANIFEST};
use crate::repository::remote::Remote;

/// The largest document, in bytes.
const LIMIT: u64 = 1 << 20;
/// What the specification puts where a manifest has no layers.
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

pub(crate) async fn put(
    remote: &Remote,
    tag: &Tag,
    media_type: &str,
    document: &[u8],
) -> Result<Digest, Error> {
    if document.len() as u64 > LIMIT {
        return Err(remote.refuse(format!("its attributes have more than {LIMIT} bytes")));
    }
    let config = remote
        .put_small(media_type, Bytes::copy_from_slice(document))
        .await?;
    let empty = remote
        .put_small(EMPTY_TYPE, Bytes::from_static(b"{}"))
        .await?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config,
        "layers": [empty],
    });
    let bytes = Bytes::from(manifest.to_string());
    remote.put_manifest(Some(tag), OCI_MANIFEST, bytes).await
}

pub(crate) async fn get(
    remote: &Remote,
    tag: &Tag,
    media_type: &str,
) -> Result<Option<Bytes>, Error> {
    let resolved = match remote.manifest_of_tag(tag).await {
        Err(e) if e.is_not_found() => return Ok(None),
        resolved => resolved?,
    };
    match remote.parse(&resolved)? {
        Manifest::Image(image) if image.config.media_type == media_type => {
            remote.small_blob(&image.config, LIMIT).await.map(Some)
        }
        _ => Err(remote.refuse(format!("its tag {tag} holds no {media_type}"))),
    }
}
