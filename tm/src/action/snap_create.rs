//! `snap_create` and `snap_create_live host:…/disk.N SNAPSHOT vm datastore`: a snapshot of
//! the disk's present content. Whether the VM runs is known on its host.

use std::io::BufRead;
use std::time::Duration;

use anyhow::{Context as _, bail};
use onedock_common::SnapshotId;
use onedock_common::engine::Engine;
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::descriptor::{DiskKind, Snapshot};
use onedock_registry::{Client, ImageStore};
use serde::{Deserialize, Serialize};

use super::save::IfRunning;
use super::save::container::{SaveContainer, SavedContainer, save};
use super::{first, target};
use crate::location::VmPath;
use crate::node::{NodeContext, container, disk, sidecar};
use crate::request::{Request, TRANSFER};

pub(super) async fn run(arguments: &[String]) -> anyhow::Result<Answer> {
    let [disk, id, vm] = first(
        arguments,
        "snap_create needs <host:disk> <snapshot> <vm> <datastore>",
    )?;
    let target = target(disk, vm)?;
    let id: SnapshotId = id.parse().context("the snapshot's id")?;
    if let DiskKind::Folder = target.present_disk().await? {
        bail!("{disk} is not a disk that has snapshots");
    }
    let request = SnapCreate {
        disk: target.path.clone(),
        id,
    };
    target.call(&request).await?;
    Ok(Answer::done())
}

/// Take a snapshot of the disk; a running VM is frozen for a moment.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapCreate {
    pub(crate) disk: VmPath,
    pub(crate) id: SnapshotId,
}

impl Request for SnapCreate {
    const NAME: &'static str = "snap_create";
    const DEADLINE: Duration = TRANSFER;
    type Reply = ();

    fn vm_path(&self) -> &VmPath {
        &self.disk
    }

    async fn perform<E: Engine>(
        self,
        node: &NodeContext<'_, E>,
        _content: &mut dyn BufRead,
    ) -> anyhow::Result<()> {
        let _lock = node.begin(self.disk.vm()).await?;
        if disk::is_file(&self.disk)? {
            of_file(node, &self.disk, self.id).await
        } else {
            of_container(node, self).await
        }
    }
}

/// A copy beside the disk.
async fn of_file<E: Engine>(
    node: &NodeContext<'_, E>,
    vm_path: &VmPath,
    id: SnapshotId,
) -> anyhow::Result<()> {
    let path = disk::present(vm_path)?;
    // One that has the id already is of a call that failed in `oned`'s eyes, and is replaced.
    match disk::spool_running(node, vm_path).await? {
        Some(spool) => disk::snap_from_spool(&path, id, &spool),
        None => disk::snap_create(&path, id).await,
    }
}

/// An image in the registry, under a tag of the VM's or, when the image is persistent, of the
/// image's own; the descriptor lists it.
async fn of_container<E: Engine>(
    node: &NodeContext<'_, E>,
    request: SnapCreate,
) -> anyhow::Result<()> {
    let SnapCreate { disk, id } = request;
    let descriptor = container::descriptor(&disk)?;
    let tag = descriptor.snapshot_tag(id);
    let saving = SaveContainer {
        disk: disk.clone(),
        repository: None,
        tag: (&tag).into(),
        comment: format!(
            "snapshot {id} of disk {} of VM {}",
            descriptor.disk,
            disk.vm()
        ),
        if_running: IfRunning::Freeze,
    };
    let SavedContainer {
        mut descriptor,
        image,
        pushed,
        bytes,
    } = save(node, &saving, descriptor).await?;
    if !pushed {
        // The snapshot is the image that the disk is based on, and needs a tag of its own.
        let repository = image.repository();
        sidecar::note_repository(&disk.to_path_buf(), repository)?;
        let client = Client::configured(node.config)?;
        ImageStore::new(client)
            .tag(repository, image.digest(), &tag)
            .await
            .context("the snapshot cannot be tagged in the registry")?;
    }
    // `oned` gives an id again when the first call failed in its eyes, and for an image of whose
    // snapshots it knows none: what is there then is not what was asked for now.
    descriptor.snapshots.retain(|s| s.id != id);
    descriptor.snapshots.push(Snapshot { id, image, bytes });
    Ok(descriptor.write(&disk.to_path_buf())?)
}
