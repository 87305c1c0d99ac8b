//! `resize host:…/disk.N MB vm datastore`: a disk in a file becomes larger. What a running VM sees
//! of it, and the bound of a container's own layer, are the virtual machine driver's.

use anyhow::bail;
use onedock_common::answer::Answer;

use super::{size_mib, target};
use crate::message::Task;

pub(super) async fn run(arguments: &[String]) -> anyhow::Result<Answer> {
    let [disk, size, vm, ..] = arguments else {
        bail!(
            "resize needs <host:disk> <MB> <vm> <datastore>, got {} arguments",
            arguments.len()
        );
    };
    let target = target(disk, vm)?;
    let task = Task::Resize {
        disk: target.place.clone(),
        size_mib: size_mib(size)?,
    };
    target.call(task).await?;
    Ok(Answer::done())
}
