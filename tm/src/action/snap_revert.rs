//! `snap_revert host:…/disk.N SNAPSHOT vm datastore`: the disk is what it was.

use anyhow::{Context as _, bail};
use onedock_common::SnapshotId;
use onedock_common::answer::Answer;

use super::target;
use crate::message::Task;

pub(super) async fn run(arguments: &[String]) -> anyhow::Result<Answer> {
    let [disk, id, vm, ..] = arguments else {
        bail!(
            "snap_revert needs <host:disk> <snapshot> <vm> <datastore>, got {} arguments",
            arguments.len()
        );
    };
    let target = target(disk, vm)?;
    let id: SnapshotId = id.parse().context("the snapshot's id")?;
    let task = Task::SnapRevert {
        disk: target.place.clone(),
        id,
    };
    target.call(task).await?;
    Ok(Answer::done())
}
