//! A container disk has arrived elsewhere, or its state is in the registry for it to arrive:
//! its container here goes. The descriptor is changed first; cut off after that, the next call finds
//! a disk without a container, whose state is the image that it names.

use std::io::BufRead;

use onedock_common::ContainerId;
use onedock_common::engine::Engine;
use onedock_common::state::descriptor::{Descriptor, DiskKind};
use onedock_common::state::extracted;
use onedock_common::types::reference::Source;
use serde::{Deserialize, Serialize};

use crate::location::VmPath;
use crate::node::container::{self, DescriptorState};
use crate::node::{NodeContext, sidecar};
use crate::request::Request;
use onedock_common::types::system_datastore::SystemDatastore;

/// Remove the container, whose content was pushed and adopted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Release {
    pub(crate) disk: VmPath,
    pub(crate) system: SystemDatastore,
    /// What was pushed.
    pub(crate) content: Source,
    pub(crate) container: Option<ContainerId>,
}

impl Request for Release {
    const NAME: &'static str = "release";
    type Reply = ();

    fn vm_path(&self) -> &VmPath {
        &self.disk
    }

    async fn perform<E: Engine>(
        self,
        node: &NodeContext<'_, E>,
        _content: &mut dyn BufRead,
    ) -> anyhow::Result<()> {
        let disk = &self.disk;
        let _lock = node.begin(disk.vm()).await?;
        let path = disk.to_path_buf();
        let Some(DiskKind::Container(mut descriptor)) = Descriptor::find(&path)? else {
            return Ok(());
        };
        descriptor.image = self.content;
        descriptor.container = None;
        descriptor.write(&path)?;
        let of = (descriptor.vm, descriptor.disk);
        let container = self.container.as_ref();
        container::remove_all(node, of, container, DescriptorState::Valid).await?;
        extracted::forget_disk(&node.paths, descriptor.vm, descriptor.disk)?;
        sidecar::remove_token(&path)?;
        if !self.system.is_stock() {
            Descriptor::remove(&path)?;
            sidecar::remove(&path)?;
        } else if !container::any_in_folder(disk.folder(), |d| d.container.is_some())? {
            // Only the stock script moves the folder, and it knows nothing of the context's
            // files, which may hold passwords.
            extracted::forget(&node.paths, disk.vm())?;
        }
        Ok(())
    }
}
