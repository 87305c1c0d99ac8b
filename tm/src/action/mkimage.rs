//! `mkimage SIZE FORMAT host:…/disk.N vm datastore`: an empty disk in a file. Its file system is
//! made by `deploy`, which knows DISK/FS.

use std::io::BufRead;

use anyhow::ensure;
use onedock_common::engine::Engine;
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::disk_image::DiskFormat;
use serde::{Deserialize, Serialize};

use super::{first, size_mib, target};
use crate::location::VmPath;
use crate::node::{NodeContext, disk};
use crate::request::Request;
use onedock_common::types::system_datastore::SystemDatastore;

pub(super) async fn run(arguments: &[String]) -> anyhow::Result<Answer> {
    let [size, format, disk, vm] = first(
        arguments,
        "mkimage needs <MB> <format> <host:disk> <vm> <datastore>",
    )?;
    let target = target(disk, vm)?;
    let format: DiskFormat = format.parse()?;
    ensure!(
        format != DiskFormat::Iso,
        "a volatile disk has the format raw or qcow2, not iso"
    );
    let request = MakeDisk {
        disk: target.path.clone(),
        size_mib: size_mib(size)?,
        format,
    };
    target.call(&request).await?;
    Ok(Answer::done())
}

/// Make an empty disk in a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MakeDisk {
    disk: VmPath,
    size_mib: u64,
    format: DiskFormat,
}

impl Request for MakeDisk {
    const NAME: &'static str = "make_disk";
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
        let path = disk::prepare_file(node, &self.disk, SystemDatastore::Onedock).await?;
        disk::make(&path, self.size_mib, self.format).await
    }
}
