//! A manifest with all that it names into another repository: an image of one or of all
//! platforms, a disk, a reserved place.

use onedock_common::Digest;
use onedock_common::reference::{Repository, Source, Tag};

use crate::client::Client;
use crate::error::Error;

impl Client {
    /// Puts the same manifest under `tag` of `target`, byte for byte: the digest stays. Within a
    /// registry its blobs are mounted, else they are copied. The manifest is written last.
    pub async fn duplicate(
        &self,
        from: &Source,
        target: &Repository,
        tag: &Tag,
    ) -> Result<Digest, Error> {
        let _ = (from, target, tag);
        Err(Error::Stopped)
    }
}
