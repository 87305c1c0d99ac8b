//! Deletion of all that a repository holds: registries cannot delete a repository itself.

use std::collections::BTreeSet;

use super::remote::{Deleted, RemoteRepository};
use crate::error::Error;
use crate::oci::manifest::Manifest;

impl RemoteRepository {
    /// Deletes every manifest that a tag reaches. Indexes go before their images, so that no index
    /// is left without them; the images must go as well, or the registry's garbage collection
    /// does not free their blobs.
    pub(crate) async fn delete_all(&self) -> Result<Deleted, Error> {
        let (mut tagged, mut in_indexes) = (BTreeSet::new(), BTreeSet::new());
        for tag in self.tags().await? {
            let resolved = match self.manifest_of_tag(&tag).await {
                Err(e) if e.is_not_found() => continue,
                resolved => resolved?,
            };
            if let Ok(Manifest::Index(index)) = self.parse(&resolved) {
                in_indexes.extend(index.entries.into_iter().map(|entry| entry.digest));
            }
            tagged.insert(resolved.digest);
        }
        let mut deleted = Deleted::Before;
        for digest in tagged.iter().chain(in_indexes.difference(&tagged)) {
            if self.delete_manifest(digest).await? == Deleted::Now {
                deleted = Deleted::Now;
            }
        }
        // The registry deletes a manifest before its tags: after an error in between the tags are
        // left, without a manifest by which they could be deleted. A tag with a manifest was
        // written meanwhile, by somebody else.
        for tag in self.tags().await? {
            if let Err(e) = self.manifest_of_tag(&tag).await
                && e.is_not_found()
            {
                self.remove_tag(&tag).await?;
                deleted = Deleted::Now;
            }
        }
        Ok(deleted)
    }
}
