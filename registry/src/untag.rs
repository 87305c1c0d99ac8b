//! One tag away, and only that one.

use onedock_common::reference::{Repository, Tag};
use serde_json::json;

use crate::artifact;
use crate::client::{Client, Deleted};
use crate::error::Error;
use crate::manifest::Manifest;

/// What a tag points at on its way out.
const MARK: &str = "application/vnd.opennebula.onedock.mark.v1+json";

impl Client {
    /// Takes one tag away; what it pointed at stays, with its other tags. A tag that is not
    /// there is [`Deleted::Before`].
    ///
    /// A registry deletes by digest, with all tags: so the tag is first moved to a manifest of
    /// its own, which then goes. Cut off in between, the tag points at that marker, which is
    /// neither an image nor a disk, and the next call finishes it.
    pub async fn untag(&self, repository: &Repository, tag: &Tag) -> Result<Deleted, Error> {
        self.at(repository, "to remove a tag", async |remote| {
            match remote.manifest_of_tag(tag).await {
                Err(e) if e.is_not_found() => return Ok(Deleted::Before),
                // Whatever it is that cannot be read, its tag can go.
                Ok(_) | Err(Error::Image { .. }) => {}
                Err(e) => return Err(e),
            }
            let mark = json!({ "tag": tag.as_str() }).to_string();
            let own = artifact::put(&remote, tag, MARK, mark.as_bytes()).await?;
            remote.delete_manifest(&own).await?;
            Ok(Deleted::Now)
        })
        .await
    }

    /// Whether [`Client::untag`] was cut off at this tag: it points at the marker. One that is not
    /// there is an error.
    pub async fn is_half_untagged(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<bool, Error> {
        self.at(repository, "to look at a tag", async |remote| {
            let resolved = remote.manifest_of_tag(tag).await?;
            Ok(match remote.parse(&resolved)? {
                Manifest::Image(image) => image.config.media_type == MARK,
                Manifest::Index(_) => false,
            })
        })
        .await
    }
}
