//! Which disks a VM has in its folder on a host: what a script knows before it decides.

use std::io::BufRead;
use std::path::Path;

use onedock_common::engine::Engine;
use onedock_common::state::descriptor::{Descriptor, DescriptorError, DiskKind};
use onedock_common::state::vm_folder;
use onedock_common::{DiskId, SnapshotId};
use serde::{Deserialize, Serialize};

use crate::location::VmPath;
use crate::node::{NodeContext, sidecar};
use crate::request::Request;

/// List the disks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Inventory {
    pub(crate) path: VmPath,
    /// Left there, if something is there, to find out whether another path leads to it.
    pub(crate) token: Option<String>,
}

/// A disk that is there.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct FoundDisk {
    pub(crate) disk: DiskId,
    /// What it is, or why its descriptor cannot be read.
    pub(crate) kind: Result<DiskKind, String>,
    /// The snapshots of a disk in a file, oldest first.
    pub(crate) snapshots: Vec<SnapshotId>,
}

impl Request for Inventory {
    const NAME: &'static str = "inventory";
    type Reply = Vec<FoundDisk>;

    fn vm_path(&self) -> &VmPath {
        &self.path
    }

    async fn perform<E: Engine>(
        self,
        node: &NodeContext<'_, E>,
        _content: &mut dyn BufRead,
    ) -> anyhow::Result<Vec<FoundDisk>> {
        let vm_path = &self.path;
        let _lock = node.begin(vm_path.vm()).await?;
        if let Some(token) = self.token
            && vm_path.to_path_buf().exists()
        {
            sidecar::leave_token(vm_path, &token)?;
        }
        let mut found = Vec::new();
        for disk in vm_path.disks()? {
            found.extend(find(disk, &vm_path.of_disk(disk).to_path_buf())?);
        }
        Ok(found)
    }
}

fn find(disk: DiskId, path: &Path) -> anyhow::Result<Option<FoundDisk>> {
    let kind = match Descriptor::find(path) {
        Ok(None) => return Ok(None),
        Ok(Some(kind)) => Ok(kind),
        Err(e @ DescriptorError::Io { .. }) => return Err(e.into()),
        Err(e) => Err(e.to_string()),
    };
    let snapshots = match kind {
        Ok(DiskKind::File) => vm_folder::snapshots(path)?,
        _ => Vec::new(),
    };
    Ok(Some(FoundDisk {
        disk,
        kind,
        snapshots,
    }))
}
