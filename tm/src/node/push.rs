//! The container's layer into the registry under a temporary tag. Without a container the VM
//! never ran, and there is nothing to save.

use anyhow::{Context as _, ensure};
use onedock_common::descriptor::Descriptor;
use onedock_common::engine::Engine;
use onedock_common::reference::{Repository, Tag};
use onedock_common::secret::Credential;

use super::Node;
use crate::location::Place;
use crate::message::Outcome;

pub(super) async fn run<E: Engine>(
    node: &Node<'_, E>,
    disk: &Place,
    repository: &Repository,
    tag: &Tag,
    credential: Option<&Credential>,
) -> anyhow::Result<Outcome> {
    let _lock = node.lock(disk.vm())?;
    let path = disk.path();
    // Deleted already: a call before this one has saved it and moved the tag.
    if !path.exists() {
        return Ok(Outcome::NothingToSave);
    }
    let descriptor = Descriptor::read(&path)?;
    let Some(id) = descriptor.container else {
        return Ok(Outcome::NothingToSave);
    };
    let container = node.engine.container(&id).await?.with_context(|| {
        format!(
            "the container {} was removed behind OpenNebula's back; its changes cannot be saved",
            id.short()
        )
    })?;
    ensure!(
        !container.running,
        "the VM still runs; its disk is saved when it has stopped"
    );
    if !container.started_before {
        return Ok(Outcome::NothingToSave);
    }
    node.engine
        .commit(&id, repository, tag)
        .await
        .context("the VM's changes cannot be made an image")?;
    let pushed = node.engine.push(repository, tag, credential).await;
    // The local name goes in any case; the layers stay with the container.
    let untagged = node.engine.untag(repository, tag).await;
    let digest = pushed.with_context(|| {
        format!(
            "the VM's changes cannot be sent to registry {}",
            repository.registry()
        )
    })?;
    untagged?;
    Ok(Outcome::Pushed(digest))
}
