//! A container disk has arrived elsewhere, or its state is in the registry for it to arrive:
//! its container here goes. The descriptor says so first; cut off after that, the next call finds
//! a disk without a container, whose state is the image that it names.

use anyhow::Result;
use onedock_common::ContainerId;
use onedock_common::descriptor::{Descriptor, Found};
use onedock_common::engine::Engine;
use onedock_common::extracted;
use onedock_common::reference::Source;

use super::container::{self, Known};
use super::{Node, sidecar};
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
    }
    Ok(Outcome::Done)
}
