//! One tag away, and only that one.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::SystemTime;

use onedock_common::types::reference::{Repository, Tag};
use serde_json::json;

use crate::client::{Client, Deleted};
use crate::error::Error;
use crate::oci::manifest::Manifest;
use crate::repository::artifact;
use crate::repository::remote::Remote;

/// What a tag points at on its way out.
const MARK: &str = "application/vnd.opennebula.onedock.mark.v1+json";
/// How often a tag is removed that the registry has left behind.
const ATTEMPTS: u32 = 4;

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
                // A tag whose manifest is gone is not served, but it is still listed.
                Err(e) if e.is_not_found() && !remote.tags().await?.contains(tag) => {
                    return Ok(Deleted::Before);
                }
                Err(e) if e.is_not_found() => {}
                // Whatever it is that cannot be read, its tag can go.
                Ok(_) | Err(Error::Image { .. }) => {}
                Err(e) => return Err(e),
            }
            remove(&remote, tag).await?;
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

/// Moves the tag to a marker and deletes that.
///
/// CNCF Distribution deletes a manifest first and looks for the tags that point at it after that.
/// Two calls that share one marker (the same bytes, so the same digest) can therefore leave the
/// tag: one deletes the marker's manifest while the other is about to write the tag, and the
/// other's deletion then finds no manifest and looks for no tags. So each call has a marker of its
/// own. A deletion that finds no marker was disturbed the same way, by an error of the registry in
/// its middle: it is repeated with another marker.
pub(crate) async fn remove(remote: &Remote, tag: &Tag) -> Result<(), Error> {
    for attempt in 0..ATTEMPTS {
        // The keys of a RandomState are random in each process.
        let call = RandomState::new().hash_one((SystemTime::now(), attempt));
        let mark = json!({ "tag": tag.as_str(), "call": format!("{call:016x}") }).to_string();
        let own = artifact::put(remote, tag, MARK, mark.as_bytes()).await?;
        if remote.delete_manifest(&own).await? == Deleted::Now {
            return Ok(());
        }
    }
    Err(remote.refuse(format!(
        "its tag {tag} is still there after {ATTEMPTS} deletions"
    )))
}
