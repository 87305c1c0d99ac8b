//! `mv host:path host:path vm datastore`: each disk, then the VM's folder. Within one host it is
//! a renaming. From host to host, or to the front-end's own folder and back:
//!
//! A container disk goes by the registry. The source pushes its state, we read it back by its
//! digest, the destination fetches it and describes the disk, and only then the source releases
//! its container. A disk in a file goes through the front-end in a stream whose end both sides check, and is
//! then removed at the source. Cut off anywhere, the same call finishes it.
//!
//! In a stock system datastore (`mv.ssh`) the stock `mv` of the folder carries the files, also the
//! descriptor: there it is rewritten where it is, so that it has no container when it arrives.

mod adopt;
mod content;
mod release;
mod rename;

use std::fs;

use anyhow::{Context as _, bail, ensure};
use onedock_common::DiskId;
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::descriptor::{Descriptor, DiskKind};
use onedock_common::types::reference::ImageTag;

pub(super) use self::adopt::Adopt;
pub(super) use self::content::{Discard, Receive, Send};
pub(super) use self::release::Release;
pub(super) use self::rename::Rename;
use super::save::IfRunning;
use super::save::container::SaveContainer;
use super::{FrontEnd, Target, first, target};
use crate::remote;
use crate::request::Arrival;

pub(super) async fn run(arguments: &[String], front: &FrontEnd<'_>) -> anyhow::Result<Answer> {
    let [from, to, vm] = first(
        arguments,
        "mv needs <host:path> <host:path> <vm> <datastore>",
    )?;
    let (from, to) = (target(from, vm)?, target(to, vm)?);
    ensure!(
        from.path.disk() == to.path.disk(),
        "mv names a disk on one side only, or two disks; nothing was moved"
    );
    let one_host = from.host.is_same(&to.host);
    if one_host && from.path == to.path {
        return Ok(Answer::done());
    }
    let moving = Moving { front, from, to };
    match moving.from.path.disk() {
        // The stock scripts rename the folder.
        _ if one_host && front.system.is_stock() => {}
        _ if one_host => {
            let request = Rename {
                from: moving.from.path.clone(),
                to: moving.to.path.clone(),
            };
            moving.from.call(&request).await?;
        }
        Some(_) => moving.disk().await?,
        None => moving.folder().await?,
    }
    Ok(Answer::done())
}

struct Moving<'a> {
    front: &'a FrontEnd<'a>,
    from: Target,
    to: Target,
}

impl Moving<'_> {
    /// The same for one disk of a folder.
    fn of(&self, disk: DiskId) -> Self {
        let inside = |target: &Target| Target {
            host: target.host.clone(),
            path: target.path.of_disk(disk),
        };
        Self {
            front: self.front,
            from: inside(&self.from),
            to: inside(&self.to),
        }
    }

    async fn disk(&self) -> anyhow::Result<()> {
        let token = token()?;
        let Some(found) = self.from.find_disk(Some(&token)).await? else {
            // Moved before, or a disk that has nothing in the folder (FILESYSTEM). One that is
            // lost is reported by the `deploy` that needs it.
            tracing::info!("there is nothing to move");
            return Ok(());
        };
        match found.kind {
            Ok(DiskKind::Container(descriptor)) => self.container(&descriptor, token).await?,
            Ok(DiskKind::File) if self.front.system.is_stock() => {}
            Ok(DiskKind::File) => self.file(token).await?,
            // Context files go with the folder.
            Ok(DiskKind::Folder) => {}
            Err(why) => bail!(
                "host {}: {why}; the disk stays where it is",
                self.from.host.as_str()
            ),
        }
        Ok(())
    }

    async fn folder(&self) -> anyhow::Result<()> {
        // Disks whose own scripts leave them to the folder, as the stock `ssh` does.
        let token = token()?;
        for found in self.from.inventory(Some(&token)).await? {
            if found.kind != Ok(DiskKind::Folder) {
                Box::pin(self.of(found.disk).disk()).await?;
            }
        }
        self.content(token).await
    }

    async fn container(&self, descriptor: &Descriptor, token: String) -> anyhow::Result<()> {
        let request = SaveContainer {
            disk: self.from.path.clone(),
            repository: None,
            tag: (&ImageTag::disk(descriptor.vm, descriptor.disk)).into(),
            comment: format!("disk {} of VM {} moved", descriptor.disk, descriptor.vm),
            if_running: IfRunning::Refuse,
        };
        let Some(saved) = self.from.call(&request).await? else {
            return Ok(());
        };
        if saved.pushed {
            self.front.images()?.verify(&saved.image).await?;
        }
        let container = saved.descriptor.container.clone();
        let descriptor = Descriptor {
            image: saved.image.clone(),
            container: None,
            ..saved.descriptor
        };
        let request = Adopt {
            disk: self.to.path.clone(),
            system: self.front.system,
            descriptor,
            token,
        };
        // Two names of one host: nothing has to move.
        if self.to.call(&request).await? == Arrival::SameFolder {
            return Ok(());
        }
        let request = Release {
            disk: self.from.path.clone(),
            system: self.front.system,
            content: saved.image,
            container,
        };
        self.from.call(&request).await
    }

    /// A disk in a file. The last step of a call that was cut off may still run on the host, and remove
    /// under this call what it has moved whole; nothing else removes a disk in between.
    async fn file(&self, token: String) -> anyhow::Result<()> {
        let Err(error) = self.content(token).await else {
            return Ok(());
        };
        let is_gone = matches!(self.from.find_disk(None).await, Ok(None));
        if is_gone && matches!(self.to.find_disk(None).await, Ok(Some(_))) {
            tracing::info!("the call before has moved the disk: {error:#}");
            return Ok(());
        }
        Err(error)
    }

    /// A disk in a file, or what is left of the folder.
    async fn content(&self, token: String) -> anyhow::Result<()> {
        let sent = Send {
            path: self.from.path.clone(),
        };
        let received = Receive {
            path: self.to.path.clone(),
            token,
        };
        let (from, to) = (&self.from.host, &self.to.host);
        if remote::stream((from, &sent), (to, &received)).await? == Arrival::SameFolder {
            return Ok(());
        }
        let request = Discard {
            path: self.from.path.clone(),
        };
        self.from.call(&request).await
    }
}

/// A random token, another one for each move.
fn token() -> anyhow::Result<String> {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")
        .context("the system gives no random number")?;
    Ok(uuid.trim().to_owned())
}
