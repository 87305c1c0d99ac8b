//! `snap_delete host:…/disk.N SNAPSHOT vm datastore`. First its tag, then its mention: cut off in
//! between, the next call finishes it. One that is gone is deleted.

use std::io::BufRead;

use anyhow::{Context as _, bail};
use onedock_common::SnapshotId;
use onedock_common::engine::Engine;
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::descriptor::{Descriptor, DiskKind};
use onedock_common::types::reference::ImageTag;
use serde::{Deserialize, Serialize};

use super::{FrontEnd, first, target};
use crate::location::VmPath;
use crate::node::{NodeContext, container, disk};
use crate::request::Request;

pub(super) async fn run(arguments: &[String], front: &FrontEnd<'_>) -> anyhow::Result<Answer> {
    let [disk, id, vm] = first(
        arguments,
        "snap_delete needs <host:disk> <snapshot> <vm> <datastore>",
    )?;
    let target = target(disk, vm)?;
    let id: SnapshotId = id.parse().context("the snapshot's id")?;
    match target.present_disk().await? {
        DiskKind::Container(descriptor) => remove_tag(front, &descriptor, id).await?,
        DiskKind::File => {}
        DiskKind::Folder => bail!("{disk} is not a disk that has snapshots"),
    }
    let request = SnapDelete {
        disk: target.path.clone(),
        id,
    };
    target.call(&request).await?;
    Ok(Answer::done())
}

async fn remove_tag(
    front: &FrontEnd<'_>,
    descriptor: &Descriptor,
    id: SnapshotId,
) -> anyhow::Result<()> {
    let images = front.images()?;
    let repository = descriptor.source.repository();
    // The disk is based on it: it stays, under the tag of the disk's content.
    if let Some(snapshot) = descriptor.snapshots.iter().find(|s| s.id == id)
        && snapshot.image == descriptor.image
    {
        let own = ImageTag::disk(descriptor.vm, descriptor.disk);
        images
            .tag(repository, snapshot.image.digest(), &own)
            .await
            .context(
                "the snapshot that the disk is based on cannot be given the tag of the disk",
            )?;
    }
    let tag = descriptor.snapshot_tag(id);
    Ok(images.untag(repository, &tag).await?)
}

/// Remove a snapshot from the host, after the front-end half has removed it from the registry.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapDelete {
    disk: VmPath,
    id: SnapshotId,
}

impl Request for SnapDelete {
    const NAME: &'static str = "snap_delete";
    type Reply = ();

    fn vm_path(&self) -> &VmPath {
        &self.disk
    }

    async fn perform<E: Engine>(
        self,
        node: &NodeContext<'_, E>,
        _content: &mut dyn BufRead,
    ) -> anyhow::Result<()> {
        let Self { disk, id } = self;
        let _lock = node.begin(disk.vm()).await?;
        if disk::is_file(&disk)? {
            return disk::snap_delete(&disk.to_path_buf(), id).await;
        }
        let mut descriptor = container::descriptor(&disk)?;
        let before = descriptor.snapshots.len();
        descriptor.snapshots.retain(|s| s.id != id);
        if descriptor.snapshots.len() < before {
            descriptor.write(&disk.to_path_buf())?;
        }
        Ok(())
    }
}
