//! Snapshots of a disk. Of a container disk each is an image in the registry, under a tag of the
//! VM's or, when the image is persistent, of the image's own; the descriptor lists them. Of a disk
//! in a file each is a copy beside it.

use anyhow::{Context as _, Result, ensure};
use onedock_common::SnapshotId;
use onedock_common::descriptor::{Descriptor, Found, Snapshot};
use onedock_common::engine::Engine;
use onedock_common::reference::ImageTag;
use onedock_common::secret::Credential;
use onedock_registry::{Client, ImageStore};

use super::container::{self, Known};
use super::{Node, file, freeze, pack, sidecar, stage, volume};
use crate::location::Place;
use crate::message::{Outcome, Pack, Running, State};

pub(super) async fn create<E: Engine>(
    node: &Node<'_, E>,
    disk: &Place,
    id: SnapshotId,
    credential: Option<Credential>,
) -> Result<Outcome> {
    let _lock = node.begin(disk.vm()).await?;
    if is_file(disk)? {
        return file::snap_create(node, disk, id).await;
    }
    let descriptor = described(disk)?;
    let tag = ImageTag::disk_snapshot(&descriptor, id);
    let login = credential.clone();
    let job = Pack {
        disk: disk.clone(),
        repository: None,
        tag: (&tag).into(),
        comment: format!(
            "snapshot {id} of disk {} of VM {}",
            descriptor.disk,
            disk.vm()
        ),
        credential,
        from: Running::Frozen,
    };
    let State {
        mut descriptor,
        image,
        pushed,
        bytes,
    } = pack::state(node, &job, descriptor).await?;
    if !pushed {
        // The snapshot is the image that the disk stands on, and needs a name of its own.
        let repository = image.repository();
        sidecar::note_repository(&disk.path(), repository)?;
        let registry = repository.registry();
        let client = Client::configured_with(node.config, registry, login.as_ref())?;
        ImageStore::new(client)
            .tag(repository, image.digest(), &tag)
            .await
            .context("the snapshot cannot be kept in the registry")?;
    }
    // `oned` gives an id again when the first call failed in its eyes, and for an image of whose
    // snapshots it knows none: what is there then is a state that nobody asked for now.
    descriptor.snapshots.retain(|s| s.id != id);
    descriptor.snapshots.push(Snapshot { id, image, bytes });
    descriptor.write(&disk.path())?;
    Ok(Outcome::Done)
}

pub(super) async fn revert<E: Engine>(
    node: &Node<'_, E>,
    disk: &Place,
    id: SnapshotId,
) -> Result<Outcome> {
    let _lock = node.begin(disk.vm()).await?;
    if is_file(disk)? {
        return file::snap_revert(node, disk, id).await;
    }
    let mut descriptor = described(disk)?;
    let image = find(&descriptor, id)?.image.clone();
    freeze::stopped(node, disk.vm()).await?;
    Client::configured(node.config)?
        .complete(&image)
        .await
        .with_context(|| format!("snapshot {id} is not to be had; nothing was changed"))?;
    match stage::fetch(node, &image).await {
        // On a front-end, where the disk waits for its next host.
        Err(e) if node.lacks_engine(&e) && descriptor.container.is_none() => {}
        other => other?,
    }
    // The descriptor decides: from here on the disk is the snapshot, and a container that is
    // found by its name is one of before.
    let container = descriptor.container.take();
    descriptor.image = image;
    descriptor.write(&disk.path())?;
    let of = (descriptor.vm, descriptor.disk);
    container::remove_all(node, of, container.as_ref(), Known::Surely).await?;
    Ok(Outcome::Done)
}

/// The registry's part was done by the front-end's half.
pub(super) async fn delete<E: Engine>(
    node: &Node<'_, E>,
    disk: &Place,
    id: SnapshotId,
) -> Result<Outcome> {
    let _lock = node.begin(disk.vm()).await?;
    if is_file(disk)? {
        volume::snap_delete(&disk.path(), id).await?;
        return Ok(Outcome::Done);
    }
    let mut descriptor = described(disk)?;
    let before = descriptor.snapshots.len();
    descriptor.snapshots.retain(|s| s.id != id);
    if descriptor.snapshots.len() < before {
        descriptor.write(&disk.path())?;
    }
    Ok(Outcome::Done)
}

fn is_file(disk: &Place) -> Result<bool> {
    Ok(matches!(Descriptor::find(&disk.path())?, Found::File))
}

fn described(disk: &Place) -> Result<Descriptor> {
    let path = disk.path();
    match Descriptor::find(&path)? {
        Found::Container(descriptor) => {
            ensure!(
                descriptor.vm == disk.vm(),
                "{} belongs to VM {}",
                path.display(),
                descriptor.vm
            );
            Ok(*descriptor)
        }
        _ => anyhow::bail!(
            "{} is not there, or not the disk of a container",
            path.display()
        ),
    }
}

fn find(descriptor: &Descriptor, id: SnapshotId) -> Result<&Snapshot> {
    let known = || {
        let ids: Vec<String> = descriptor
            .snapshots
            .iter()
            .map(|s| s.id.to_string())
            .collect();
        if ids.is_empty() {
            "none".to_owned()
        } else {
            ids.join(", ")
        }
    };
    descriptor
        .snapshots
        .iter()
        .find(|s| s.id == id)
        .with_context(|| {
            format!(
                "disk {} of VM {} has no snapshot {id}, it has {}; nothing was changed",
                descriptor.disk,
                descriptor.vm,
                known()
            )
        })
}
