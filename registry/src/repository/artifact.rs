//! A small document of our own as an artifact: an OCI manifest whose configuration it is (OCI
//! image specification 1.1, "Guidelines for Artifact Usage").

use bytes::Bytes;
use onedock_common::Digest;
use onedock_common::types::reference::Tag;

use super::remote::RemoteRepository;
use crate::error::Error;
use crate::oci::manifest::{Manifest, manifest_of};
use crate::oci::media_type::OCI_MANIFEST;

/// The largest document, in bytes.
const LIMIT: u64 = 1 << 20;
/// The specification's empty descriptor, in place of the layers that an artifact does not have.
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

impl RemoteRepository {
    /// Stores a document under a tag.
    pub(crate) async fn put_artifact(
        &self,
        tag: &Tag,
        media_type: &str,
        document: &[u8],
    ) -> Result<Digest, Error> {
        if document.len() as u64 > LIMIT {
            return Err(self.refuse(format!("its attributes have more than {LIMIT} bytes")));
        }
        let document = Bytes::copy_from_slice(document);
        let config = self.put_small(media_type, document).await?;
        let empty = self
            .put_small(EMPTY_TYPE, Bytes::from_static(b"{}"))
            .await?;
        let manifest = manifest_of(OCI_MANIFEST, &config, &[&empty]);
        self.put_manifest(Some(tag), OCI_MANIFEST, manifest).await
    }

    /// The document under a tag; `None` when there is no such tag.
    pub(crate) async fn get_artifact(
        &self,
        tag: &Tag,
        media_type: &str,
    ) -> Result<Option<Bytes>, Error> {
        let resolved = match self.manifest_of_tag(tag).await {
            Err(e) if e.is_not_found() => return Ok(None),
            resolved => resolved?,
        };
        match self.parse(&resolved)? {
            Manifest::Image(image) if image.config.media_type == media_type => {
                self.small_blob(&image.config, LIMIT).await.map(Some)
            }
            _ => Err(self.refuse(format!("its tag {tag} holds no {media_type}"))),
        }
    }
}
