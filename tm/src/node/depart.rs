//! A container disk has arrived elsewhere, or its state is in the registry for it to arrive:
//! its container here goes. The descriptor says so first; cut off after that, the next call finds
//! a disk without a container, whose state is the image that it names.

use anyhow::Result;
use onedock_common::ContainerId;
use onedock_common::descriptor::{Descriptor, Found, disk_path};
use onedock_common::engine::Engine;
use onedock_common::extracted;
use onedock_common::reference::Source;

use super::container::{self, Known};
use super::{Node, look, sidecar};
use crate::location::Place;
use crate::message::Outcome;
use crate::system::System;

pub(super) async fn run<E: Engine>(
    node: &Node<'_, E>,
    disk: &Place,
    system: System,
    state: Source,
    container: Option<&ContainerId>,
) -> Result<Outcome> {
    let _lock = node.begin(disk.vm()).await?;
    let path = disk.path();
    let Found::Container(mut descriptor) = Descriptor::find(&path)? else {
        return Ok(Outcome::Done);
    };
    descriptor.image = state;
    descriptor.container = None;
    descriptor.write(&path)?;
    let of = (descriptor.vm, descriptor.disk);
    container::remove_all(node, of, container, Known::Surely).await?;
    extracted::forget_disk(&node.paths, descriptor.vm, descriptor.disk)?;
    sidecar::remove_token(&path)?;
    if !system.is_stock() {
        Descriptor::remove(&path)?;
        sidecar::remove(&path)?;
    } else if !has_container(disk)? {
        // Only the stock script moves the folder, and it knows nothing of the context's files,
        // which may hold passwords.
        extracted::forget(&node.paths, disk.vm())?;
    }
    Ok(Outcome::Done)
}

/// Whether a disk of the VM's folder still has a container on this host. A description that cannot
/// be read may have one.
fn has_container(disk: &Place) -> Result<bool> {
    let folder = Place::try_from(disk.folder().to_owned())?;
    Ok(look::disks(&folder)?.into_iter().any(|disk| {
        match Descriptor::find(&disk_path(folder.folder(), disk)) {
            Ok(Found::Container(descriptor)) => descriptor.container.is_some(),
            Ok(_) => false,
            Err(_) => true,
        }
    }))
}
