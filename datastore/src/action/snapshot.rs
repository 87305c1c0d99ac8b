//! `snap_delete`, `snap_revert`, `snap_flatten`: the snapshots of a persistent image while no VM
//! uses it.

use anyhow::{Context as _, ensure};
use onedock_common::SnapshotId;
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::image::DatastoreAction;
use onedock_common::types::reference::{ImageTag, Repository, Source};

use super::{image, own_source};
use crate::store::Store;

/// The image and the snapshot that are meant.
struct Target {
    source: Source,
    snapshot: SnapshotId,
}

impl Target {
    fn of(store: &Store, request: &DatastoreAction) -> anyhow::Result<Self> {
        let image = image(request)?;
        let source = own_source(store, image)?;
        Ok(Self {
            source,
            snapshot: image
                .target_snapshot
                .context("IMAGE/TARGET_SNAPSHOT is missing in the XML")?,
        })
    }

    fn repository(&self) -> &Repository {
        self.source.repository()
    }

    /// Makes the snapshot the image's current version; `false` when there is no such snapshot.
    async fn restore(&self, store: &Store) -> anyhow::Result<bool> {
        let images = &store.images;
        let Some(found) = images.snapshot(self.repository(), self.snapshot).await? else {
            return Ok(false);
        };
        // Never what a VM could not start from.
        let content = Source::new(self.repository().clone(), found.digest);
        images.client().kind(&content).await?;
        images.set_current(&self.source, content.digest()).await?;
        Ok(true)
    }

    async fn remove(&self, store: &Store, id: SnapshotId) -> anyhow::Result<()> {
        let tag = ImageTag::Snapshot(id);
        Ok(store.images.untag(self.repository(), &tag).await?)
    }

    fn missing(&self) -> String {
        format!(
            "snapshot {} of image {} is not in the registry; the image is as it was",
            self.snapshot, self.source
        )
    }
}

/// Removes the snapshot; one that is gone is removed.
pub(crate) async fn delete(store: &Store, request: &DatastoreAction) -> anyhow::Result<Answer> {
    let target = Target::of(store, request)?;
    target.remove(store, target.snapshot).await?;
    Ok(Answer::done())
}

/// Makes the snapshot the image's current version; all snapshots stay.
pub(crate) async fn revert(store: &Store, request: &DatastoreAction) -> anyhow::Result<Answer> {
    let target = Target::of(store, request)?;
    ensure!(target.restore(store).await?, target.missing());
    Ok(Answer::done())
}

/// Makes the snapshot the image's current version and removes all snapshots, this one last: cut
/// off anywhere, the same call finishes it.
pub(crate) async fn flatten(store: &Store, request: &DatastoreAction) -> anyhow::Result<Answer> {
    let target = Target::of(store, request)?;
    let restored = target.restore(store).await?;
    let mut others = store.images.snapshots(target.repository()).await?;
    others.retain(|id| *id != target.snapshot);
    // With no snapshot left at all an earlier call has come to its end.
    ensure!(restored || others.is_empty(), target.missing());
    for id in others.into_iter().chain([target.snapshot]) {
        target.remove(store, id).await?;
    }
    Ok(Answer::done())
}
