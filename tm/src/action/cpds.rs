//! `cpds host:…/disk.N SOURCE SNAPSHOT vm datastore`: a disk's present state (snapshot -1), or one
//! of its snapshots, becomes the content of an image that was reserved for it. The VM may run.

use anyhow::{Context as _, bail};
use onedock_common::SnapshotId;
use onedock_common::answer::Answer;
use onedock_common::descriptor::Descriptor;
use onedock_common::kept::Attributes;
use onedock_common::reference::{Source, Tag};
use onedock_registry::Client;

use super::{Front, Target, kept, target};
use crate::image;
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
    let client = front.client()?;
    let number = target
        .place
        .disk()
        .context("a disk is saved, not a folder")?;
    let temporary: Tag = format!("saving-vm-{}-disk-{number}", target.place.vm()).parse()?;
    let saving = Saving {
        front,
        client: &client,
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
    kept::verify(&client, &state).await?;
    kept::set_state(&client, &to, &state).await?;
    kept::untag(&client, to.repository(), &temporary).await?;
    Ok(Answer::done())
}

struct Saving<'a> {
    front: &'a Front<'a>,
    client: &'a Client,
    target: &'a Target,
    to: &'a Source,
    temporary: &'a Tag,
}

impl Saving<'_> {
    async fn present(&self, descriptor: &Descriptor) -> anyhow::Result<Source> {
        let repository = self.to.repository();
        let task = Task::Pack(Pack {
            disk: self.target.place.clone(),
            repository: Some(repository.clone()),
            tag: self.temporary.clone(),
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
            .client
            .duplicate(image, repository, self.temporary)
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
            tag: self.temporary.clone(),
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
        let kept = image::attributes(self.client, self.to).await?;
        if kept.dockerrun.is_some() {
            return Ok(());
        }
        let attributes = Attributes {
            dockerrun: Some(dockerrun.clone()),
        };
        let json = serde_json::to_vec(&attributes)?;
        self.client
            .put_artifact(
                self.to.repository(),
                &Attributes::tag()?,
                Attributes::MEDIA_TYPE,
                &json,
            )
            .await
            .context("the attributes of the image cannot be kept")?;
        Ok(())
    }
}
