//! A container disk comes from another host: its state is fetched from the registry and described;
//! the next `deploy` makes the container.

use std::io::BufRead;
use std::time::Duration;

use anyhow::Context as _;
use onedock_common::engine::Engine;
use onedock_common::state::descriptor::Descriptor;
use serde::{Deserialize, Serialize};

use crate::location::VmPath;
use crate::node::container::{self, DescriptorState};
use crate::node::{NodeContext, image, prepare, sidecar};
use crate::request::{Arrival, Request, TRANSFER};
use onedock_common::types::system_datastore::SystemDatastore;

/// Have the content here that another host has pushed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Adopt {
    pub(crate) disk: VmPath,
    pub(crate) system: SystemDatastore,
    pub(crate) descriptor: Descriptor,
    /// What the other host has left in its folder: found here, it is the same folder.
    pub(crate) token: String,
}

impl Request for Adopt {
    const NAME: &'static str = "adopt";
    const DEADLINE: Duration = TRANSFER;
    type Reply = Arrival;

    fn vm_path(&self) -> &VmPath {
        &self.disk
    }

    async fn perform<E: Engine>(
        self,
        node: &NodeContext<'_, E>,
        _content: &mut dyn BufRead,
    ) -> anyhow::Result<Arrival> {
        let Self {
            disk,
            system,
            mut descriptor,
            token,
        } = self;
        let id = disk.disk().context("a disk is adopted, not a folder")?;
        let _lock = node.begin(disk.vm()).await?;
        let path = disk.to_path_buf();
        if sidecar::is_same_folder(&disk, &token, system)? {
            return Ok(Arrival::SameFolder);
        }
        let has_engine = match image::fetch(node, &descriptor.image).await {
            // A front-end, where the disk waits for its next host.
            Err(e) if node.lacks_engine(&e) => false,
            other => other.map(|()| true)?,
        };
        // In a stock datastore the stock `mv` carries the folder, with what was written at the
        // source.
        if system.is_stock() {
            return Ok(Arrival::Done);
        }
        prepare(&disk, system)?;
        // An earlier version has staged it; on a front-end there is no engine to ask.
        if descriptor.image_config.is_none() && has_engine {
            descriptor.image_config = Some(image::config(node, &descriptor.image).await?);
        }
        // Of an earlier life of the VM on this host.
        let before = Descriptor::read(&path).ok().and_then(|d| d.container);
        let of = (disk.vm(), id);
        container::remove_all(node, of, before.as_ref(), DescriptorState::Valid).await?;
        sidecar::note_repository(&path, descriptor.source.repository())?;
        descriptor.write(&path)?;
        Ok(Arrival::Done)
    }
}
