//! The image on the host, and the disk's descriptor.

use std::io::BufRead;
use std::time::Duration;

use anyhow::Context as _;
use onedock_common::engine::Engine;
use onedock_common::state::descriptor::{Descriptor, Snapshot, VERSION};
use onedock_common::types::reference::Source;
use serde::{Deserialize, Serialize};

use crate::location::VmPath;
use crate::node::{NodeContext, container, image, prepare, sidecar};
use crate::request::{Request, TRANSFER};
use onedock_common::types::system_datastore::SystemDatastore;

/// Have the image on the host and write the disk's descriptor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stage {
    pub(crate) disk: VmPath,
    pub(crate) system: SystemDatastore,
    /// The image's current version.
    pub(crate) image: Source,
    /// The image's SOURCE.
    pub(crate) source: Source,
    pub(crate) persistent: bool,
    pub(crate) dockerrun: Option<String>,
    pub(crate) snapshots: Vec<Snapshot>,
}

impl Request for Stage {
    const NAME: &'static str = "stage";
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
        let id = self
            .disk
            .disk()
            .context("an image is staged as a disk, not as a VM's folder")?;
        let _lock = node.begin(self.disk.vm()).await?;
        let path = self.disk.to_path_buf();
        // A second call for a disk that was staged, or a disk of an earlier life of this VM.
        let before = Descriptor::read(&path).ok();
        prepare(&self.disk, self.system)?;
        image::fetch(node, &self.image).await?;
        let image_config = image::config(node, &self.image).await?;
        if let Some(former) = before.and_then(|d| d.container) {
            tracing::warn!(
                container = former.short(),
                "the disk is staged anew, its former container goes"
            );
            container::remove(node, self.disk.vm(), &former).await?;
        }
        if self.persistent {
            // Its snapshots and its state may get names of the VM's own in the registry.
            sidecar::note_repository(&path, self.source.repository())?;
        }
        let descriptor = Descriptor {
            version: VERSION,
            vm: self.disk.vm(),
            disk: id,
            image_config: Some(image_config),
            image: self.image,
            source: self.source,
            persistent: self.persistent,
            dockerrun: self.dockerrun,
            container: None,
            snapshots: self.snapshots,
        };
        Ok(descriptor.write(&path)?)
    }
}
