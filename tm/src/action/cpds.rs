//! `cpds host:…/disk.N SOURCE SNAPSHOT vm datastore`: a disk's present state (snapshot -1), or one
//! of its snapshots, becomes the content of an image that was reserved for it. The VM may run.

use anyhow::{Context as _, bail};
use onedock_common::SnapshotId;
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::descriptor::{Descriptor, DiskKind};
use onedock_common::types::reference::{ImageTag, Source};
use onedock_registry::{Attributes, ImageStore};

use super::save::IfRunning;
use super::save::container::SaveContainer;
use super::save::file::SaveFile;
use super::{FrontEnd, Target, first, target};

pub(super) async fn run(arguments: &[String], front: &FrontEnd<'_>) -> anyhow::Result<Answer> {
    let [disk, to, snapshot, vm] = first(
        arguments,
        "cpds needs <host:disk> <SOURCE> <snapshot> <vm> <datastore>",
    )?;
    let target = target(disk, vm)?;
    let to: Source = to.parse().context("the new image's SOURCE")?;
    let snapshot = match snapshot.as_str() {
        "-1" => None,
        id => Some(id.parse::<SnapshotId>().context("the snapshot's id")?),
    };
    let images = front.images()?;
    let disk_id = target
        .path
        .disk()
        .context("a disk is saved, not a folder")?;
    let temporary = ImageTag::Saving {
        vm: target.path.vm(),
        disk: disk_id,
    };
    let saving = Saving {
        images: &images,
        target: &target,
        to: &to,
        temporary: &temporary,
    };
    let state = match target.present_disk().await? {
        DiskKind::Container(descriptor) => {
            let state = match snapshot {
                None => saving.present(&descriptor).await?,
                Some(id) => saving.snapshot(&descriptor, id).await?,
            };
            saving.attributes(&descriptor).await?;
            state
        }
        DiskKind::File => saving.file(snapshot).await?,
        DiskKind::Folder => bail!("{disk} is not a disk that can be saved"),
    };
    images.verify(&state).await?;
    images.set_current(&to, state.digest()).await?;
    images.untag(to.repository(), &temporary).await?;
    Ok(Answer::done())
}

struct Saving<'a> {
    images: &'a ImageStore,
    target: &'a Target,
    to: &'a Source,
    temporary: &'a ImageTag,
}

impl Saving<'_> {
    async fn present(&self, descriptor: &Descriptor) -> anyhow::Result<Source> {
        let repository = self.to.repository();
        let request = SaveContainer {
            disk: self.target.path.clone(),
            repository: Some(repository.clone()),
            tag: self.temporary.into(),
            comment: format!("disk {} of VM {} saved", descriptor.disk, descriptor.vm),
            if_running: IfRunning::Freeze,
        };
        let saved = self.target.call(&request).await?;
        let saved = saved.context("the disk went while it was saved")?;
        if saved.pushed {
            return Ok(saved.image);
        }
        self.duplicate(&saved.image).await
    }

    async fn snapshot(&self, descriptor: &Descriptor, id: SnapshotId) -> anyhow::Result<Source> {
        let snapshot = descriptor.snapshots.iter().find(|s| s.id == id);
        let snapshot = snapshot.with_context(|| {
            format!(
                "disk {} of VM {} has no snapshot {id}; nothing was saved",
                descriptor.disk, descriptor.vm
            )
        })?;
        self.duplicate(&snapshot.image).await
    }

    async fn duplicate(&self, image: &Source) -> anyhow::Result<Source> {
        let repository = self.to.repository();
        let digest = self
            .images
            .client()
            .duplicate(image, repository, &self.temporary.into())
            .await
            .context("the saved disk cannot be copied within the registry")?;
        Ok(Source::new(repository.clone(), digest))
    }

    async fn file(&self, snapshot: Option<SnapshotId>) -> anyhow::Result<Source> {
        let repository = self.to.repository();
        let request = SaveFile {
            disk: self.target.path.clone(),
            snapshot,
            repository: repository.clone(),
            tag: self.temporary.into(),
            if_running: IfRunning::Freeze,
        };
        let digest = self.target.call(&request).await?;
        Ok(Source::new(repository.clone(), digest))
    }

    /// The image's DOCKERRUN holds for the copy as well.
    async fn attributes(&self, descriptor: &Descriptor) -> anyhow::Result<()> {
        let Some(dockerrun) = &descriptor.dockerrun else {
            return Ok(());
        };
        if self.images.attributes(self.to).await?.dockerrun.is_none() {
            let attributes = Attributes {
                dockerrun: Some(dockerrun.clone()),
            };
            self.images.set_attributes(self.to, &attributes).await?;
        }
        Ok(())
    }
}
