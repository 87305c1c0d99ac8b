//! `delete host:path vm datastore`: first each disk, then the VM's folder. What is gone is
//! deleted. The host tells where the registry keeps something of the VM's own; that goes first.

use anyhow::bail;
use onedock_common::answer::Answer;

use super::{Front, target};
use crate::message::{Outcome, Task};

pub(super) async fn run(arguments: &[String], front: &Front<'_>) -> anyhow::Result<Answer> {
    let [path, vm, ..] = arguments else {
        bail!(
            "delete needs <host:path> <vm> <datastore>, got {} arguments",
            arguments.len()
        );
    };
    let target = target(path, vm)?;
    let task = |registry_is_clean| Task::Delete {
        place: target.place.clone(),
        system: front.system,
        saved: None,
        registry_is_clean,
    };
    if let Outcome::Held(held) = target.call(task(false)).await? {
        let images = front.images()?;
        for held in held {
            let of = (target.place.vm(), held.disk);
            images.remove_disk(&held.repository, of).await?;
        }
        target.call(task(true)).await?;
    }
    Ok(Answer::done())
}
