//! `snap_create` and `snap_create_live host:…/disk.N SNAPSHOT vm datastore`: the disk's present
//! state is kept. Whether the VM runs is seen on its host.

use anyhow::{Context as _, bail};
use onedock_common::SnapshotId;
use onedock_common::answer::Answer;

use super::{Front, target};
use crate::message::{Task, What};

pub(super) async fn run(arguments: &[String], front: &Front<'_>) -> anyhow::Result<Answer> {
    let [disk, id, vm, ..] = arguments else {
        bail!(
            "snap_create needs <host:disk> <snapshot> <vm> <datastore>, got {} arguments",
            arguments.len()
        );
    };
    let target = target(disk, vm)?;
    let id: SnapshotId = id.parse().context("the snapshot's id")?;
    let credential = match target.present_disk().await? {
        What::Container(descriptor) => {
            front.credential(descriptor.source.repository().registry())?
        }
        What::File { .. } => None,
        What::Folder | What::Damaged(_) => bail!("{disk} is not a disk that has snapshots"),
    };
    let task = Task::SnapCreate {
        disk: target.place.clone(),
        id,
        credential,
    };
    target.call(task).await?;
    Ok(Answer::done())
}
