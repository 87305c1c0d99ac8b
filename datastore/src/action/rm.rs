//! `rm`: the image's manifests with all their tags: its states and its snapshots. The blobs go with
//! the registry's own garbage collection. What is gone is removed.

use anyhow::Context as _;
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::image::DatastoreAction;
use onedock_common::types::reference::Source;

use super::image;
use crate::store::Store;

pub(crate) async fn run(store: &Store, request: &DatastoreAction) -> anyhow::Result<Answer> {
    let Some(source) = &image(request)?.source else {
        return Ok(Answer::done());
    };
    let source: Source = source.parse().context("IMAGE/SOURCE")?;
    let repository = store.own(&source)?;
    store.client().delete_repository(&repository).await?;
    // A persistent image's first version may have no tag any more.
    store
        .client()
        .delete_manifest(&repository, source.digest())
        .await?;
    Ok(Answer::done())
}
