//! `mkswap SIZE host:…/disk.N vm datastore`: a swap disk in a file.

use std::io::BufRead;

use onedock_common::engine::Engine;
use onedock_common::opennebula::answer::Answer;
use serde::{Deserialize, Serialize};

use super::{first, size_mib, target};
use crate::location::VmPath;
use crate::node::{NodeContext, disk};
use crate::request::Request;
use onedock_common::types::system_datastore::SystemDatastore;

pub(super) async fn run(arguments: &[String]) -> anyhow::Result<Answer> {
    let [size, disk, vm] = first(arguments, "mkswap needs <MB> <host:disk> <vm> <datastore>")?;
    let target = target(disk, vm)?;
    let request = MakeSwap {
        disk: target.path.clone(),
        size_mib: size_mib(size)?,
    };
    target.call(&request).await?;
    Ok(Answer::done())
}

/// Make a swap disk in a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MakeSwap {
    disk: VmPath,
    size_mib: u64,
}

impl Request for MakeSwap {
    const NAME: &'static str = "make_swap";
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
        disk::make_swap(&path, self.size_mib).await
    }
}
