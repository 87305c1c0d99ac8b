//! `mvds host:…/disk.N SOURCE vm datastore`: a persistent image's changes go back to it.
//!
//! The host pushes the container's layer under a temporary tag; the front-end reads it back by
//! its digest; then the tag that holds the image's state moves, in one request of the registry;
//! then the container goes. Cut off anywhere, the image is the old version or the new one, whole,
//! and the same call finishes it.

use anyhow::{Context as _, bail, ensure};
use onedock_common::Digest;
use onedock_common::answer::Answer;
use onedock_common::config::Config;
use onedock_common::kept::state_tag;
use onedock_common::reference::{Source, Tag};
use onedock_registry::Client;

use super::target;
use crate::image;
use crate::message::{Outcome, Task};
use crate::remote::{self, Payload};

pub(crate) async fn run(arguments: &[String], config: &Config) -> anyhow::Result<Answer> {
    let [disk, source, vm, ..] = arguments else {
        bail!(
            "mvds needs <host:disk> <SOURCE> <vm> <datastore>, got {} arguments",
            arguments.len()
        );
    };
    let target = target(disk, vm)?;
    let source: Source = source.parse().context("the image's SOURCE")?;
    let repository = source.repository();
    let temporary: Tag = format!("saving-vm-{}", target.place.vm()).parse()?;
    let client = image::client(config)?;

    let task = Task::Push {
        disk: target.place.clone(),
        repository: repository.clone(),
        tag: temporary.clone(),
        credential: onedock_registry::credential(&config.auth_file, repository.registry())?,
    };
    if let Outcome::Pushed(digest) =
        remote::call(&target.location.host, task, Payload::Nothing).await?
    {
        let read_back = client
            .resolve(&repository.pinned(&digest))
            .await
            .context("what was saved cannot be read back")?;
        ensure!(
            read_back.digest == digest,
            "what was saved has digest {} in the registry, not {digest}",
            read_back.digest
        );
        client
            .tag(repository, &digest, &state_tag(&source)?)
            .await
            .context("the image's tag cannot be moved")?;
        client.tag(repository, &digest, &Tag::latest()).await?;
        untag(&client, &source, &temporary, &digest).await?;
    }
    let task = Task::Delete {
        place: target.place,
    };
    remote::call(&target.location.host, task, Payload::Nothing).await?;
    Ok(Answer::done())
}

/// Takes the temporary tag away. A registry deletes a manifest with all its tags, so the tag is
/// first moved to a manifest of its own, which then goes.
async fn untag(client: &Client, source: &Source, tag: &Tag, saved: &Digest) -> anyhow::Result<()> {
    let repository = source.repository();
    let marker = serde_json::json!({ "saved": saved, "tag": tag.as_str() }).to_string();
    let own = client
        .put_artifact(
            repository,
            tag,
            "application/vnd.opennebula.onedock.mark.v1+json",
            marker.as_bytes(),
        )
        .await
        .context("the temporary tag cannot be moved")?;
    client
        .delete_manifest(repository, &own)
        .await
        .context("the temporary tag cannot be removed")?;
    Ok(())
}
