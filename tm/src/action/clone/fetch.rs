//! The file of a disk whose image is a disk.

use std::io::BufRead;
use std::time::Duration;

use onedock_common::SnapshotId;
use onedock_common::engine::Engine;
use onedock_common::state::disk_image::DiskMeta;
use onedock_common::types::reference::Source;
use onedock_registry::Client;
use serde::{Deserialize, Serialize};

use crate::location::VmPath;
use crate::node::disk::{self, How};
use crate::node::{NodeContext, sidecar};
use crate::request::{Request, TRANSFER};
use onedock_common::types::system_datastore::SystemDatastore;

/// Make the disk's file of an image that is a disk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fetch {
    pub(crate) disk: VmPath,
    pub(crate) system: SystemDatastore,
    pub(crate) image: Source,
    pub(crate) meta: DiskMeta,
    pub(crate) persistent: bool,
    pub(crate) snapshots: Vec<DiskSnapshot>,
}

/// A snapshot of an image that is a disk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiskSnapshot {
    pub(crate) id: SnapshotId,
    pub(crate) image: Source,
    pub(crate) meta: DiskMeta,
}

impl Request for Fetch {
    const NAME: &'static str = "fetch";
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
        let _lock = node.begin(self.disk.vm()).await?;
        let path = disk::prepare_file(node, &self.disk, self.system).await?;
        if self.persistent {
            // Its state gets a name of the VM's own in the registry while it is saved.
            sidecar::note_repository(&path, self.image.repository())?;
        }
        // The node's own account: the front-end's, which may push, stays there.
        let client = Client::configured(node.config)?;
        let how = if self.persistent {
            How::Link
        } else {
            How::Clone
        };
        disk::fetch(&client, &self.image, &self.meta, &path, how).await?;
        for DiskSnapshot { id, image, meta } in self.snapshots {
            disk::fetch_snapshot(&client, &image, &meta, &path, id).await?;
        }
        Ok(())
    }
}
