//! `snap_delete`, `snap_revert`, `snap_flatten`: the snapshots of a persistent image while no VM
//! uses it. Each is a tag `snap-<id>` in the image's repository; the image's present state is what
//! its state tag points at, and moves in one request of the registry.

use anyhow::{Context as _, ensure};
use onedock_common::SnapshotId;
use onedock_common::answer::Answer;
use onedock_common::image::DatastoreAction;
use onedock_common::kept::state_tag;
use onedock_common::reference::{Source, Tag};

use super::{image, own_source};
use crate::store::Store;

/// What the tag of a snapshot begins with; the transfer manager makes them.
const SNAPSHOT: &str = "snap-";

/// Whether this is the tag of a snapshot.
fn is_snapshot(tag: &Tag) -> bool {
    let id = tag.as_str().strip_prefix(SNAPSHOT);
    id.is_some_and(|id| id.parse::<SnapshotId>().is_ok())
}

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

    fn tag(&self) -> anyhow::Result<Tag> {
        Ok(format!("{SNAPSHOT}{}", self.snapshot).parse()?)
    }

    /// Makes the snapshot the image's present state; `false` when there is no such snapshot.
    async fn restore(&self, store: &Store) -> anyhow::Result<bool> {
        let repository = self.source.repository();
        let found = store.client.resolve(&repository.tagged(&self.tag()?)).await;
        let found = match found {
            Err(e) if e.is_not_found() => return Ok(false),
            found => found?,
        };
        // One that is half removed is removed: a repeated `flatten` finishes it.
        if store
            .client
            .is_half_untagged(repository, &self.tag()?)
            .await?
        {
            return Ok(false);
        }
        let content = Source::new(repository.clone(), found.digest);
        // Never what a VM could not start from.
        store.client.kind(&content).await?;
        for tag in [state_tag(&self.source)?, Tag::latest()] {
            store.client.tag(repository, content.digest(), &tag).await?;
        }
        Ok(true)
    }

    fn missing(&self) -> String {
        format!(
            "snapshot {} of image {} is not in the registry; the image is as it was",
            self.snapshot, self.source
        )
    }
}

/// Takes the snapshot away; what is gone is deleted.
pub(crate) async fn delete(store: &Store, request: &DatastoreAction) -> anyhow::Result<Answer> {
    let target = Target::of(store, request)?;
    let repository = target.source.repository();
    store.client.untag(repository, &target.tag()?).await?;
    Ok(Answer::done())
}

/// Makes the snapshot the image's present state; all snapshots stay.
pub(crate) async fn revert(store: &Store, request: &DatastoreAction) -> anyhow::Result<Answer> {
    let target = Target::of(store, request)?;
    ensure!(target.restore(store).await?, target.missing());
    Ok(Answer::done())
}

/// Makes the snapshot the image's present state and takes all snapshots away, this one last: cut
/// off anywhere, the same call finishes it.
pub(crate) async fn flatten(store: &Store, request: &DatastoreAction) -> anyhow::Result<Answer> {
    let target = Target::of(store, request)?;
    let repository = target.source.repository();
    let own = target.tag()?;
    let there = target.restore(store).await?;
    let snapshots: Vec<Tag> = store
        .client
        .tags(repository)
        .await?
        .into_iter()
        .filter(|tag| is_snapshot(tag) && *tag != own)
        .collect();
    // With no snapshot left at all an earlier call has come to its end.
    ensure!(there || snapshots.is_empty(), target.missing());
    for tag in snapshots.iter().chain([&own]) {
        store.client.untag(repository, tag).await?;
    }
    Ok(Answer::done())
}
