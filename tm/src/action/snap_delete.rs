//! `snap_delete host:…/disk.N SNAPSHOT vm datastore`. First its tag, then its mention: cut off in
//! between, the next call finishes it. One that is gone is deleted.

use anyhow::{Context as _, bail};
use onedock_common::SnapshotId;
use onedock_common::answer::Answer;
use onedock_common::descriptor::Descriptor;
use onedock_common::reference::ImageTag;

use super::{Front, target};
use crate::message::{Task, What};

pub(super) async fn run(arguments: &[String], front: &Front<'_>) -> anyhow::Result<Answer> {
    let [disk, id, vm, ..] = arguments else {
        bail!(
            "snap_delete needs <host:disk> <snapshot> <vm> <datastore>, got {} arguments",
            arguments.len()
        );
    };
    let target = target(disk, vm)?;
    let id: SnapshotId = id.parse().context("the snapshot's id")?;
    match target.present_disk().await? {
        What::Container(descriptor) => forget(front, &descriptor, id).await?,
        What::File { .. } => {}
        What::Folder | What::Damaged(_) => bail!("{disk} is not a disk that has snapshots"),
    }
    let task = Task::SnapDelete {
        disk: target.place.clone(),
        id,
    };
    target.call(task).await?;
    Ok(Answer::done())
}

async fn forget(front: &Front<'_>, descriptor: &Descriptor, id: SnapshotId) -> anyhow::Result<()> {
    let images = front.images()?;
    let repository = descriptor.source.repository();
    // The disk stands on it: it stays, under the name of the disk's content.
    if let Some(snapshot) = descriptor.snapshots.iter().find(|s| s.id == id)
        && snapshot.image == descriptor.image
    {
        let own = ImageTag::disk(descriptor.vm, descriptor.disk);
        images
            .tag(repository, snapshot.image.digest(), &own)
            .await
            .context("the snapshot that the disk stands on cannot be kept")?;
    }
    let tag = ImageTag::disk_snapshot(descriptor, id);
    Ok(images.untag(repository, &tag).await?)
}
