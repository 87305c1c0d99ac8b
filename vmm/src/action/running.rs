//! The VM's container as it is now.

use anyhow::{Context as _, ensure};
use onedock_common::engine::{self, ContainerInfo, Engine};
use onedock_common::opennebula::vm::Vm;
use onedock_common::state::boot::BootSpec;
use onedock_common::{ContainerId, ContainerName, VmId};
use onedock_node::client::{Root, forget_layer, settle};

use crate::Host;

/// The VM's container, thawed where an action that froze it has died.
pub(super) async fn own<E: Engine, R>(
    host: &Host<E, R>,
    name: ContainerName,
) -> anyhow::Result<Option<ContainerInfo>> {
    match engine::own(&host.engine, name.vm()).await? {
        Some(container) => thawed(host, name.vm(), container).await.map(Some),
        None => Ok(None),
    }
}

/// The container, which goes on if a call that has died froze it for the time of a copy.
pub(super) async fn thawed<E: Engine, R>(
    host: &Host<E, R>,
    vm: VmId,
    mut container: ContainerInfo,
) -> anyhow::Result<ContainerInfo> {
    engine::thaw_left(&host.engine, &host.paths, vm, Some(&mut container)).await?;
    Ok(container)
}

/// Removes a container of a VM, and what is noted of it. The engine may have forgotten that it runs.
pub(super) async fn remove<E: Engine, R: Root>(
    host: &Host<E, R>,
    vm: VmId,
    container: &ContainerId,
) -> anyhow::Result<()> {
    let died = engine::kill(&host.engine, container).await?;
    settle(&host.root, vm, container).await?;
    if !died {
        host.engine.kill(container).await?;
    }
    host.engine.remove(container).await?;
    BootSpec::remove(&host.paths, container)?;
    forget_layer(&host.root, &host.paths, container).await
}

/// The VM's container, which has to be on this host.
pub(super) async fn there<E: Engine, R>(
    host: &Host<E, R>,
    name: ContainerName,
) -> anyhow::Result<ContainerInfo> {
    own(host, name)
        .await?
        .with_context(|| format!("the container {name} is not on this host"))
}

/// Refuses a document of another VM than the one that the arguments name.
pub(super) fn ensure_same(vm: &Vm, name: ContainerName) -> anyhow::Result<()> {
    ensure!(
        vm.id == name.vm(),
        "the document describes VM {}, not {}; nothing was done",
        vm.id,
        name.vm()
    );
    Ok(())
}

/// Refuses a VM that does not run, or is suspended.
pub(super) fn ensure_runs(container: &ContainerInfo, vm: VmId) -> anyhow::Result<()> {
    ensure!(
        container.running,
        "VM {vm} does not run any more (exit code {}); its state is reported within a second",
        container.exit_code
    );
    ensure!(
        !container.paused,
        "VM {vm} is suspended; resume it before its devices are changed"
    );
    Ok(())
}

/// The boot spec of a container that was started.
pub(super) fn spec<E, R>(host: &Host<E, R>, container: &ContainerInfo) -> anyhow::Result<BootSpec> {
    BootSpec::read(&host.paths, &container.id)?.with_context(|| {
        format!(
            "there is no boot spec {}; power the VM off and resume it to have it written anew",
            host.paths.boot_spec(&container.id).display()
        )
    })
}

/// Writes it anew, so that the next start has the same.
pub(super) fn keep<E, R>(
    host: &Host<E, R>,
    container: &ContainerInfo,
    spec: &BootSpec,
) -> anyhow::Result<()> {
    spec.write(&host.paths, &container.id).with_context(|| {
        format!(
            "the boot spec cannot be written to {}; run 'onedock setup node' on this host",
            host.paths.boot_dir().display()
        )
    })
}
