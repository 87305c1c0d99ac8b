//! A disk in a file into the registry.

use std::io::BufRead;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use onedock_common::engine::Engine;
use onedock_common::types::reference::{Repository, Tag};
use onedock_common::{Digest, SnapshotId};
use onedock_registry::Client;
use serde::{Deserialize, Serialize};

use super::IfRunning;
use crate::location::VmPath;
use crate::node::{NodeContext, disk, freeze, sidecar};
use crate::request::{Request, TRANSFER};

/// Put a disk in a file, or one of its snapshots, into the registry under a tag.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SaveFile {
    pub(crate) disk: VmPath,
    /// `None`: the disk itself.
    pub(crate) snapshot: Option<SnapshotId>,
    pub(crate) repository: Repository,
    pub(crate) tag: Tag,
    pub(crate) if_running: IfRunning,
}

impl Request for SaveFile {
    const NAME: &'static str = "save_file";
    const DEADLINE: Duration = TRANSFER;
    type Reply = Digest;

    fn vm_path(&self) -> &VmPath {
        &self.disk
    }

    async fn perform<E: Engine>(
        self,
        node: &NodeContext<'_, E>,
        _content: &mut dyn BufRead,
    ) -> anyhow::Result<Digest> {
        let vm_path = &self.disk;
        let _lock = node.begin(vm_path.vm()).await?;
        let path = disk::present(vm_path)?;
        if self.if_running == IfRunning::Refuse {
            ensure_own_image(&path, &self.repository)?;
        }
        let (repository, tag) = (&self.repository, &self.tag);
        let client = Client::configured(node.config)?;
        let spooled = match (self.snapshot, self.if_running) {
            // A snapshot does not change.
            (Some(_), _) => None,
            (None, IfRunning::Refuse) => {
                freeze::idle(node, vm_path.vm(), vm_path.disk(), None).await?;
                None
            }
            (None, IfRunning::Freeze) => disk::spool_running(node, vm_path).await?,
        };
        match &spooled {
            Some(spool) => disk::save_file(&client, spool.path(), repository, tag).await,
            None => disk::save(&client, &path, self.snapshot, repository, tag).await,
        }
    }
}

/// The disk of a persistent image goes back to that image only.
fn ensure_own_image(disk: &Path, repository: &Repository) -> anyhow::Result<()> {
    if let Some(own) = sidecar::repository(disk)? {
        ensure!(
            own == *repository,
            "{} is a disk of the image {own}, not of {repository}; nothing was saved",
            disk.display()
        );
    }
    Ok(())
}
