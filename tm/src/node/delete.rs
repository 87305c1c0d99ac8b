//! What removes a VM's container: the deletion of the disk that it is. In this order: boot spec,
//! the descriptor's word of the container, container with its volumes, files, so that a second
//! call finishes what a first one began (fault 66).

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use onedock_common::boot::BootSpec;
use onedock_common::descriptor::{Descriptor, DescriptorError, disk_path};
use onedock_common::engine::{ContainerInfo, Engine};
use onedock_common::journal;
use onedock_common::labels;
use onedock_common::{ContainerId, ContainerName, DiskId, VmId};
use tokio::time::{Instant, sleep};

use super::Node;
use crate::location::Place;
use crate::message::Outcome;

/// How often a container that is still made is looked for.
const STEP: Duration = Duration::from_millis(20);

pub(super) async fn run<E: Engine>(node: &Node<'_, E>, place: &Place) -> Result<Outcome> {
    let lock = node.lock(place.vm())?;
    match place.disk() {
        Some(disk) => {
            remove_container(node, place.vm(), disk, &place.path()).await?;
            remove_path(&place.path())?;
        }
        None => {
            for disk in disks(place.folder())? {
                remove_container(node, place.vm(), disk, &disk_path(place.folder(), disk)).await?;
            }
            remove_path(place.folder())?;
        }
    }
    if !place.folder().exists() {
        lock.forget()
            .context("the VM's lock file cannot be removed")?;
    }
    Ok(Outcome::Done)
}

fn disks(folder: &Path) -> Result<Vec<DiskId>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("{} cannot be read", folder.display())),
    };
    let mut disks = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if let Some(id) = name
            .to_str()
            .and_then(|n| n.strip_prefix("disk."))
            .and_then(|n| n.parse().ok())
        {
            disks.push(id);
        }
    }
    Ok(disks)
}

/// The container that the descriptor names, and one that has the VM's name and this disk's
/// label without a descriptor.
async fn remove_container<E: Engine>(
    node: &Node<'_, E>,
    vm: VmId,
    disk: DiskId,
    path: &Path,
) -> Result<()> {
    let known = match Descriptor::read(path) {
        Ok(descriptor) => Some(descriptor),
        // Context files, a disk of another kind, or nothing: no container by that name.
        Err(
            DescriptorError::Missing { .. }
            | DescriptorError::Foreign { .. }
            | DescriptorError::Io { .. },
        ) => None,
        Err(e @ DescriptorError::Version { .. }) => return Err(e.into()),
    };
    if let Some(mut descriptor) = known
        && let Some(id) = descriptor.container.take()
    {
        // Forgotten before it goes: a `mvds` that is cut off in its own deletion has saved the
        // disk, and its repetition must not look for the container. By its name and labels it
        // is still found.
        BootSpec::remove(&node.paths, &id)?;
        journal::settled(&node.paths, vm)?;
        descriptor.write(path)?;
        gone(node, &id).await?;
    }
    if let Some(container) = made_meanwhile(node, vm, disk).await?
        && labels::is_disk(&container, vm, disk)
    {
        gone(node, &container.id).await?;
    }
    Ok(())
}

/// The container of the VM's name; one that the engine still makes for a `deploy` that was cut
/// off is waited for.
async fn made_meanwhile<E: Engine>(
    node: &Node<'_, E>,
    vm: VmId,
    disk: DiskId,
) -> Result<Option<ContainerInfo>> {
    let name = ContainerName::of(vm);
    let mut found = node.engine.named(name).await?;
    let Some(left) = journal::on_its_way(&node.paths, vm, disk) else {
        return Ok(found);
    };
    let deadline = Instant::now() + left;
    while found.is_none() && Instant::now() < deadline {
        sleep(STEP).await;
        found = node.engine.named(name).await?;
    }
    journal::settled(&node.paths, vm)?;
    Ok(found)
}

async fn gone<E: Engine>(node: &Node<'_, E>, id: &ContainerId) -> Result<()> {
    node.engine
        .remove(id)
        .await
        .context("the VM's container cannot be removed")?;
    BootSpec::remove(&node.paths, id)?;
    Ok(())
}

fn remove_path(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}
