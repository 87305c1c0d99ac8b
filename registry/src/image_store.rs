//! What the private registry stores of an OpenNebula image besides its layers, one repository an
//! image: the current version, the attributes, the snapshots, and the saved disks of the VMs that
//! use it. The datastore and the transfer manager both go through here; the tags and their
//! meaning are [`ImageTag`]'s.

use onedock_common::Digest;
use onedock_common::types::reference::{ImageTag, Repository, Source, Tag};
use onedock_common::{DiskId, SnapshotId, VmId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::client::Client;
use crate::error::Error;
use crate::repository::remote::Resolved;

/// The media type of an image's attributes.
const ATTRIBUTES_TYPE: &str = "application/vnd.opennebula.onedock.image.v1+json";

/// Why an operation on a stored image failed.
#[derive(Debug, Error)]
pub enum ImageStoreError {
    /// The registry's answer is the source.
    #[error("{what}")]
    Registry {
        /// What could not be done.
        what: String,
        /// Why.
        source: Error,
    },
    /// Attributes that no driver has written.
    #[error("the attributes stored with image {image} are damaged")]
    Attributes {
        /// The image.
        image: Source,
        /// What is wrong with them.
        source: serde_json::Error,
    },
}

type Result<T> = std::result::Result<T, ImageStoreError>;

fn failed(what: String) -> impl FnOnce(Error) -> ImageStoreError {
    |source| ImageStoreError::Registry { what, source }
}

/// The answer, or `None` where the registry has nothing of the name.
fn if_there<T>(answer: std::result::Result<T, Error>) -> std::result::Result<Option<T>, Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

/// Attributes of an image that no layer holds, stored as a small document in its repository, so
/// that they are available where `oned` does not copy them to the disk (INHERIT_IMAGE_ATTR).
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// DOCKERRUN: the command instead of the image's.
    pub dockerrun: Option<String>,
}

/// The images in the private registry.
#[derive(Debug)]
pub struct ImageStore {
    client: Client,
}

impl ImageStore {
    /// The images as this client reaches them.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client, which moves the content itself.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The current version of an image: a persistent one changes with every VM that used it, and
    /// `oned` knows its first version only (`docs/decisions/0006-saved-images.md`). An image
    /// without a tag of its current version, which an administrator may have removed, is its SOURCE.
    pub async fn current(&self, image: &Source) -> Result<Source> {
        let repository = image.repository();
        let tag = Tag::from(&ImageTag::state_of(image));
        let found =
            if_there(self.client.resolve(&repository.tagged(&tag)).await).map_err(failed(
                format!("cannot look up the current version of image {image}"),
            ))?;
        Ok(found.map_or_else(
            || image.clone(),
            |found| Source::new(repository.clone(), found.digest),
        ))
    }

    /// Makes content of the image's repository its current version. The move of one tag, in one
    /// request of the registry: before it the image is the old version, after it the new one.
    pub async fn set_current(&self, image: &Source, content: &Digest) -> Result<()> {
        for tag in [ImageTag::state_of(image), ImageTag::Latest] {
            self.tag(image.repository(), content, &tag).await?;
        }
        Ok(())
    }

    /// Makes an image of what was just put under its SOURCE: marks it as the current version and
    /// stores its attributes. When that fails nothing of the image is left, because `oned` knows
    /// no SOURCE of an action that failed, and nobody would ever remove it.
    pub async fn register(&self, image: &Source, attributes: &Attributes) -> Result<()> {
        let registered = async {
            let tag = ImageTag::state_of(image);
            self.tag(image.repository(), image.digest(), &tag).await?;
            if *attributes == Attributes::default() {
                return Ok(());
            }
            self.set_attributes(image, attributes).await
        };
        let registered = registered.await;
        if registered.is_err()
            && let Err(also) = self.client.delete_repository(image.repository()).await
        {
            tracing::warn!("{also}");
        }
        registered
    }

    /// The image's attributes.
    pub async fn attributes(&self, image: &Source) -> Result<Attributes> {
        let tag = Tag::from(&ImageTag::Attributes);
        let json = self
            .client
            .get_artifact(image.repository(), &tag, ATTRIBUTES_TYPE)
            .await
            .map_err(failed(format!(
                "cannot read the attributes of image {image}"
            )))?;
        let Some(json) = json else {
            return Ok(Attributes::default());
        };
        serde_json::from_slice(&json).map_err(|source| ImageStoreError::Attributes {
            image: image.clone(),
            source,
        })
    }

    /// Replaces the image's attributes.
    pub async fn set_attributes(&self, image: &Source, attributes: &Attributes) -> Result<()> {
        let tag = Tag::from(&ImageTag::Attributes);
        let json = serde_json::json!(attributes).to_string();
        self.client
            .put_artifact(image.repository(), &tag, ATTRIBUTES_TYPE, json.as_bytes())
            .await
            .map(drop)
            .map_err(failed(format!(
                "cannot store the attributes (DOCKERRUN) of image {image}"
            )))
    }

    /// The ids of an image's snapshots, in order; also of those whose removal was cut off.
    pub async fn snapshots(&self, repository: &Repository) -> Result<Vec<SnapshotId>> {
        let mut ids: Vec<SnapshotId> = self
            .tags(repository)
            .await?
            .into_iter()
            .filter_map(|tag| match tag {
                ImageTag::Snapshot(id) => Some(id),
                _ => None,
            })
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// A snapshot of an image. `None` when there is none, or its removal was cut off: what its tag
    /// points at then is no version of the image.
    pub async fn snapshot(
        &self,
        repository: &Repository,
        id: SnapshotId,
    ) -> Result<Option<Resolved>> {
        let tag = Tag::from(&ImageTag::Snapshot(id));
        let what = || format!("cannot look up snapshot {id} of {repository}");
        let found = if_there(self.client.resolve(&repository.tagged(&tag)).await)
            .map_err(failed(what()))?;
        let Some(found) = found else {
            return Ok(None);
        };
        let half_removed = if_there(self.client.is_half_untagged(repository, &tag).await)
            .map_err(failed(what()))?;
        Ok((half_removed == Some(false)).then_some(found))
    }

    /// Removes all that the registry holds of a VM's disk: its content and its snapshots. A
    /// repository that is gone holds nothing.
    pub async fn remove_disk(&self, repository: &Repository, of: (VmId, DiskId)) -> Result<()> {
        for tag in self.tags(repository).await? {
            if tag.is_of_disk(of) {
                self.untag(repository, &tag).await?;
            }
        }
        Ok(())
    }

    /// Reads content back, with every blob that it names, before anything at its source goes.
    pub async fn verify(&self, content: &Source) -> Result<()> {
        self.client.check_complete(content).await.map_err(failed(
            "what was saved cannot be read back; nothing was removed".to_owned(),
        ))
    }

    /// Points a tag at content of the repository.
    pub async fn tag(
        &self,
        repository: &Repository,
        content: &Digest,
        tag: &ImageTag,
    ) -> Result<()> {
        self.client
            .tag(repository, content, &tag.into())
            .await
            .map_err(failed(format!("cannot set the tag {tag} of {repository}")))
    }

    /// Removes one tag; one that is gone is removed.
    pub async fn untag(&self, repository: &Repository, tag: &ImageTag) -> Result<()> {
        if_there(self.client.untag(repository, &tag.into()).await)
            .map(drop)
            .map_err(failed(format!(
                "cannot remove the tag {tag} of {repository}"
            )))
    }

    /// The drivers' tags in a repository; one that is gone has none.
    async fn tags(&self, repository: &Repository) -> Result<Vec<ImageTag>> {
        let tags = if_there(self.client.tags(repository).await)
            .map_err(failed(format!("cannot list the tags of {repository}")))?;
        let tags = tags.unwrap_or_default();
        Ok(tags
            .iter()
            .filter_map(|t| t.as_str().parse().ok())
            .collect())
    }
}
