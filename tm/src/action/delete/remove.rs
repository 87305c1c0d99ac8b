//! What removes a VM's container: the deletion of the disk that it is. In this order: boot spec,
//! the descriptor's mention of the container, container with its volumes, files, so that a second
//! call finishes what a first one began (fault 66).
//!
//! What the registry has of the VM's own is removed before by the front-end half; only the files
//! here say where it is.

use std::io::BufRead;
use std::path::Path;

use anyhow::{Context as _, Result};
use onedock_common::engine::labels;
use onedock_common::engine::{self, Engine, EngineError};
use onedock_common::state::descriptor::{Descriptor, DescriptorError, DiskKind};
use onedock_common::state::{extracted, files, journal, vm_folder};
use onedock_common::types::reference::{Repository, Source};
use onedock_common::{ContainerName, DiskId, VmId};
use serde::{Deserialize, Serialize};

use crate::location::VmPath;
use crate::node::container::{self, DescriptorState};
use crate::node::{NodeContext, disk, sidecar};
use crate::request::Request;
use onedock_common::types::system_datastore::SystemDatastore;

/// Remove a disk or a VM's folder, and the containers behind it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Delete {
    pub(crate) path: VmPath,
    pub(crate) system: SystemDatastore,
    /// What the disk was saved as: its state from now on, should the call be cut off.
    pub(crate) saved: Option<Source>,
    /// The registry holds nothing of the VM's own any more. Otherwise, where it may hold
    /// something, nothing is removed and the reply says where.
    pub(crate) registry_is_clean: bool,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Deletion {
    /// It is gone.
    Done,
    /// Nothing was removed, because the registry may hold something of these disks.
    RegistryFirst(Vec<InRegistry>),
}

/// Where the registry may hold something of a disk.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct InRegistry {
    pub(crate) disk: DiskId,
    pub(crate) repository: Repository,
}

impl Request for Delete {
    const NAME: &'static str = "delete";
    type Reply = Deletion;

    fn vm_path(&self) -> &VmPath {
        &self.path
    }

    async fn perform<E: Engine>(
        self,
        node: &NodeContext<'_, E>,
        _content: &mut dyn BufRead,
    ) -> anyhow::Result<Deletion> {
        let vm_path = &self.path;
        let lock = node.begin(vm_path.vm()).await?;
        let disks = vm_path.disks()?;
        if !self.registry_is_clean {
            let held = in_registry(node, vm_path, &disks).await?;
            if !held.is_empty() {
                return Ok(Deletion::RegistryFirst(held));
            }
        }
        for disk in disks {
            let path = vm_folder::disk(vm_path.folder(), disk);
            remove_disk(node, (vm_path.vm(), disk), &path, self.saved.as_ref()).await?;
        }
        if vm_path.disk().is_none() {
            remove_root(node, vm_path.vm()).await?;
            files::remove_all(vm_path.folder())?;
        }
        if !vm_path.folder().exists()
            || (self.system.is_stock() && !container::any_in_folder(vm_path.folder(), |_| true)?)
        {
            extracted::forget(&node.paths, vm_path.vm())?;
            lock.forget()
                .context("the VM's lock file cannot be removed")?;
        }
        Ok(Deletion::Done)
    }
}

/// Where the registry may hold something of these disks.
async fn in_registry<E: Engine>(
    node: &NodeContext<'_, E>,
    vm_path: &VmPath,
    disks: &[DiskId],
) -> Result<Vec<InRegistry>> {
    let mut held = Vec::new();
    for &disk in disks {
        let path = vm_folder::disk(vm_path.folder(), disk);
        let noted = sidecar::repository(&path)?;
        let repository = match (noted, Descriptor::find(&path)) {
            (Some(repository), _) => Some(repository),
            (None, Ok(Some(DiskKind::Container(d)))) if !d.snapshots.is_empty() => {
                Some(d.source.repository().clone())
            }
            (None, Ok(_)) => None,
            (None, Err(_)) => by_label(node, vm_path.vm(), disk).await?,
        };
        held.extend(repository.map(|repository| InRegistry { disk, repository }));
    }
    Ok(held)
}

/// A damaged descriptor does not say where the image lies; the container's label does.
async fn by_label<E: Engine>(
    node: &NodeContext<'_, E>,
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
    node: &NodeContext<'_, E>,
    (vm, disk): (VmId, DiskId),
    path: &Path,
    saved: Option<&Source>,
) -> Result<()> {
    let (found, state) = match Descriptor::find(path) {
        Ok(found) => (found, DescriptorState::Valid),
        Err(e @ (DescriptorError::Version { .. } | DescriptorError::Io { .. })) => {
            return Err(e.into());
        }
        // Damaged: its container is found by name and labels.
        Err(_) => (None, DescriptorState::Damaged),
    };
    match found {
        Some(DiskKind::Container(mut descriptor)) => {
            let id = descriptor.container.take();
            if let Some(saved) = saved {
                descriptor.image = saved.clone();
            }
            // No longer named before it is removed: a `mvds` that is cut off in its own deletion has
            // saved the disk, and its repetition must not need the container. By its name and labels it
            // is still found.
            if id.is_some() || saved.is_some() {
                descriptor.write(path)?;
            }
            container::remove_all(node, (vm, disk), id.as_ref(), state).await?;
        }
        None => container::remove_all(node, (vm, disk), None, state).await?,
        Some(DiskKind::File | DiskKind::Folder) => {}
    }
    extracted::forget_disk(&node.paths, vm, disk)?;
    if path.is_dir() {
        files::remove_all(path)?;
    } else {
        disk::remove(path)?;
        files::remove_with_leftovers(path)?;
    }
    sidecar::remove(path)
}

/// The VM's container when the descriptor of its disk was gone before.
async fn remove_root<E: Engine>(node: &NodeContext<'_, E>, vm: VmId) -> Result<()> {
    match engine::own(&node.engine, vm).await {
        Ok(Some(found)) => container::remove(node, vm, &found.id).await?,
        // The disks named no container, so none is missed.
        Ok(_) | Err(EngineError::Unreachable { .. }) => {}
        Err(e) => return Err(e.into()),
    }
    journal::settled(&node.paths, vm)?;
    journal::freezing::end(&node.paths, vm)?;
    Ok(())
}
