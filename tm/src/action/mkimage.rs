//! `mkimage SIZE FORMAT host:…/disk.N vm datastore`: an empty disk in a file. Its file system is
//! made by `deploy`, which knows DISK/FS.

use anyhow::{bail, ensure};
use onedock_common::answer::Answer;
use onedock_common::disk_image::DiskFormat;

use super::{size_mib, target};
use crate::message::Task;

pub(super) async fn run(arguments: &[String]) -> anyhow::Result<Answer> {
    let [size, format, disk, vm, ..] = arguments else {
        bail!(
            "mkimage needs <MB> <format> <host:disk> <vm> <datastore>, got {} arguments",
            arguments.len()
        );
    };
    let target = target(disk, vm)?;
    let format: DiskFormat = format.parse()?;
    ensure!(
        format != DiskFormat::Iso,
        "a volatile disk has the format raw or qcow2, not iso"
    );
    let task = Task::Make {
        disk: target.place.clone(),
        size_mib: size_mib(size)?,
        format,
    };
    target.call(task).await?;
    Ok(Answer::done())
}
