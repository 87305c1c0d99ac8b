//! `delete host:path vm datastore`: first each disk, then the VM's folder. What is gone is
//! deleted.

use anyhow::bail;
use onedock_common::answer::Answer;

use super::target;
use crate::message::Task;
use crate::remote::{self, Payload};

pub(crate) async fn run(arguments: &[String]) -> anyhow::Result<Answer> {
    let [path, vm, ..] = arguments else {
        bail!(
            "delete needs <host:path> <vm> <datastore>, got {} arguments",
            arguments.len()
        );
    };
    let target = target(path, vm)?;
    remote::call(
        &target.location.host,
        Task::Delete {
            place: target.place,
        },
        Payload::Nothing,
    )
    .await?;
    Ok(Answer::done())
}
