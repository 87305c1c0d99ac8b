//! What lies in a VM's folder on a host: asked before a script decides what to do.

use std::io::BufRead;
use std::path::Path;

use anyhow::Result;
use onedock_common::engine::Engine;
use onedock_common::state::descriptor::{Descriptor, DescriptorError, Found, disk_path};
use onedock_common::{DiskId, SnapshotId};
use serde::{Deserialize, Serialize};

use crate::location::VmPath;
use crate::node::{NodeContext, folder, sidecar};
use crate::request::Request;

/// List the disks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Inventory {
    pub(crate) place: VmPath,
    /// Left there, where something is, to find out whether another path leads to it.
    pub(crate) token: Option<String>,
}

/// A disk.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct FoundDisk {
    pub(crate) disk: DiskId,
    pub(crate) kind: DiskKind,
}

/// What a disk is.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum DiskKind {
    /// A container.
    Container(Box<Descriptor>),
    /// A disk in a file.
    File {
        /// Its snapshots, in order.
        snapshots: Vec<SnapshotId>,
    },
    /// A folder of context files.
    Folder,
    /// A descriptor that cannot be read, and why.
    Damaged(String),
}

impl Request for Inventory {
    const NAME: &'static str = "inventory";
    type Reply = Vec<FoundDisk>;

    fn place(&self) -> &VmPath {
        &self.place
    }

    async fn perform<E: Engine>(
        self,
        node: &NodeContext<'_, E>,
        _content: &mut dyn BufRead,
    ) -> anyhow::Result<Vec<FoundDisk>> {
        let place = &self.place;
        let _lock = node.begin(place.vm()).await?;
        if let Some(token) = self.token
            && place.path().exists()
        {
            sidecar::leave_token(&sidecar::base(place), &token)?;
        }
        let mut found = Vec::new();
        for disk in folder::disks(place)? {
            if let Some(kind) = kind(&disk_path(place.folder(), disk))? {
                found.push(FoundDisk { disk, kind });
            }
        }
        Ok(found)
    }
}

fn kind(path: &Path) -> Result<Option<DiskKind>> {
    Ok(match Descriptor::find(path) {
        Ok(Found::Nothing) => None,
        Ok(Found::Container(descriptor)) => Some(DiskKind::Container(descriptor)),
        Ok(Found::File) => Some(DiskKind::File {
            snapshots: folder::snapshots(path)?,
        }),
        Ok(Found::Folder) => Some(DiskKind::Folder),
        Err(e @ DescriptorError::Io { .. }) => return Err(e.into()),
        Err(e) => Some(DiskKind::Damaged(e.to_string())),
    })
}
