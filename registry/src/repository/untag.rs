//! Removal of one tag, and of that one only.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::SystemTime;

use onedock_common::types::reference::Tag;
use serde_json::json;

use super::remote::{Deleted, RemoteRepository};
use crate::error::Error;
use crate::oci::manifest::Manifest;

/// The media type of the manifest that a tag points at just before it is removed.
const MARK: &str = "application/vnd.opennebula.onedock.mark.v1+json";
/// How often a tag is removed that the registry has left behind.
const ATTEMPTS: u32 = 4;

impl RemoteRepository {
    /// Removes one tag; its manifest stays, with its other tags.
    ///
    /// A registry deletes by digest, with all tags: so the tag is first moved to a manifest of
    /// its own, which is then deleted. Interrupted in between, the tag points at that marker, which
    /// is neither an image nor a disk, and the next call finishes it.
    pub(crate) async fn untag(&self, tag: &Tag) -> Result<Deleted, Error> {
        match self.manifest_of_tag(tag).await {
            // A tag whose manifest is gone cannot be resolved, but it is still listed.
            Err(e) if e.is_not_found() && !self.tags().await?.contains(tag) => {
                return Ok(Deleted::Before);
            }
            Err(e) if e.is_not_found() => {}
            // The tag can be removed, whatever the unreadable content is.
            Ok(_) | Err(Error::Image { .. }) => {}
            Err(e) => return Err(e),
        }
        self.remove_tag(tag).await?;
        Ok(Deleted::Now)
    }

    /// Whether [`RemoteRepository::untag`] was interrupted at this tag: it points at the marker.
    /// One that is not there is an error.
    pub(crate) async fn is_half_untagged(&self, tag: &Tag) -> Result<bool, Error> {
        let resolved = self.manifest_of_tag(tag).await?;
        Ok(match self.parse(&resolved)? {
            Manifest::Image(image) => image.config.media_type == MARK,
            Manifest::Index(_) => false,
        })
    }

    /// Moves the tag to a marker and deletes that.
    ///
    /// CNCF Distribution deletes a manifest first and searches for the tags that point at it after
    /// that. Two calls that share one marker (the same bytes, so the same digest) can therefore
    /// leave the tag: one deletes the marker's manifest while the other is about to write the tag,
    /// and the other's deletion then finds no manifest and searches for no tags. So each call has a
    /// marker of its own. A deletion that finds no marker was disturbed the same way, by an error
    /// of the registry in its middle: it is repeated with another marker.
    pub(super) async fn remove_tag(&self, tag: &Tag) -> Result<(), Error> {
        for attempt in 0..ATTEMPTS {
            // The keys of a RandomState are random in each process.
            let call = RandomState::new().hash_one((SystemTime::now(), attempt));
            let mark = json!({ "tag": tag.as_str(), "call": format!("{call:016x}") }).to_string();
            let own = self.put_artifact(tag, MARK, mark.as_bytes()).await?;
            if self.delete_manifest(&own).await? == Deleted::Now {
                return Ok(());
            }
        }
        Err(self.refuse(format!(
            "its tag {tag} is still there after {ATTEMPTS} deletions"
        )))
    }
}
