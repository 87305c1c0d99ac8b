//! What removes a VM's container: the deletion of the disk that it is. In this order: boot spec,
//! the descriptor's word of the container, container with its volumes, files, so that a second
//! call finishes what a first one began (fault 66).
//!
//! What the registry keeps of the VM's own goes before, by the front-end's half, because only the
//! files here say where it is.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use onedock_common::descriptor::{Descriptor, DescriptorError, Found, disk_path};
use onedock_common::engine::{Engine, EngineError};
use onedock_common::reference::{Repository, Source};
use onedock_common::{ContainerName, DiskId, VmId};
use onedock_common::{extracted, files, journal, labels};

use super::container::{self, Known};
use super::{Node, look, sidecar, volume};
use crate::location::Place;
use crate::message::{Held, Outcome};
use crate::system::System;

/// What is to be removed.
pub(super) struct Removal<'a> {
    pub(super) place: &'a Place,
    pub(super) system: System,
    pub(super) saved: Option<&'a Source>,
    pub(super) registry_is_clean: bool,
}

pub(super) async fn run<E: Engine>(node: &Node<'_, E>, what: Removal<'_>) -> Result<Outcome> {
    let place = what.place;
    let lock = node.begin(place.vm()).await?;
    let disks = look::disks(place)?;
    if !what.registry_is_clean {
        let held = held(node, place, &disks).await?;
        if !held.is_empty() {
            return Ok(Outcome::Held(held));
        }
    }
    for disk in disks {
        let path = disk_path(place.folder(), disk);
        remove_disk(node, (place.vm(), disk), &path, what.saved).await?;
    }
    if place.disk().is_none() {
        remove_root(node, place.vm()).await?;
        remove_path(place.folder())?;
    }
    if !place.folder().exists() || (what.system.is_stock() && !has_container(place)?) {
        extracted::forget(&node.paths, place.vm())?;
        lock.forget()
            .context("the VM's lock file cannot be removed")?;
    }
    Ok(Outcome::Done)
}

/// Where the registry may keep something of these disks.
async fn held<E: Engine>(node: &Node<'_, E>, place: &Place, disks: &[DiskId]) -> Result<Vec<Held>> {
    let mut held = Vec::new();
    for &disk in disks {
        let path = disk_path(place.folder(), disk);
        let noted = sidecar::repository(&path)?;
        let repository = match (noted, Descriptor::find(&path)) {
            (Some(repository), _) => Some(repository),
            (None, Ok(Found::Container(d))) if !d.snapshots.is_empty() => {
                Some(d.source.repository().clone())
            }
            (None, Ok(_)) => None,
            (None, Err(_)) => by_label(node, place.vm(), disk).await?,
        };
        held.extend(repository.map(|repository| Held { disk, repository }));
    }
    Ok(held)
}

/// A damaged descriptor does not say where the image lies; the container's label does.
async fn by_label<E: Engine>(
    node: &Node<'_, E>,
    vm: VmId,
    disk: DiskId,
) -> Result<Option<Repository>> {
    for name in [ContainerName::of(vm), ContainerName::of_tree(vm, disk)] {
        let found = match node.engine.named(name).await {
            Ok(found) => found,
            Err(e) if node.has_no_engine(&e) => None,
            Err(e) => return Err(e.into()),
        };
        let source = found
            .filter(|c| labels::is_disk(c, vm, disk) || labels::is_tree(c, vm, disk))
            .and_then(|c| c.labels.get(labels::SOURCE)?.parse::<Source>().ok());
        if let Some(source) = source {
            return Ok(Some(source.repository().clone()));
        }
    }
    Ok(None)
}

async fn remove_disk<E: Engine>(
    node: &Node<'_, E>,
    (vm, disk): (VmId, DiskId),
    path: &Path,
    saved: Option<&Source>,
) -> Result<()> {
    let (found, known) = match Descriptor::find(path) {
        Ok(found) => (found, Known::Surely),
        Err(e @ (DescriptorError::Version { .. } | DescriptorError::Io { .. })) => {
            return Err(e.into());
        }
        // Damaged: its container is found by name and labels.
        Err(_) => (Found::Nothing, Known::Hardly),
    };
    match found {
        Found::Container(mut descriptor) => {
            let id = descriptor.container.take();
            if let Some(saved) = saved {
                descriptor.image = saved.clone();
            }
            // Forgotten before it goes: a `mvds` that is cut off in its own deletion has saved the
            // disk, and its repetition must not look for the container. By its name and labels it
            // is still found.
            if id.is_some() || saved.is_some() {
                descriptor.write(path)?;
            }
            container::remove_all(node, (vm, disk), id.as_ref(), known).await?;
        }
        Found::Nothing => container::remove_all(node, (vm, disk), None, known).await?,
        Found::File | Found::Folder => {}
    }
    extracted::forget_disk(&node.paths, vm, disk)?;
    if path.is_dir() {
        remove_path(path)?;
    } else {
        volume::remove(path)?;
        files::remove_with_leftovers(path)?;
    }
    sidecar::remove(path)
}

/// The VM's container when the descriptor of its disk was gone before.
async fn remove_root<E: Engine>(node: &Node<'_, E>, vm: VmId) -> Result<()> {
    match node.engine.named(ContainerName::of(vm)).await {
        Ok(Some(found)) if labels::is_of_vm(&found, vm) => {
            container::remove(node, &found.id).await?;
        }
        // The disks named no container, so none is missed.
        Ok(_) | Err(EngineError::Unreachable { .. }) => {}
        Err(e) => return Err(e.into()),
    }
    journal::settled(&node.paths, vm)?;
    journal::freezing::end(&node.paths, vm)?;
    Ok(())
}

/// Whether another disk of the folder is a container.
fn has_container(place: &Place) -> Result<bool> {
    let folder = Place::try_from(place.folder().to_owned())?;
    Ok(look::disks(&folder)?.into_iter().any(|disk| {
        let path = disk_path(place.folder(), disk);
        matches!(Descriptor::find(&path), Ok(Found::Container(_)) | Err(_))
    }))
}

/// Removes a file or folder; one that is gone is removed.
pub(super) fn remove_path(path: &Path) -> Result<()> {
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
