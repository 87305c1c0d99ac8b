//! `reboot`: stop and start of the same container; the runtime plugs the NICs again. What the user
//! changed since the last start (`onevm updateconf`, `onevm rename`) counts from now on.

use anyhow::{Context as _, bail};
use onedock_common::ContainerName;
use onedock_common::engine::{ContainerInfo, Engine, Watched};
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::vm::Vm;
use onedock_common::options::OptionError;
use onedock_common::state::lock::VmLock;

use super::running::{self, own};
use super::shutdown::{How, end_this};
use super::start::changed_since;
use super::{LOCK_WAIT, ending};
use crate::request::DeployedRequest;
use crate::{Host, options, plan};
use onedock_node::client::Root;

pub(super) async fn run<E: Engine, R: Root>(
    host: &Host<E, R>,
    request: &DeployedRequest,
    document: &[u8],
) -> anyhow::Result<Answer> {
    let _lock = VmLock::acquire(&host.paths, request.name.vm(), LOCK_WAIT)?;
    let how = How::Gently(host.config.stop_grace);
    again(host, request.name, how, document).await
}

/// Ends the container and starts it anew.
pub(super) async fn again<E: Engine, R: Root>(
    host: &Host<E, R>,
    name: ContainerName,
    how: How,
    document: &[u8],
) -> anyhow::Result<Answer> {
    let container = own(host, name).await?.with_context(|| {
        format!("the container {name} is not on this host, so it cannot be rebooted")
    })?;
    let vm = described(host, name, document);
    if let Ok(vm) = &vm {
        ensure_allowed(host, vm, &container)?;
    }
    let mut ended = end_this(host, name, &container, how).await?;
    if let Err(error) = vm.and_then(|vm| renew(host, &vm, &container)) {
        ended.notes.push(format!(
            "the VM is started as it was before, and changes of its configuration are not in effect: {error:#}"
        ));
    }
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

fn described<E, R>(host: &Host<E, R>, name: ContainerName, document: &[u8]) -> anyhow::Result<Vm> {
    let vm = Vm::from_action_with(document, host.config.default_prefix)?;
    running::ensure_same(&vm, name)?;
    Ok(vm)
}

/// Refuses a start with rights that the VM may have no more, before it is ended.
fn ensure_allowed<E, R>(
    host: &Host<E, R>,
    vm: &Vm,
    container: &ContainerInfo,
) -> anyhow::Result<()> {
    match options::of_container(host, vm, container) {
        Ok(options) => changed_since(container, &options).map(drop),
        Err(error @ OptionError::Forbidden { .. }) => Err(error.into()),
        Err(_) => Ok(()),
    }
}

/// Writes the boot spec anew by the VM's description of now. A VM whose description cannot be used
/// is started all the same: a reset may be all that its user can do.
fn renew<E, R>(host: &Host<E, R>, vm: &Vm, container: &ContainerInfo) -> anyhow::Result<()> {
    let options = options::of_container(host, vm, container)?;
    let mut spec = running::spec(host, container)?;
    plan::renew(&mut spec, vm, &host.config, &options)?;
    spec.drop_capabilities = changed_since(container, &options)?.drop;
    running::keep(host, container, &spec)
}
