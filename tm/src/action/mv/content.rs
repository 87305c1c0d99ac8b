//! A disk in a file, or what is left of a VM's folder when its disks have moved, from host to host.

use std::io::{self, BufRead};
use std::time::Duration;

use anyhow::{Context as _, Result};
use onedock_common::engine::Engine;
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::{extracted, files};
use serde::{Deserialize, Serialize};

use crate::location::VmPath;
use crate::node::{NodeContext, disk, folder, freeze, prepare, sidecar};
use crate::request::{Arrival, Request, TRANSFER};
use onedock_common::types::system_datastore::SystemDatastore;

/// Write it to standard output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Send {
    pub(crate) path: VmPath,
}

impl Request for Send {
    const NAME: &'static str = "send";
    const DEADLINE: Duration = TRANSFER;
    type Reply = ();

    fn vm_path(&self) -> &VmPath {
        &self.path
    }

    async fn perform<E: Engine>(
        self,
        node: &NodeContext<'_, E>,
        _content: &mut dyn BufRead,
    ) -> anyhow::Result<()> {
        let vm_path = &self.path;
        let _lock = node.begin(vm_path.vm()).await?;
        freeze::stopped(node, vm_path.vm()).await?;
        let mut out = io::stdout().lock();
        match vm_path.disk() {
            Some(_) => disk::send(&vm_path.to_path_buf(), &mut out),
            None => folder::send(vm_path.folder(), &mut out),
        }
    }

    /// Standard output has the content, and its end mark says that it is whole.
    fn answer((): &()) -> Result<Answer> {
        Ok(Answer::done())
    }
}

/// Read it from standard input.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Receive {
    pub(crate) path: VmPath,
    /// What the other host has left in its folder: found here, it is the same folder.
    pub(crate) token: String,
}

impl Request for Receive {
    const NAME: &'static str = "receive";
    const DEADLINE: Duration = TRANSFER;
    type Reply = Arrival;

    fn vm_path(&self) -> &VmPath {
        &self.path
    }

    async fn perform<E: Engine>(
        self,
        node: &NodeContext<'_, E>,
        content: &mut dyn BufRead,
    ) -> anyhow::Result<Arrival> {
        let vm_path = &self.path;
        // Read without the lock: on the same host the sender holds it.
        if sidecar::is_same_folder(vm_path, &self.token, SystemDatastore::Onedock)? {
            return Ok(Arrival::SameFolder);
        }
        let _lock = node.begin(vm_path.vm()).await?;
        prepare(vm_path, SystemDatastore::Onedock)?;
        let mut content = content;
        match vm_path.disk() {
            Some(_) => disk::receive(&vm_path.to_path_buf(), &mut content)?,
            None => folder::receive(vm_path.folder(), &mut content)?,
        }
        Ok(Arrival::Done)
    }
}

/// Remove it after it was received elsewhere.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Discard {
    pub(crate) path: VmPath,
}

impl Request for Discard {
    const NAME: &'static str = "discard";
    type Reply = ();

    fn vm_path(&self) -> &VmPath {
        &self.path
    }

    async fn perform<E: Engine>(
        self,
        node: &NodeContext<'_, E>,
        _content: &mut dyn BufRead,
    ) -> anyhow::Result<()> {
        let vm_path = &self.path;
        let lock = node.begin(vm_path.vm()).await?;
        if vm_path.disk().is_some() {
            let path = vm_path.to_path_buf();
            disk::remove(&path)?;
            return sidecar::remove(&path);
        }
        files::remove_all(vm_path.folder())?;
        extracted::forget(&node.paths, vm_path.vm())?;
        lock.forget()
            .context("the VM's lock file cannot be removed")
    }
}
