//! The present state of a container disk as an image in the registry: its own layer upon the
//! image that it is based on. Where nothing was changed, the state is that image.

use std::io::BufRead;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use onedock_common::ContainerName;
use onedock_common::engine::labels;
use onedock_common::engine::{ContainerInfo, Engine};
use onedock_common::state::descriptor::{Descriptor, DiskKind};
use onedock_common::types::reference::{Repository, Source, Tag};
use onedock_registry::Client;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

use super::IfRunning;
use crate::location::VmPath;
use crate::node::{NodeContext, container, freeze, layer, sidecar};
use crate::request::{Request, TRANSFER};

/// The most layers of an image: overlay takes 128 of them, some engines fewer. One that would
/// have more is packed as one.
const DEEPEST: usize = 100;

/// Push a container disk as an image under a tag.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SaveContainer {
    pub(crate) disk: VmPath,
    /// Where to; `None`: the image's own repository.
    pub(crate) repository: Option<Repository>,
    pub(crate) tag: Tag,
    /// For the image's history.
    pub(crate) comment: String,
    pub(crate) if_running: IfRunning,
}

/// A container disk as the registry has it.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedContainer {
    /// The disk as it was found.
    pub(crate) descriptor: Descriptor,
    pub(crate) image: Source,
    /// Whether it was pushed now; otherwise it is the image that the disk is based on.
    pub(crate) pushed: bool,
    /// What was pushed, in bytes.
    pub(crate) bytes: u64,
}

impl Request for SaveContainer {
    const NAME: &'static str = "save_container";
    const DEADLINE: Duration = TRANSFER;
    /// `None`: there is no such disk.
    type Reply = Option<SavedContainer>;

    fn vm_path(&self) -> &VmPath {
        &self.disk
    }

    async fn perform<E: Engine>(
        self,
        node: &NodeContext<'_, E>,
        _content: &mut dyn BufRead,
    ) -> anyhow::Result<Option<SavedContainer>> {
        let _lock = node.begin(self.disk.vm()).await?;
        match described(node, &self).await? {
            Some(descriptor) => save(node, &self, descriptor).await.map(Some),
            None => Ok(None),
        }
    }
}

async fn described<E: Engine>(
    node: &NodeContext<'_, E>,
    job: &SaveContainer,
) -> Result<Option<Descriptor>> {
    let path = job.disk.to_path_buf();
    let descriptor = match Descriptor::find(&path)? {
        Some(DiskKind::Container(descriptor)) => *descriptor,
        Some(DiskKind::File | DiskKind::Folder) => {
            bail!("{} is not the disk of a container", path.display())
        }
        None => {
            ensure!(
                !is_left(node, &job.disk).await?,
                "{} is gone and its container is there; put the file back before the disk is saved",
                path.display()
            );
            return Ok(None);
        }
    };
    ensure!(
        descriptor.vm == job.disk.vm(),
        "{} belongs to VM {}",
        path.display(),
        descriptor.vm
    );
    Ok(Some(descriptor))
}

/// Whether the disk's container is there: the VM's own, or a tree.
async fn is_left<E: Engine>(node: &NodeContext<'_, E>, vm_path: &VmPath) -> Result<bool> {
    let (vm, Some(disk)) = (vm_path.vm(), vm_path.disk()) else {
        return Ok(false);
    };
    let own = container::of_vm(node, vm).await?;
    if own.is_some_and(|c| labels::is_disk(&c, vm, disk)) {
        return Ok(true);
    }
    match node.engine.named(ContainerName::of_tree(vm, disk)).await {
        Ok(tree) => Ok(tree.is_some_and(|c| labels::is_tree(&c, vm, disk))),
        Err(e) if node.has_no_engine(&e) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Under the VM's lock.
pub(crate) async fn save<E: Engine>(
    node: &NodeContext<'_, E>,
    job: &SaveContainer,
    descriptor: Descriptor,
) -> Result<SavedContainer> {
    let image = descriptor.image.clone();
    let target = job
        .repository
        .clone()
        .unwrap_or_else(|| image.repository().clone());
    let task = Job {
        node,
        job,
        image: &image,
        target: &target,
    };
    let found = container::of_disk(node, &descriptor).await?;
    // A tree never runs itself; the VM's container writes to it.
    let changed =
        found.filter(|c| c.started_before || labels::is_tree(c, descriptor.vm, descriptor.disk));
    let pushed = match changed {
        Some(container) => {
            if target == *descriptor.source.repository() {
                sidecar::note_repository(&job.disk.to_path_buf(), &target)?;
            }
            task.push(&container).await?
        }
        None => None,
    };
    let (pushed, state, bytes) = match pushed {
        Some((state, bytes)) => (true, state, bytes),
        None => (false, image.clone(), 0),
    };
    Ok(SavedContainer {
        descriptor,
        image: state,
        pushed,
        bytes,
    })
}

struct Job<'a, E> {
    node: &'a NodeContext<'a, E>,
    job: &'a SaveContainer,
    image: &'a Source,
    target: &'a Repository,
}

impl<E: Engine> Job<'_, E> {
    /// The new image and its layer's size; `None` when nothing was changed.
    async fn push(&self, container: &ContainerInfo) -> Result<Option<(Source, u64)>> {
        let vm = self.job.disk.vm();
        if self.job.if_running == IfRunning::Refuse {
            freeze::idle(self.node, vm, self.job.disk.disk(), Some(&container.id)).await?;
        }
        if !self.node.paths.layer_record(&container.id).exists() {
            return self.by_engine(container).await.map(Some);
        }
        let client = self.client()?;
        let depth = match client.depth(self.image).await {
            Ok(depth) => depth,
            // What the image was is gone from the registry; the engine still has its layers.
            Err(e) if e.is_not_found() => return self.by_engine(container).await.map(Some),
            Err(e) => return Err(e).with_context(|| self.unsent()),
        };
        let whole = depth >= DEEPEST;
        let helper = &self.node.helper;
        let pack = || helper.pack_layer(&container.id, whole);
        let spooled = freeze::during(self.node, vm, async |running| match running {
            Some(_) => layer::spool(pack()?, self.job.disk.folder())
                .await
                .map(Some),
            None => Ok(None),
        })
        .await?;
        match spooled {
            Some(file) => self.append(&client, file, whole).await,
            None => self.append(&client, pack()?, whole).await,
        }
    }

    fn client(&self) -> Result<Client> {
        Ok(Client::configured(self.node.config)?)
    }

    async fn append(
        &self,
        client: &Client,
        archive: impl AsyncRead + Send,
        whole: bool,
    ) -> Result<Option<(Source, u64)>> {
        let SaveContainer { tag, comment, .. } = self.job;
        let appended = client
            .append_layer(self.image, self.target, tag, archive, whole, comment)
            .await
            .with_context(|| self.unsent())?;
        let Some(appended) = appended else {
            return Ok(None);
        };
        let state = Source::new(self.target.clone(), appended.digest);
        client
            .check_complete(&state)
            .await
            .with_context(|| format!("{state} was sent and cannot be read back"))?;
        Ok(Some((state, appended.bytes)))
    }

    /// Where no folder of the engine's storage is known that could be packed.
    async fn by_engine(&self, container: &ContainerInfo) -> Result<(Source, u64)> {
        tracing::warn!(
            container = container.id.short(),
            "saved by the engine's commit, which loses extended attributes"
        );
        let (engine, tag) = (&self.node.engine, &self.job.tag);
        let vm = self.job.disk.vm();
        freeze::during(self.node, vm, async |_| {
            engine
                .commit(&container.id, self.target, tag)
                .await
                .context("the VM's changes cannot be made an image")
        })
        .await?;
        let registry = self.target.registry();
        let login = onedock_registry::credential(&self.node.config.auth_file, registry)?;
        let pushed = engine.push(self.target, tag, login.as_ref()).await;
        // The local name goes in any case; the layers stay with the container.
        let untagged = engine.untag(self.target, tag).await;
        let digest = pushed.with_context(|| self.unsent())?;
        untagged?;
        Ok((Source::new(self.target.clone(), digest), 0))
    }

    fn unsent(&self) -> String {
        format!(
            "the VM's changes cannot be sent to registry {}",
            self.target.registry()
        )
    }
}
