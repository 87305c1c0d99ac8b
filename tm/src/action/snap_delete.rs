//! `snap_delete host:…/disk.N SNAPSHOT vm datastore`. First its tag, then its mention: cut off in
//! between, the next call finishes it. One that is gone is deleted.

use anyhow::{Context as _, bail};
use onedock_common::SnapshotId;
use onedock_common::answer::Answer;
use onedock_common::descriptor::Descriptor;

use super::{Front, kept, target};
use crate::message::{Task, What, image_snapshot_tag, vm_tag};

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
    let client = front.client()?;
    let repository = descriptor.source.repository();
    let own = vm_tag(descriptor.vm, descriptor.disk);
    let tag = if descriptor.persistent {
        image_snapshot_tag(id)?
    } else {
        own.snapshot(id).tag()?
    };
    // The disk stands on it: it stays, under the name of the disk's state.
    if let Some(snapshot) = descriptor.snapshots.iter().find(|s| s.id == id)
        && snapshot.image == descriptor.image
    {
        client
            .tag(repository, snapshot.image.digest(), &own.tag()?)
            .await
            .context("the state that the disk stands on cannot be kept")?;
    }
    kept::untag(&client, repository, &tag).await
}
