//! `snap_revert host:…/disk.N SNAPSHOT vm datastore`: the disk gets the snapshot's
//! content.

use std::io::BufRead;
use std::time::Duration;

use anyhow::{Context as _, Result};
use onedock_common::SnapshotId;
use onedock_common::engine::Engine;
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::descriptor::{Descriptor, Snapshot};
use onedock_registry::Client;
use serde::{Deserialize, Serialize};

use super::{first, target};
use crate::location::VmPath;
use crate::node::container::{self, DescriptorState};
use crate::node::{NodeContext, disk, freeze, image};
use crate::request::{Request, TRANSFER};

pub(super) async fn run(arguments: &[String]) -> anyhow::Result<Answer> {
    let [disk, id, vm] = first(
        arguments,
        "snap_revert needs <host:disk> <snapshot> <vm> <datastore>",
    )?;
    let target = target(disk, vm)?;
    let id: SnapshotId = id.parse().context("the snapshot's id")?;
    let request = SnapRevert {
        disk: target.path.clone(),
        id,
    };
    target.call(&request).await?;
    Ok(Answer::done())
}

/// Make the snapshot the disk's content.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapRevert {
    pub(crate) disk: VmPath,
    pub(crate) id: SnapshotId,
}

impl Request for SnapRevert {
    const NAME: &'static str = "snap_revert";
    const DEADLINE: Duration = TRANSFER;
    type Reply = ();

    fn vm_path(&self) -> &VmPath {
        &self.disk
    }

    async fn perform<E: Engine>(
        self,
        node: &NodeContext<'_, E>,
        _content: &mut dyn BufRead,
    ) -> anyhow::Result<()> {
        let Self { disk, id } = self;
        let _lock = node.begin(disk.vm()).await?;
        if disk::is_file(&disk)? {
            freeze::stopped(node, disk.vm()).await?;
            return disk::snap_revert(&disk.to_path_buf(), id).await;
        }
        let mut descriptor = container::descriptor(&disk)?;
        let image = find(&descriptor, id)?.image.clone();
        freeze::stopped(node, disk.vm()).await?;
        Client::configured(node.config)?
            .check_complete(&image)
            .await
            .with_context(|| {
                format!("snapshot {id} is not in the registry as a whole; nothing was changed")
            })?;
        match image::fetch(node, &image).await {
            // On a front-end, where the disk waits for its next host.
            Err(e) if node.lacks_engine(&e) && descriptor.container.is_none() => {}
            other => other?,
        }
        // The descriptor decides: from here on the disk is the snapshot, and a container that is
        // found by its name is one of before.
        let container = descriptor.container.take();
        descriptor.image = image;
        descriptor.write(&disk.to_path_buf())?;
        let of = (descriptor.vm, descriptor.disk);
        container::remove_all(node, of, container.as_ref(), DescriptorState::Valid).await
    }
}

fn find(descriptor: &Descriptor, id: SnapshotId) -> Result<&Snapshot> {
    let known = || {
        let ids: Vec<String> = descriptor
            .snapshots
            .iter()
            .map(|s| s.id.to_string())
            .collect();
        if ids.is_empty() {
            "none".to_owned()
        } else {
            ids.join(", ")
        }
    };
    descriptor
        .snapshots
        .iter()
        .find(|s| s.id == id)
        .with_context(|| {
            format!(
                "disk {} of VM {} has no snapshot {id}, it has {}; nothing was changed",
                descriptor.disk,
                descriptor.vm,
                known()
            )
        })
}
