//! `shutdown`: the image's stop signal, KILL after the grace, success. The container and its root
//! disk stay, for resume, undeploy and terminate alike: what removes them is the transfer
//! manager's `delete` of the disk.

use std::time::Duration;

use onedock_common::answer::Answer;
use onedock_common::boot::BootSpec;
use onedock_common::engine::{ContainerInfo, Engine};
use onedock_common::labels::is_of_vm;
use onedock_common::lock::VmLock;
use onedock_common::{ContainerName, IfName};

use super::{LOCK_WAIT, ending};
use crate::request::DeployedRequest;
use crate::{Host, host_ends};

/// How a running container is ended.
pub(super) enum How {
    /// The stop signal, KILL after this time.
    Gently(Duration),
    /// KILL.
    AtOnce,
}

pub(super) async fn run<E: Engine>(
    host: &Host<E>,
    request: &DeployedRequest,
) -> anyhow::Result<Answer> {
    let _lock = VmLock::acquire(&host.paths, request.name.vm(), LOCK_WAIT)?;
    end(host, request.name, How::Gently(host.config.stop_grace)).await
}

/// Ends the VM's container if it runs, and waits for its host interfaces to go. One that is gone
/// or foreign is not there to be ended.
pub(super) async fn end<E: Engine>(
    host: &Host<E>,
    name: ContainerName,
    how: How,
) -> anyhow::Result<Answer> {
    let Some(container) = own(host, name).await? else {
        return Ok(Answer::done().with_notes(vec![format!("{name} is not on this host any more")]));
    };
    let mut notes = Vec::new();
    if container.running {
        match how {
            How::Gently(grace) => host.engine.stop(&container.id, grace).await?,
            How::AtOnce => host.engine.kill(&container.id).await?,
        }
    } else if ending::is_telling(&container) {
        let told = ending::told(&host.engine, &container).await;
        notes.push(format!("the VM had already ended by itself with {told}"));
    }
    host_ends::gone(name.vm(), &ends(host, &container)).await?;
    Ok(Answer::done().with_notes(notes))
}

/// The VM's container by its name and labels.
pub(super) async fn own<E: Engine>(
    host: &Host<E>,
    name: ContainerName,
) -> anyhow::Result<Option<ContainerInfo>> {
    let found = host.engine.named(name).await?;
    Ok(found.filter(|container| {
        let ours = is_of_vm(container, name.vm());
        if !ours {
            tracing::warn!(
                container = container.id.short(),
                "{name} is a foreign container, left alone"
            );
        }
        ours
    }))
}

/// The host interfaces that its last start plugged. A boot spec that cannot be read names none;
/// the kernel removes them all the same.
fn ends<E>(host: &Host<E>, container: &ContainerInfo) -> Vec<IfName> {
    match BootSpec::read(&host.paths, &container.id) {
        Ok(spec) => spec
            .map(|s| s.nics.into_iter().map(|nic| nic.host).collect())
            .unwrap_or_default(),
        Err(e) => {
            tracing::warn!("{e}");
            Vec::new()
        }
    }
}
