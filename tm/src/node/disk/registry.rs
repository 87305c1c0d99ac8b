//! Disks from the registry and to it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use onedock_common::disk_file::{self, Staged};
use onedock_common::state::disk_image::DiskMeta;
use onedock_common::state::vm_folder;
use onedock_common::types::reference::{Repository, Source, Tag};
use onedock_common::{Digest, SnapshotId};
use onedock_registry::Client;

use super::make::of_bytes;
use super::remove::remove_snapshots;
use super::snapshot::{known, make_folder};

/// What the disk becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// A copy beside others of the same image: its file system is another one.
    Clone,
    /// The image itself, which goes back to the registry afterwards.
    Link,
}

/// Makes the disk of an image. It replaces whatever file is there; snapshots of a former disk go.
pub(crate) async fn fetch(
    client: &Client,
    source: &Source,
    meta: &DiskMeta,
    disk: &Path,
    how: How,
) -> Result<()> {
    if meta.blank {
        of_bytes(disk, meta.size, meta.format).await?;
        if let Some(fs) = meta.fs {
            disk_file::make_fs(disk, fs).await?;
        }
        return Ok(());
    }
    let staged = download(client, source, meta, disk).await?;
    if how == How::Clone {
        disk_file::new_fsid(staged.path()).await?;
    }
    remove_snapshots(disk)?;
    Ok(staged.commit(meta.format)?)
}

/// Brings a snapshot of a persistent image beside its disk.
pub(crate) async fn fetch_snapshot(
    client: &Client,
    source: &Source,
    meta: &DiskMeta,
    disk: &Path,
    id: SnapshotId,
) -> Result<()> {
    make_folder(disk)?;
    let file = vm_folder::snapshot(disk, id);
    if meta.blank {
        return of_bytes(&file, meta.size, meta.format).await;
    }
    let staged = download(client, source, meta, &file).await?;
    Ok(staged.commit(meta.format)?)
}

async fn download(
    client: &Client,
    source: &Source,
    meta: &DiskMeta,
    path: &Path,
) -> Result<Staged> {
    let staged = Staged::beside(path)?;
    let found = client
        .get_disk(source, staged.path())
        .await
        .with_context(|| format!("disk {} was not fetched", path.display()))?;
    ensure!(
        found == *meta,
        "{source} describes itself differently than a moment ago"
    );
    // Before anything reads its content.
    staged.declare(meta.format)?;
    // A qcow2 that leads to other files, or one of another size than oned counts.
    let volume = disk_file::inspect_as(staged.path(), meta.format)?;
    ensure!(
        volume.size == meta.size,
        "{source} has a disk of {} bytes and says {}",
        volume.size,
        meta.size
    );
    Ok(staged)
}

/// Pushes the disk, or one of its snapshots, under a tag, as it is.
pub(crate) async fn save(
    client: &Client,
    disk: &Path,
    snapshot: Option<SnapshotId>,
    repository: &Repository,
    tag: &Tag,
) -> Result<Digest> {
    let Some(id) = snapshot else {
        return save_file(client, disk, repository, tag).await;
    };
    known(disk, id)?;
    save_file(client, &vm_folder::snapshot(disk, id), repository, tag).await
}

/// The same of any file of a disk, such as a [`spool`](super::spool()).
pub(crate) async fn save_file(
    client: &Client,
    file: &Path,
    repository: &Repository,
    tag: &Tag,
) -> Result<Digest> {
    let volume = disk_file::inspect(file)?;
    let (_, path) = disk_file::open(file)?;
    let meta = DiskMeta {
        format: volume.format,
        size: volume.size,
        fs: None,
        blank: false,
    };
    client
        .put_disk(&path, repository, tag, &meta)
        .await
        .with_context(|| format!("disk {} was not saved", file.display()))
}
