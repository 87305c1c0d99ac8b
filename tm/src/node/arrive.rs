//! A container disk comes from another host: its state is fetched from the registry and described;
//! the next `deploy` makes the container.

use anyhow::{Context as _, Result};
use onedock_common::descriptor::Descriptor;
use onedock_common::engine::Engine;

use super::container::{self, Known};
use super::{Node, prepare, sidecar, stage};
use crate::location::Place;
use crate::message::Outcome;
use crate::system::System;

pub(super) async fn run<E: Engine>(
    node: &Node<'_, E>,
    disk: &Place,
    system: System,
    descriptor: Descriptor,
    token: &str,
) -> Result<Outcome> {
    let id = disk.disk().context("a disk arrives, not a folder")?;
    let _lock = node.begin(disk.vm()).await?;
    let path = disk.path();
    if sidecar::is_same_place(&path, token, system)? {
        return Ok(Outcome::Same);
    }
    match stage::fetch(node, &descriptor.image).await {
        // A front-end, where the disk waits for its next host.
        Err(e) if node.lacks_engine(&e) => {}
        other => other?,
    }
    // In a stock datastore the stock `mv` carries the folder, with what was written at the source.
    if system.is_stock() {
        return Ok(Outcome::Done);
    }
    prepare(disk, system)?;
    // Of an earlier life of the VM on this host.
    let before = Descriptor::read(&path).ok().and_then(|d| d.container);
    container::remove_all(node, (disk.vm(), id), before.as_ref(), Known::Surely).await?;
    sidecar::note_repository(&path, descriptor.source.repository())?;
    descriptor.write(&path)?;
    Ok(Outcome::Done)
}
