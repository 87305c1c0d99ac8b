//! Which container a disk is, and its removal. The VM's container is its root disk; a further
//! image is a container that never runs, the tree. Labels decide, never the name alone.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use onedock_common::engine::labels;
use onedock_common::engine::{self, ContainerInfo, Engine, EngineError};
use onedock_common::state::boot::BootSpec;
use onedock_common::state::descriptor::{Descriptor, DiskKind};
use onedock_common::state::{journal, vm_folder};
use onedock_common::wait;
use onedock_common::{ContainerId, ContainerName, DiskId, VmId};
use onedock_node::client::{forget_layer, settle};

use super::NodeContext;
use crate::location::VmPath;

/// How long one that was killed may take to end.
const ENDING: Duration = Duration::from_secs(30);

/// Whether the descriptor can be trusted to name its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DescriptorState {
    /// It was read, or there is none.
    Valid,
    /// It is damaged: a container may be there.
    Damaged,
}

/// The descriptor of a disk that must be a container.
pub(crate) fn descriptor(disk: &VmPath) -> Result<Descriptor> {
    let path = disk.to_path_buf();
    match Descriptor::find(&path)? {
        Some(DiskKind::Container(descriptor)) => {
            ensure!(
                descriptor.vm == disk.vm(),
                "{} belongs to VM {}",
                path.display(),
                descriptor.vm
            );
            Ok(*descriptor)
        }
        _ => bail!(
            "{} is not there, or not the disk of a container",
            path.display()
        ),
    }
}

/// Whether a disk in the VM's folder is a container for which `matches` holds. One whose descriptor
/// cannot be read may be.
pub(crate) fn any_in_folder(folder: &Path, matches: fn(&Descriptor) -> bool) -> Result<bool> {
    let mut disks = vm_folder::disks(folder)?.into_iter();
    Ok(disks.any(
        |disk| match Descriptor::find(&vm_folder::disk(folder, disk)) {
            Ok(Some(DiskKind::Container(descriptor))) => matches(&descriptor),
            Ok(_) => false,
            Err(_) => true,
        },
    ))
}

/// The container that holds the disk's changes; `None` before the first `deploy`, and after the
/// disk came from elsewhere.
pub(crate) async fn of_disk<E: Engine>(
    node: &NodeContext<'_, E>,
    descriptor: &Descriptor,
) -> Result<Option<ContainerInfo>> {
    let Some(id) = &descriptor.container else {
        return Ok(None);
    };
    let container = node.engine.container(id).await?.with_context(|| {
        format!(
            "the Docker engine does not have the container {}, which is disk {}: it was removed, or the engine's image store or folder was changed; change it back to keep the disk",
            id.short(),
            descriptor.disk
        )
    })?;
    ensure!(
        labels::is_disk(&container, descriptor.vm, descriptor.disk)
            || labels::is_tree(&container, descriptor.vm, descriptor.disk),
        "the container {} that disk {} names is not VM {}'s",
        id.short(),
        descriptor.disk,
        descriptor.vm
    );
    Ok(Some(container))
}

/// The VM's own container, which runs and writes to all of its disks. Where there is no engine,
/// nothing runs.
pub(crate) async fn of_vm<E: Engine>(
    node: &NodeContext<'_, E>,
    vm: VmId,
) -> Result<Option<ContainerInfo>> {
    match engine::own(&node.engine, vm).await {
        Ok(found) => Ok(found),
        Err(e) if node.has_no_engine(&e) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Ends a suspended VM, whose memory cannot be moved: KILL waits in the frozen processes.
pub(crate) async fn end<E: Engine>(
    node: &NodeContext<'_, E>,
    container: &ContainerInfo,
) -> Result<()> {
    node.engine.kill(&container.id).await?;
    let ended = wait::until_async(ENDING, async || -> Result<_> {
        let found = node.engine.container(&container.id).await?;
        Ok((!found.is_some_and(|c| c.running)).then_some(()))
    });
    ended
        .await?
        .with_context(|| format!("the suspended VM did not end within {} s", ENDING.as_secs()))
}

/// Removes the containers of a disk: the one that is known, and those that are found by name and
/// labels, also when the engine still makes them for a `deploy` that was cut off.
pub(crate) async fn remove_all<E: Engine>(
    node: &NodeContext<'_, E>,
    (vm, disk): (VmId, DiskId),
    id: Option<&ContainerId>,
    state: DescriptorState,
) -> Result<()> {
    if let Some(id) = id {
        remove(node, vm, id).await?;
    }
    let root = journal::on_its_way(&node.paths, vm, disk);
    let name = ContainerName::of(vm);
    if let Some(found) = by_name(node, name, root, state).await?
        && labels::is_disk(&found, vm, disk)
    {
        remove(node, vm, &found.id).await?;
    }
    if root.is_some() {
        journal::settled(&node.paths, vm)?;
    }
    let tree = journal::tree::on_its_way(&node.paths, vm, disk);
    let name = ContainerName::of_tree(vm, disk);
    if let Some(found) = by_name(node, name, tree, state).await?
        && labels::is_tree(&found, vm, disk)
    {
        remove(node, vm, &found.id).await?;
    }
    journal::tree::settled(&node.paths, vm, disk)?;
    Ok(())
}

/// The container of a name; one that is on its way is waited for.
async fn by_name<E: Engine>(
    node: &NodeContext<'_, E>,
    name: ContainerName,
    on_its_way: Option<Duration>,
    state: DescriptorState,
) -> Result<Option<ContainerInfo>> {
    let mut found = match node.engine.named(name).await {
        Ok(found) => found,
        // What was read and names none, with none on its way, has none: no engine is needed.
        Err(e @ EngineError::Unreachable { .. })
            if on_its_way.is_none()
                && (state == DescriptorState::Valid || node.has_no_engine(&e)) =>
        {
            None
        }
        Err(e) => return Err(e.into()),
    };
    if let Some(left) = on_its_way
        && found.is_none()
    {
        found = wait::until_async(left, async || node.engine.named(name).await).await?;
    }
    Ok(found)
}

/// Removes a container of a VM with its boot spec; one that is gone is removed. Where it was started the
/// engine may have forgotten that it runs, and would remove it from beneath its processes.
pub(crate) async fn remove<E: Engine>(
    node: &NodeContext<'_, E>,
    vm: VmId,
    id: &ContainerId,
) -> Result<()> {
    if node.paths.boot_spec(id).exists() && node.helper.is_installed() {
        let died = engine::kill(&node.engine, id).await?;
        settle(&node.helper, vm, id).await?;
        if !died {
            node.engine.kill(id).await?;
        }
    }
    BootSpec::remove(&node.paths, id)?;
    node.engine
        .remove(id)
        .await
        .context("the VM's container cannot be removed")?;
    forget_layer(&node.helper, &node.paths, id).await
}
