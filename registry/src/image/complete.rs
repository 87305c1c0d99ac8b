//! Whether an image is whole: before what it was made of goes.

use onedock_common::types::reference::Source;

use crate::client::{Client, find};
use crate::error::Error;
use crate::oci::manifest::Manifest;

impl Client {
    /// The registry has the manifest, under its digest, and every blob that it names: of an image
    /// its configuration and layers, of a disk its pieces. An index is looked at no further.
    pub async fn complete(&self, source: &Source) -> Result<(), Error> {
        let what = "to look whether an image is whole";
        self.at(source.repository(), what, async |remote| {
            let resolved = find(&remote, &source.reference()).await?;
            let Manifest::Image(image) = remote.parse(&resolved)? else {
                return Ok(());
            };
            for blob in std::iter::once(&image.config).chain(&image.layers) {
                if !remote.has_blob(&blob.digest).await? {
                    return Err(remote.refuse(format!("its part {} is missing", blob.digest)));
                }
            }
            Ok(())
        })
        .await
    }
}
