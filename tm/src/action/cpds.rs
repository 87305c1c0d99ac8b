//! `cpds host:…/disk.N SOURCE SNAPSHOT vm datastore`: a disk's present state (snapshot -1), or one
//! of its snapshots, becomes the content of an image that was reserved for it. The VM may run.

use anyhow::{Context as _, bail};
use onedock_common::SnapshotId;
use onedock_common::answer::Answer;
use onedock_common::descriptor::Descriptor;
use onedock_common::reference::{ImageTag, Source};
use onedock_registry::{Attributes, ImageStore};

use super::{Front, Target, target};
use crate::message::{Outcome, Pack, Running, Task, What};

pub(super) async fn run(arguments: &[String], front: &Front<'_>) -> anyhow::Result<Answer> {
    let [disk, to, snapshot, vm, ..] = arguments else {
        bail!(
            "cpds needs <host:disk> <SOURCE> <snapshot> <vm> <datastore>, got {} arguments",
            arguments.len()
        );
    };
    let target = target(disk, vm)?;
    let to: Source = to.parse().context("the new image's SOURCE")?;
    let snapshot = match snapshot.as_str() {
        "-1" => None,
        id => Some(id.parse::<SnapshotId>().context("the snapshot's id")?),
    };
    let images = front.images()?;
    let disk_id = target
        .place
        .disk()
        .context("a disk is saved, not a folder")?;
    let temporary = ImageTag::Saving {
        vm: target.place.vm(),
        disk: disk_id,
    };
    let saving = Saving {
        front,
        images: &images,
        target: &target,
        to: &to,
        temporary: &temporary,
    };
    let state = match target.present_disk().await? {
        What::Container(descriptor) => {
            let state = match snapshot {
                None => saving.present(&descriptor).await?,
                Some(id) => saving.snapshot(&descriptor, id).await?,
            };
            saving.attributes(&descriptor).await?;
            state
        }
        What::File { .. } => saving.file(snapshot).await?,
        What::Folder | What::Damaged(_) => bail!("{disk} is not a disk that can be saved"),
    };
    images.verify(&state).await?;
    images.set_current(&to, state.digest()).await?;
    images.untag(to.repository(), &temporary).await?;
    Ok(Answer::done())
}

struct Saving<'a> {
    front: &'a Front<'a>,
    images: &'a ImageStore,
    target: &'a Target,
    to: &'a Source,
    temporary: &'a ImageTag,
}

impl Saving<'_> {
    async fn present(&self, descriptor: &Descriptor) -> anyhow::Result<Source> {
        let repository = self.to.repository();
        let task = Task::Pack(Pack {
            disk: self.target.place.clone(),
            repository: Some(repository.clone()),
            tag: self.temporary.into(),
            comment: format!("disk {} of VM {} saved", descriptor.disk, descriptor.vm),
            credential: self.front.credential(repository.registry())?,
            from: Running::Frozen,
        });
        match self.target.call(task).await? {
            Outcome::State(state) if state.pushed => Ok(state.image),
            Outcome::State(state) => self.duplicate(&state.image).await,
            other => Err(self.target.unexpected(&other)),
        }
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
        let task = Task::Save {
            disk: self.target.place.clone(),
            snapshot,
            repository: repository.clone(),
            tag: self.temporary.into(),
            credential: self.front.credential(repository.registry())?,
            from: Running::Frozen,
        };
        match self.target.call(task).await? {
            Outcome::Saved { digest } => Ok(Source::new(repository.clone(), digest)),
            other => Err(self.target.unexpected(&other)),
        }
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
