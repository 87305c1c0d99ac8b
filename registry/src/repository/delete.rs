//! Deleting all that a repository holds. Registries know no deletion of a repository.

use std::collections::BTreeSet;

use crate::client::Deleted;
use crate::error::Error;
use crate::oci::manifest::Manifest;
use crate::repository::remote::Remote;
use crate::repository::untag::remove;

/// Deletes every manifest that a tag reaches. Indexes go before their images, so that no index
/// is left without them; the images must go as well, or the registry's garbage collection keeps
/// their blobs.
pub(crate) async fn sweep(remote: &Remote) -> Result<Deleted, Error> {
    let (mut first, mut then) = (BTreeSet::new(), BTreeSet::new());
    for tag in remote.tags().await? {
        let resolved = match remote.manifest_of_tag(&tag).await {
            Err(e) if e.is_not_found() => continue,
            resolved => resolved?,
        };
        if let Ok(Manifest::Index(index)) = remote.parse(&resolved) {
            then.extend(index.entries.into_iter().map(|entry| entry.digest));
        }
        first.insert(resolved.digest);
    }
    let mut deleted = Deleted::Before;
    for digest in first.iter().chain(then.difference(&first)) {
        if remote.delete_manifest(digest).await? == Deleted::Now {
            deleted = Deleted::Now;
        }
    }
    // The registry deletes a manifest before its tags: after an error in between the tags are
    // left, without a manifest by which they could be deleted.
    for tag in remote.tags().await? {
        match remote.manifest_of_tag(&tag).await {
            Err(e) if e.is_not_found() => {
                remove(remote, &tag).await?;
                deleted = Deleted::Now;
            }
            // Written since: another's.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(deleted)
}
