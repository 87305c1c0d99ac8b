//! What the front-end's half does in the registry: it holds the account that may change tags.

use anyhow::{Context as _, Result};
use onedock_common::kept::state_tag;
use onedock_common::reference::{RegistryName, Repository, Source, Tag};
use onedock_common::secret::Credential;
use onedock_common::{DiskId, VmId};
use onedock_registry::Client;

use super::Front;
use crate::image;
use crate::message::vm_tag;

impl Front<'_> {
    /// A client with the front-end's account.
    pub(super) fn client(&self) -> Result<Client> {
        image::client(self.config)
    }

    /// The account, for a host that pushes in our place.
    pub(super) fn credential(&self, registry: &RegistryName) -> Result<Option<Credential>> {
        Ok(onedock_registry::credential(
            &self.config.auth_file,
            registry,
        )?)
    }
}

/// Reads back what a host has pushed, with every blob that it names, before anything at its source
/// goes.
pub(super) async fn verify(client: &Client, state: &Source) -> Result<()> {
    client
        .complete(state)
        .await
        .context("what was saved cannot be read back; nothing was removed")
}

/// From now on the image is this state: one request of the registry, before which it is the old
/// one and after which it is the new one.
pub(super) async fn set_state(client: &Client, image: &Source, state: &Source) -> Result<()> {
    let repository = image.repository();
    client
        .tag(repository, state.digest(), &state_tag(image)?)
        .await
        .context("the image's tag cannot be moved")?;
    client
        .tag(repository, state.digest(), &Tag::latest())
        .await
        .context("the tag latest cannot be moved")?;
    Ok(())
}

/// Takes away what the registry keeps of a VM's disk: its state, its snapshots. A repository that
/// is gone keeps nothing.
pub(super) async fn forget_vm(
    client: &Client,
    repository: &Repository,
    vm: VmId,
    disk: DiskId,
) -> Result<()> {
    let own = vm_tag(vm, disk);
    for tag in tags(client, repository).await? {
        if own.owns(&tag) {
            untag(client, repository, &tag).await?;
        }
    }
    Ok(())
}

/// The tags of a repository; one that is gone has none.
pub(super) async fn tags(client: &Client, repository: &Repository) -> Result<Vec<Tag>> {
    match client.tags(repository).await {
        Ok(tags) => Ok(tags),
        Err(e) if e.is_not_found() => Ok(Vec::new()),
        Err(e) => Err(e).with_context(|| format!("the tags of {repository} cannot be listed")),
    }
}

/// Takes one tag away; one that is gone is taken away.
pub(super) async fn untag(client: &Client, repository: &Repository, tag: &Tag) -> Result<()> {
    match client.untag(repository, tag).await {
        Err(e) if e.is_not_found() => Ok(()),
        other => other
            .map(drop)
            .with_context(|| format!("the tag {tag} of {repository} cannot be removed")),
    }
}
