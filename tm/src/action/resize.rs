//! `resize host:…/disk.N MB vm datastore`: a disk in a file becomes larger. What a running VM sees
//! of it, and the bound of a container's own layer, are the virtual machine driver's.

use std::io::BufRead;

use onedock_common::disk_file as disks;
use onedock_common::engine::Engine;
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::descriptor::{Descriptor, DiskKind};
use onedock_common::state::disk_image::DiskFormat;
use serde::{Deserialize, Serialize};

use super::{first, size_mib, target};
use crate::location::VmPath;
use crate::node::{NodeContext, container, disk};
use crate::request::Request;

pub(super) async fn run(arguments: &[String]) -> anyhow::Result<Answer> {
    let [disk, size, vm] = first(arguments, "resize needs <host:disk> <MB> <vm> <datastore>")?;
    let target = target(disk, vm)?;
    let request = Resize {
        disk: target.path.clone(),
        size_mib: size_mib(size)?,
    };
    target.call(&request).await?;
    Ok(Answer::done())
}

/// Make a disk in a file larger.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resize {
    pub(crate) disk: VmPath,
    pub(crate) size_mib: u64,
}

impl Request for Resize {
    const NAME: &'static str = "resize";
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
        let kind = Descriptor::find(&self.disk.to_path_buf())?;
        if matches!(kind, Some(DiskKind::Container(_))) {
            // Its layer is bounded by `deploy` and by `resize_disk`.
            return Ok(());
        }
        let path = disk::present(&self.disk)?;
        let vm = container::of_vm(node, self.disk.vm()).await?;
        if !vm.is_some_and(|c| c.running) {
            disk::grow(&path, self.size_mib).await?;
        } else if disks::inspect(&path)?.format == DiskFormat::Raw {
            // What the VM sees of it is `resize_disk`'s, which follows; so is qcow2 as a whole.
            disks::grow_file(&path, self.size_mib << 20).await?;
        }
        Ok(())
    }
}
