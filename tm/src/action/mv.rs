//! `mv host:path host:path vm datastore`: each disk, then the VM's folder. Within one host it is
//! a renaming; the container stays where it is.

use anyhow::{bail, ensure};
use onedock_common::answer::Answer;

use super::target;
use crate::message::Task;
use crate::remote::{self, Payload};

pub(crate) async fn run(arguments: &[String]) -> anyhow::Result<Answer> {
    let [from, to, vm, ..] = arguments else {
        bail!(
            "mv needs <host:path> <host:path> <vm> <datastore>, got {} arguments",
            arguments.len()
        );
    };
    let (from, to) = (target(from, vm)?, target(to, vm)?);
    ensure!(
        from.location.host == to.location.host,
        "moving a VM's disks from {} to {} is not served by onedock {}; the VM stays where it is",
        from.location.host.as_str(),
        to.location.host.as_str(),
        env!("CARGO_PKG_VERSION")
    );
    ensure!(
        from.place.disk() == to.place.disk(),
        "mv names a disk on one side only"
    );
    if from.place != to.place {
        let task = Task::Move {
            from: from.place,
            to: to.place,
        };
        remote::call(&from.location.host, task, Payload::Nothing).await?;
    }
    Ok(Answer::done())
}
