//! A disk in a file, or what is left of a VM's folder when its disks have moved, from host to host.

use std::io::{self, BufRead};
use std::time::Duration;

use anyhow::{Context as _, Result};
use onedock_common::engine::Engine;
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::extracted;
use serde::{Deserialize, Serialize};

use crate::location::VmPath;
use crate::node::{NodeContext, folder, freeze, prepare, sidecar, vm_folder, volume};
use crate::request::{Arrival, Request, TRANSFER};
use crate::system::System;

/// Write it to standard output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Send {
    pub(crate) place: VmPath,
}

impl Request for Send {
    const NAME: &'static str = "send";
    const DEADLINE: Duration = TRANSFER;
    type Reply = ();

    fn place(&self) -> &VmPath {
        &self.place
    }

    async fn perform<E: Engine>(
        self,
        node: &NodeContext<'_, E>,
        _content: &mut dyn BufRead,
    ) -> anyhow::Result<()> {
        let place = &self.place;
        let _lock = node.begin(place.vm()).await?;
        freeze::stopped(node, place.vm()).await?;
        let mut out = io::stdout().lock();
        match place.disk() {
            Some(_) => volume::send(&place.path(), &mut out),
            None => vm_folder::send(place.folder(), &mut out),
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
    pub(crate) place: VmPath,
    /// What the other host has left in its folder: found here, it is the same folder.
    pub(crate) token: String,
}

impl Request for Receive {
    const NAME: &'static str = "receive";
    const DEADLINE: Duration = TRANSFER;
    type Reply = Arrival;

    fn place(&self) -> &VmPath {
        &self.place
    }

    async fn perform<E: Engine>(
        self,
        node: &NodeContext<'_, E>,
        content: &mut dyn BufRead,
    ) -> anyhow::Result<Arrival> {
        let place = &self.place;
        // Asked without the lock: on the same host the sender holds it.
        if sidecar::is_same_place(&sidecar::base(place), &self.token, System::Onedock)? {
            return Ok(Arrival::SameFolder);
        }
        let _lock = node.begin(place.vm()).await?;
        prepare(place, System::Onedock)?;
        let mut content = content;
        match place.disk() {
            Some(_) => volume::receive(&place.path(), &mut content)?,
            None => vm_folder::receive(place.folder(), &mut content)?,
        }
        Ok(Arrival::Done)
    }
}

/// Remove it after it was received elsewhere.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Discard {
    pub(crate) place: VmPath,
}

impl Request for Discard {
    const NAME: &'static str = "discard";
    type Reply = ();

    fn place(&self) -> &VmPath {
        &self.place
    }

    async fn perform<E: Engine>(
        self,
        node: &NodeContext<'_, E>,
        _content: &mut dyn BufRead,
    ) -> anyhow::Result<()> {
        let place = &self.place;
        let lock = node.begin(place.vm()).await?;
        if place.disk().is_some() {
            let path = place.path();
            volume::remove(&path)?;
            return sidecar::remove(&path);
        }
        folder::remove_path(place.folder())?;
        extracted::forget(&node.paths, place.vm())?;
        lock.forget()
            .context("the VM's lock file cannot be removed")
    }
}
