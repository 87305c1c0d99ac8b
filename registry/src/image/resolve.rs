//! The one image of a reference on one platform.

use onedock_common::types::image_config::ImageConfig;
use onedock_common::types::reference::{Reference, Source};

use super::select::best;
use crate::client::Client;
use crate::error::Error;
use crate::oci::manifest::{ImageManifest, Manifest};
use crate::oci::platform::Platform;
use crate::repository::remote::{RemoteRepository, Resolved};

impl Client {
    /// How many layers an image has; of one for several platforms, that of this machine.
    pub async fn depth(&self, image: &Source) -> Result<usize, Error> {
        self.at(image.repository(), "to count layers", async |repository| {
            let image = self
                .image(&repository, &image.reference(), &Platform::here())
                .await?;
            Ok(image.layers.len())
        })
        .await
    }

    /// How a container of an image runs; of one for several platforms, that of this machine.
    pub async fn image_config(&self, image: &Source) -> Result<ImageConfig, Error> {
        let what = "to read an image's configuration";
        self.at(image.repository(), what, async |repository| {
            let image = self
                .image(&repository, &image.reference(), &Platform::here())
                .await?;
            Ok(repository.config(&image).await?.1.run)
        })
        .await
    }

    /// The registry has the manifest, under its digest, and every blob that it names: of an image
    /// its configuration and layers, of a disk its pieces. Of an index the images are not checked.
    pub async fn check_complete(&self, source: &Source) -> Result<(), Error> {
        let what = "to check that an image is complete";
        self.at(source.repository(), what, async |repository| {
            let resolved = repository.resolve(&source.reference()).await?;
            let Manifest::Image(image) = repository.parse(&resolved)? else {
                return Ok(());
            };
            for blob in image.layers.iter().chain([&image.config]) {
                if !repository.has_blob(&blob.digest).await? {
                    return Err(repository.refuse(format!("its blob {} is missing", blob.digest)));
                }
            }
            Ok(())
        })
        .await
    }

    /// The image of a reference for one platform, checked.
    pub(crate) async fn image(
        &self,
        remote: &RemoteRepository,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ImageManifest, Error> {
        let found = self.image_manifest(remote, reference, platform).await;
        found.map(|(_, image)| image)
    }

    /// The same, with the manifest as the registry stores it.
    pub(crate) async fn image_manifest(
        &self,
        remote: &RemoteRepository,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<(Resolved, ImageManifest), Error> {
        let resolved = remote.resolve(reference).await?;
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
                        let reason = "its index and its manifest give different types".to_owned();
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
