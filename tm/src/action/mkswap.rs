//! `mkswap SIZE host:…/disk.N vm datastore`: a swap disk in a file.

use anyhow::bail;
use onedock_common::answer::Answer;

use super::{size_mib, target};
use crate::message::Task;

pub(super) async fn run(arguments: &[String]) -> anyhow::Result<Answer> {
    let [size, disk, vm, ..] = arguments else {
        bail!(
            "mkswap needs <MB> <host:disk> <vm> <datastore>, got {} arguments",
            arguments.len()
        );
    };
    let target = target(disk, vm)?;
    let task = Task::MakeSwap {
        disk: target.place.clone(),
        size_mib: size_mib(size)?,
    };
    target.call(task).await?;
    Ok(Answer::done())
}
