//! Disks that are files: what is around the work on the file itself, which is [`super::volume`]'s.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use onedock_common::SnapshotId;
use onedock_common::boot::BootSpec;
use onedock_common::descriptor::{Descriptor, Found};
use onedock_common::disk_image::{DiskFormat, DiskMeta};
use onedock_common::engine::{ContainerInfo, Engine};
use onedock_common::reference::{Repository, Source, Tag};
use onedock_common::secret::Credential;
use onedock_common::volume as disks;
use onedock_node::client::Root as _;
use onedock_node::request::Request;
use onedock_registry::Client;

use super::container::{self, Known};
use super::volume::{self, How, Spool};
use super::{Node, freeze, prepare, sidecar};
use crate::location::Place;
use crate::message::{Kept, Outcome, Running};
use crate::system::System;

/// An image that is a disk.
pub(super) struct Wanted {
    pub(super) image: Source,
    pub(super) meta: DiskMeta,
    pub(super) persistent: bool,
    pub(super) snapshots: Vec<Kept>,
}

pub(super) async fn fetch<E: Engine>(
    node: &Node<'_, E>,
    disk: &Place,
    system: System,
    wanted: Wanted,
) -> Result<Outcome> {
    let _lock = node.begin(disk.vm()).await?;
    let path = clear(node, disk, system).await?;
    if wanted.persistent {
        // Its state gets a name of the VM's own in the registry while it is saved.
        sidecar::note_repository(&path, wanted.image.repository())?;
    }
    // The node's own account: the front-end's, which may push, stays there.
    let client = Client::configured(node.config)?;
    let how = if wanted.persistent {
        How::Link
    } else {
        How::Clone
    };
    volume::fetch(&client, &wanted.image, &wanted.meta, &path, how).await?;
    for Kept { id, image, meta } in wanted.snapshots {
        volume::fetch_snapshot(&client, &image, &meta, &path, id).await?;
    }
    Ok(Outcome::Done)
}

pub(super) async fn make<E: Engine>(
    node: &Node<'_, E>,
    disk: &Place,
    size_mib: u64,
    format: DiskFormat,
) -> Result<Outcome> {
    let _lock = node.begin(disk.vm()).await?;
    let path = clear(node, disk, System::Onedock).await?;
    volume::make(&path, size_mib, format).await?;
    Ok(Outcome::Done)
}

pub(super) async fn make_swap<E: Engine>(
    node: &Node<'_, E>,
    disk: &Place,
    size_mib: u64,
) -> Result<Outcome> {
    let _lock = node.begin(disk.vm()).await?;
    let path = clear(node, disk, System::Onedock).await?;
    volume::make_swap(&path, size_mib).await?;
    Ok(Outcome::Done)
}

/// Makes the folder, and removes a container disk of an earlier life of this VM.
async fn clear<E: Engine>(node: &Node<'_, E>, disk: &Place, system: System) -> Result<PathBuf> {
    let id = disk.disk().context("a disk is made, not a VM's folder")?;
    prepare(disk, system)?;
    let path = disk.path();
    if let Ok(Found::Container(former)) = Descriptor::find(&path) {
        let of = (disk.vm(), id);
        container::remove_all(node, of, former.container.as_ref(), Known::Surely).await?;
        Descriptor::remove(&path)?;
    }
    Ok(path)
}

/// How a disk is kept in the registry.
pub(super) struct Saving {
    pub(super) snapshot: Option<SnapshotId>,
    pub(super) repository: Repository,
    pub(super) tag: Tag,
    pub(super) credential: Option<Credential>,
    pub(super) from: Running,
}

pub(super) async fn save<E: Engine>(
    node: &Node<'_, E>,
    disk: &Place,
    job: Saving,
) -> Result<Outcome> {
    let _lock = node.begin(disk.vm()).await?;
    let path = present(disk)?;
    let Saving {
        snapshot,
        repository,
        tag,
        credential,
        from,
    } = job;
    let client = Client::configured_with(node.config, repository.registry(), credential.as_ref())?;
    let spooled = match (snapshot, from) {
        // What was kept does not change.
        (Some(_), _) => None,
        (None, Running::Refused) => {
            freeze::idle(node, disk.vm(), disk.disk(), None).await?;
            None
        }
        (None, Running::Frozen) => copied(node, disk, &path).await?,
    };
    let digest = match &spooled {
        Some(spool) => volume::save_file(&client, spool.path(), &repository, &tag).await?,
        None => volume::save(&client, &path, snapshot, &repository, &tag).await?,
    };
    Ok(Outcome::Saved { digest })
}

pub(super) async fn snap_create<E: Engine>(
    node: &Node<'_, E>,
    disk: &Place,
    id: SnapshotId,
) -> Result<Outcome> {
    let path = present(disk)?;
    // One that has the id already is of a call that failed in `oned`'s eyes, and is replaced.
    match copied(node, disk, &path).await? {
        Some(spool) => volume::snap_keep(&path, id, &spool)?,
        None => volume::snap_create(&path, id).await?,
    }
    Ok(Outcome::Done)
}

pub(super) async fn snap_revert<E: Engine>(
    node: &Node<'_, E>,
    disk: &Place,
    id: SnapshotId,
) -> Result<Outcome> {
    let path = present(disk)?;
    freeze::stopped(node, disk.vm()).await?;
    volume::snap_revert(&path, id).await?;
    Ok(Outcome::Done)
}

pub(super) async fn resize<E: Engine>(
    node: &Node<'_, E>,
    disk: &Place,
    size_mib: u64,
) -> Result<Outcome> {
    let _lock = node.begin(disk.vm()).await?;
    let path = disk.path();
    if matches!(Descriptor::find(&path)?, Found::Container(_)) {
        // Its layer is bounded by `deploy` and by `resize_disk`.
        return Ok(Outcome::Done);
    }
    let path = present(disk)?;
    let runs = container::of_vm(node, disk.vm())
        .await?
        .is_some_and(|c| c.running);
    if !runs {
        volume::grow(&path, size_mib).await?;
    } else if disks::inspect(&path)?.format == DiskFormat::Raw {
        // What the VM sees of it is `resize_disk`'s, which follows; so is qcow2 as a whole.
        disks::grow_file(&path, size_mib << 20).await?;
    }
    Ok(Outcome::Done)
}

/// A copy of the disk of a running VM, which stands still only while it is made; `None` when the
/// VM does not run.
async fn copied<E: Engine>(node: &Node<'_, E>, disk: &Place, path: &Path) -> Result<Option<Spool>> {
    freeze::during(node, disk.vm(), async |running| match running {
        Some(running) => {
            synchronise(node, disk, &running).await?;
            volume::spool(path).await.map(Some)
        }
        None => Ok(None),
    })
    .await
}

/// What the container has written to the disk is in the file. A disk that it does not have, such as
/// one that was attached to the stopped VM or is swap, nobody writes to.
async fn synchronise<E>(node: &Node<'_, E>, disk: &Place, container: &ContainerInfo) -> Result<()> {
    let id = disk.disk().context("a disk is kept, not a folder")?;
    let spec = BootSpec::read(&node.paths, &container.id)?;
    if !spec.is_some_and(|spec| spec.disks.iter().any(|d| d.id == id)) {
        return Ok(());
    }
    let request = Request::SyncDisk {
        vm: disk.vm(),
        container: container.id.clone(),
        disk: id,
    };
    node.helper
        .call(&request)
        .await
        .context("what the VM has written to its disk cannot be brought into its file")?;
    Ok(())
}

fn present(disk: &Place) -> Result<PathBuf> {
    let path = disk.path();
    ensure!(
        matches!(Descriptor::find(&path)?, Found::File),
        "{} is not there, or not a disk in a file; nothing was changed",
        path.display()
    );
    Ok(path)
}
