//! `mvds host:…/disk.N SOURCE vm datastore`: a persistent image's changes go back to it.
//!
//! The host pushes the disk's state under a tag of the VM's; the front-end reads it back by its
//! digest; then the tag that holds the image's state moves, in one request of the registry; then
//! the VM's tags go, and the disk. Cut off anywhere, the image is the old version or the new one,
//! whole, and the same call finishes it. Snapshots stay with the image.

use anyhow::{Context as _, bail, ensure};
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::descriptor::DiskKind;
use onedock_common::types::reference::{ImageTag, Source};
use onedock_common::{Digest, DiskId, SnapshotId};
use onedock_registry::ImageStore;

use super::delete::remove::Delete;
use super::save::IfRunning;
use super::save::container::SaveContainer;
use super::save::file::SaveFile;
use super::{FrontEnd, Target, first, target};

pub(super) async fn run(arguments: &[String], front: &FrontEnd<'_>) -> anyhow::Result<Answer> {
    let [disk, source, vm] = first(
        arguments,
        "mvds needs <host:disk> <SOURCE> <vm> <datastore>",
    )?;
    let target = target(disk, vm)?;
    let source: Source = source.parse().context("the image's SOURCE")?;
    let number = target
        .path
        .disk()
        .context("a disk is saved, not a folder")?;
    let images = front.images()?;
    let saving = Saving {
        images: &images,
        target: &target,
        source: &source,
        number,
        tag: ImageTag::disk(target.path.vm(), number),
    };
    let found = target.find_disk(None).await?;
    let state = match found.map(|found| (found.kind, found.snapshots)) {
        // Deleted already: a call before this one has saved it and moved the tag. That deletion
        // takes the container before the file, so the host refuses where only the file is gone.
        None => saving.container().await?,
        Some((Ok(DiskKind::Container(descriptor)), _)) => {
            ensure!(
                descriptor.source.repository() == source.repository(),
                "{} is a disk of the image {}, not of {source}; nothing was saved",
                target.path.to_path_buf().display(),
                descriptor.source,
            );
            saving.container().await?
        }
        Some((Ok(DiskKind::File), snapshots)) => Some(saving.file(&snapshots).await?),
        Some((Ok(DiskKind::Folder), _)) => bail!("{disk} holds context files and cannot be saved"),
        Some((Err(why), _)) => bail!(
            "host {}: {why}; the image has its old content, and the VM's container has its changes",
            target.host.as_str()
        ),
    };
    if let Some(state) = &state {
        images.verify(state).await?;
        if images.current(&source).await? != *state {
            images.set_current(&source, state.digest()).await?;
        }
    }
    let of = (target.path.vm(), number);
    images.remove_disk(source.repository(), of).await?;
    let request = Delete {
        path: target.path.clone(),
        system: front.system,
        saved: state,
        registry_is_clean: true,
    };
    target.call(&request).await?;
    Ok(Answer::done())
}

struct Saving<'a> {
    images: &'a ImageStore,
    target: &'a Target,
    source: &'a Source,
    number: DiskId,
    tag: ImageTag,
}

impl Saving<'_> {
    async fn container(&self) -> anyhow::Result<Option<Source>> {
        let disk = &self.target.path;
        let request = SaveContainer {
            disk: disk.clone(),
            repository: None,
            tag: (&self.tag).into(),
            comment: format!("disk {} of VM {} saved", self.number, disk.vm()),
            if_running: IfRunning::Refuse,
        };
        let saved = self.target.call(&request).await?;
        Ok(saved.map(|saved| saved.image))
    }

    /// First the snapshots, so that the image never names one that the registry lacks.
    async fn file(&self, snapshots: &[SnapshotId]) -> anyhow::Result<Source> {
        for &id in snapshots {
            self.save(Some(id), &ImageTag::Snapshot(id)).await?;
        }
        let digest = self.save(None, &self.tag).await?;
        let repository = self.source.repository();
        for id in self.images.snapshots(repository).await? {
            if !snapshots.contains(&id) {
                let tag = ImageTag::Snapshot(id);
                self.images.untag(repository, &tag).await?;
            }
        }
        Ok(Source::new(repository.clone(), digest))
    }

    async fn save(&self, snapshot: Option<SnapshotId>, tag: &ImageTag) -> anyhow::Result<Digest> {
        let repository = self.source.repository();
        let request = SaveFile {
            disk: self.target.path.clone(),
            snapshot,
            repository: repository.clone(),
            tag: tag.into(),
            if_running: IfRunning::Refuse,
        };
        self.target.call(&request).await
    }
}
