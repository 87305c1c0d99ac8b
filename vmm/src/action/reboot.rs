//! `reboot`: stop and start of the same container; the runtime plugs the NICs again.

use anyhow::{Context as _, bail};
use onedock_common::ContainerName;
use onedock_common::answer::Answer;
use onedock_common::engine::{Engine, Watched};
use onedock_common::lock::VmLock;

use super::running::own;
use super::shutdown::{How, end_this};
use super::{LOCK_WAIT, ending};
use crate::Host;
use crate::request::DeployedRequest;
use crate::root::Root;

pub(super) async fn run<E: Engine, R: Root>(
    host: &Host<E, R>,
    request: &DeployedRequest,
) -> anyhow::Result<Answer> {
    let _lock = VmLock::acquire(&host.paths, request.name.vm(), LOCK_WAIT)?;
    again(host, request.name, How::Gently(host.config.stop_grace)).await
}

/// Ends the container and starts it anew.
pub(super) async fn again<E: Engine, R: Root>(
    host: &Host<E, R>,
    name: ContainerName,
    how: How,
) -> anyhow::Result<Answer> {
    let container = own(host, name).await?.with_context(|| {
        format!("the container {name} is not on this host, so it cannot be rebooted")
    })?;
    let ended = end_this(host, name, &container, how).await?;
    host.engine.start(&container.id).await?;
    if host
        .engine
        .watch(&container.id, host.config.deploy_watch)
        .await?
        == Watched::Lives
    {
        return Ok(ended);
    }
    let container = host
        .engine
        .container(&container.id)
        .await?
        .unwrap_or(container);
    bail!(
        "the VM's command ended at once after the reboot, with {}",
        ending::told(&host.engine, &container).await
    )
}
