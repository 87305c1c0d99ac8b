//! `shutdown`: the image's stop signal, KILL after the grace (at once where the first process
//! ignores that signal), success. The container and its root
//! disk stay, for resume, undeploy and terminate alike: what removes them is the transfer
//! manager's `delete` of the disk.

use std::time::Duration;

use onedock_common::ContainerName;
use onedock_common::engine::{self, ContainerInfo, Engine};
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::boot::BootSpec;
use onedock_common::state::lock::VmLock;
use onedock_node::client::{Root, settle};

use super::running::own;
use super::{LOCK_WAIT, ending};
use crate::request::DeployedRequest;
use crate::{Host, host_ends, signals};

/// How a running container is ended.
pub(super) enum How {
    /// The stop signal, KILL after this time.
    Gently(Duration),
    /// KILL.
    AtOnce,
}

pub(super) async fn run<E: Engine, R: Root>(
    host: &Host<E, R>,
    request: &DeployedRequest,
) -> anyhow::Result<Answer> {
    let _lock = VmLock::acquire(&host.paths, request.name.vm(), LOCK_WAIT)?;
    end(host, request.name, How::Gently(host.config.stop_grace)).await
}

/// Ends the VM's container if it runs, and waits for its host interfaces and its disks to be let
/// go. One that is gone or foreign is not there to be ended.
pub(super) async fn end<E: Engine, R: Root>(
    host: &Host<E, R>,
    name: ContainerName,
    how: How,
) -> anyhow::Result<Answer> {
    match own(host, name).await? {
        Some(container) => end_this(host, name, &container, how).await,
        None => {
            let note = format!("{name} is not on this host any more");
            Ok(Answer::done().with_notes(vec![note]))
        }
    }
}

/// The same for a container that is known.
pub(super) async fn end_this<E: Engine, R: Root>(
    host: &Host<E, R>,
    name: ContainerName,
    container: &ContainerInfo,
    how: How,
) -> anyhow::Result<Answer> {
    let mut notes = Vec::new();
    if container.running {
        if container.paused {
            // No signal reaches a process that is frozen.
            host.engine.unpause(&container.id).await?;
        }
        let died = match how {
            How::Gently(grace) => {
                let signal = container.stop_signal.as_deref();
                let hears = container.pid.is_none_or(|pid| signals::hears(pid, signal));
                let grace = if hears { grace } else { Duration::ZERO };
                match host.engine.stop(&container.id, grace).await {
                    Err(error) if error.is_undying() => false,
                    stopped => stopped.map(|()| true)?,
                }
            }
            How::AtOnce => engine::kill(&host.engine, &container.id).await?,
        };
        if !died {
            // It waits for a disk whose daemon hangs, and ends once root has ended the daemon.
            notes.extend(settle(&host.root, name.vm(), &container.id).await?);
            host.engine.kill(&container.id).await?;
        }
    } else if ending::is_telling(container) {
        let told = ending::told(&host.engine, container).await;
        notes.push(format!("the VM had already ended by itself with {told}"));
    }
    // Whatever the engine believes: its `start` may have been killed. And the transfer manager moves
    // the disks' files next, which must be complete.
    notes.extend(settle(&host.root, name.vm(), &container.id).await?);
    if let Some(spec) = last_spec(host, container) {
        let ends: Vec<_> = spec.nics.into_iter().map(|nic| nic.host).collect();
        notes.extend(host_ends::gone(&host.root, name.vm(), &ends).await?);
    }
    Ok(Answer::done().with_notes(notes))
}

/// What its last start plugged. A boot spec that cannot be read names nothing; the kernel lets go
/// of all the same.
fn last_spec<E, R>(host: &Host<E, R>, container: &ContainerInfo) -> Option<BootSpec> {
    BootSpec::read(&host.paths, &container.id).unwrap_or_else(|e| {
        tracing::warn!("{e}");
        None
    })
}
