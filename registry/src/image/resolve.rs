//! The one image that a reference means on one platform.

use onedock_common::types::reference::Reference;

use crate::client::{Client, Resolved, find};
use crate::error::Error;
use crate::image::select::best;
use crate::oci::manifest::{ImageManifest, Manifest};
use crate::oci::platform::Platform;
use crate::repository::remote::Remote;

impl Client {
    /// The image of a reference for one platform, checked.
    pub(crate) async fn image(
        &self,
        remote: &Remote,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ImageManifest, Error> {
        let found = self.image_manifest(remote, reference, platform).await;
        found.map(|(_, image)| image)
    }

    /// The same, with the manifest as the registry holds it.
    pub(crate) async fn image_manifest(
        &self,
        remote: &Remote,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<(Resolved, ImageManifest), Error> {
        let resolved = find(remote, reference).await?;
        let (resolved, image) = match remote.parse(&resolved)? {
            Manifest::Image(image) => (resolved, image),
            Manifest::Index(index) => {
                let wanted = std::slice::from_ref(platform);
                let name = reference.to_string();
                let entries = remote.images_of(&name, &index, wanted).await?;
                let Some(entry) = best(&entries) else {
                    return Err(remote.refuse("its index is empty".to_owned()));
                };
                let child = remote.manifest_of(&entry.digest).await?;
                match remote.parse(&child)? {
                    Manifest::Image(image) => (child, image),
                    Manifest::Index(_) => {
                        let reason = "its index says another type than its manifest".to_owned();
                        return Err(remote.refuse(reason));
                    }
                }
            }
        };
        image
            .check(self.options.image_limit)
            .map_err(|reason| remote.refuse(reason))?;
        Ok((resolved, image))
    }
}
