//! What is around the work on the file of a disk, which is [`super::volume`]'s.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use onedock_common::engine::{ContainerInfo, Engine};
use onedock_common::state::boot::BootSpec;
use onedock_common::state::descriptor::{Descriptor, Found};
use onedock_node::client::Root as _;
use onedock_node::request::Request;

use super::container::{self, DescriptorState};
use super::volume::{self, Spool};
use super::{NodeContext, freeze, prepare};
use crate::location::VmPath;
use crate::system::System;

/// Whether the disk is a file.
pub(crate) fn is_file(disk: &VmPath) -> Result<bool> {
    Ok(matches!(Descriptor::find(&disk.path())?, Found::File))
}

/// Makes the folder, and removes a container disk of an earlier life of this VM.
pub(crate) async fn clear<E: Engine>(
    node: &NodeContext<'_, E>,
    disk: &VmPath,
    system: System,
) -> Result<PathBuf> {
    let id = disk.disk().context("a disk is made, not a VM's folder")?;
    prepare(disk, system)?;
    let path = disk.path();
    if let Ok(Found::Container(former)) = Descriptor::find(&path) {
        let of = (disk.vm(), id);
        container::remove_all(node, of, former.container.as_ref(), DescriptorState::Valid).await?;
        Descriptor::remove(&path)?;
    }
    Ok(path)
}

/// A copy of the disk of a running VM, which stands still only while it is made; `None` when the
/// VM does not run.
pub(crate) async fn copied<E: Engine>(
    node: &NodeContext<'_, E>,
    disk: &VmPath,
    path: &Path,
) -> Result<Option<Spool>> {
    freeze::during(node, disk.vm(), async |running| match running {
        Some(running) => {
            synchronise(node, disk, &running).await?;
            volume::spool(path).await.map(Some)
        }
        None => Ok(None),
    })
    .await
}

/// What the container has written to the disk is in the file. A disk that it does not have, such as
/// one that was attached to the stopped VM or is swap, nobody writes to.
async fn synchronise<E>(
    node: &NodeContext<'_, E>,
    disk: &VmPath,
    container: &ContainerInfo,
) -> Result<()> {
    let id = disk.disk().context("a disk is kept, not a folder")?;
    let spec = BootSpec::read(&node.paths, &container.id)?;
    if !spec.is_some_and(|spec| spec.disks.iter().any(|d| d.id == id)) {
        return Ok(());
    }
    let request = Request::SyncDisk {
        vm: disk.vm(),
        container: container.id.clone(),
        disk: id,
    };
    node.helper
        .call(&request)
        .await
        .context("what the VM has written to its disk cannot be brought into its file")?;
    Ok(())
}

pub(crate) fn present(disk: &VmPath) -> Result<PathBuf> {
    let path = disk.path();
    ensure!(
        is_file(disk)?,
        "{} is not there, or not a disk in a file; nothing was changed",
        path.display()
    );
    Ok(path)
}
