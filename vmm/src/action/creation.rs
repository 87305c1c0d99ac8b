//! Making a container for a disk: the VM's own, or the tree of a further disk. What is asked of
//! the engine is noted before, so that whoever deletes the VM finds what a call that was cut off
//! may still bring.

use std::path::Path;

use anyhow::{Context as _, bail};
use onedock_common::engine::labels::is_tree;
use onedock_common::engine::{ContainerInfo, CreateSpec, Engine, EngineError};
use onedock_common::state::descriptor::Descriptor;
use onedock_common::state::journal;
use onedock_common::state::paths::Paths;
use onedock_common::wait;
use onedock_common::{ContainerId, DiskId, VmId};

/// What the container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The VM itself.
    Root,
    /// A container that never runs.
    Tree,
}

/// One container to make.
pub(super) struct ContainerCreation<'a, E> {
    pub(super) engine: &'a E,
    pub(super) paths: &'a Paths,
    pub(super) vm: VmId,
    pub(super) disk: DiskId,
    pub(super) part: Part,
}

impl<E: Engine> ContainerCreation<'_, E> {
    /// Makes it, without a bound where the engine can give it none.
    pub(super) async fn create(&self, mut spec: CreateSpec) -> anyhow::Result<ContainerId> {
        let noted = match self.part {
            Part::Root => journal::creating(self.paths, self.vm, self.disk),
            Part::Tree => journal::tree::creating(self.paths, self.vm, self.disk),
        };
        noted.with_context(|| {
            format!(
                "{} cannot be written; run 'onedock setup node' on this host",
                self.paths.journal(self.vm).display()
            )
        })?;
        let mut made = self.engine.create(&spec).await;
        if let Err(e) = &made
            && spec.storage_mib.is_some()
            && is_unbounded(e)
        {
            spec.storage_mib = None;
            made = self.engine.create(&spec).await;
        }
        if matches!(
            made,
            Err(EngineError::Refused { .. } | EngineError::Missing { .. })
        ) {
            self.settle()?;
        }
        if let Err(EngineError::Refused { message, .. }) = &made
            && let Some(path) = volume_at_file(message)
        {
            bail!(
                "the image has a VOLUME at {path}, which is a file in it, and the Docker Engine makes no container of such an image; take that VOLUME out of it"
            );
        }
        match made {
            Ok(id) => Ok(id),
            Err(EngineError::Refused { message, .. })
                if message.to_ascii_lowercase().contains("unknown runtime")
                    || message.contains("unknown or invalid runtime") =>
            {
                bail!(
                    "the runtime onedock is not registered with this host's Docker engine; run 'onedock setup node' there"
                )
            }
            Err(EngineError::Conflict { message, .. }) => self.taken(&spec, &message).await,
            Err(e) => Err(e).with_context(|| self.failed()),
        }
    }

    fn failed(&self) -> String {
        match self.part {
            Part::Root => "the container cannot be made".to_owned(),
            Part::Tree => format!("the tree of DISK {} cannot be made", self.disk),
        }
    }

    /// The name is taken: of a call that was cut off the engine still works on the request, and
    /// takes a name some time before the container can be seen. What comes of it is taken up;
    /// where nothing does, the name is free again.
    async fn taken(&self, spec: &CreateSpec, message: &str) -> anyhow::Result<ContainerId> {
        let taken = wait::until_async(journal::MAKING, async || {
            if let Some(container) = self.engine.named(spec.name).await? {
                if is_as_asked(&container, spec) {
                    return Ok(Some(container.id));
                }
                if self.part == Part::Root || !is_tree(&container, self.vm, self.disk) {
                    bail!(
                        "the name {} is taken by another container ({}); rename or remove it",
                        spec.name,
                        container.id.short()
                    );
                }
                // The disk was staged anew, of another image or another of its states.
                self.engine.remove(&container.id).await?;
            }
            match self.engine.create(spec).await {
                Err(EngineError::Conflict { .. }) => Ok(None),
                made => made.map(Some).with_context(|| self.failed()),
            }
        });
        taken
            .await?
            .with_context(|| format!("{}: {message}", self.failed()))
    }

    /// Writes into the descriptor which container it is; from then on it is found by that.
    pub(super) fn remember(
        &self,
        descriptor: &mut Descriptor,
        path: &Path,
        id: &ContainerId,
    ) -> anyhow::Result<()> {
        if descriptor.container.as_ref() != Some(id) {
            descriptor.container = Some(id.clone());
            descriptor.write(path)?;
        }
        self.settle()
    }

    fn settle(&self) -> anyhow::Result<()> {
        match self.part {
            Part::Root => journal::settled(self.paths, self.vm)?,
            Part::Tree => journal::tree::settled(self.paths, self.vm, self.disk)?,
        }
        Ok(())
    }
}

fn is_as_asked(container: &ContainerInfo, spec: &CreateSpec) -> bool {
    let labels = &container.labels;
    !container.started_before
        && (spec.labels.iter()).all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether the engine refuses only the bound (overlay2: `--storage-opt is supported only for
/// overlay over xfs with 'pquota' mount option`; vfs: `Filesystem does not support, or has not
/// enabled quotas`).
fn is_unbounded(error: &EngineError) -> bool {
    matches!(error, EngineError::Refused { message, .. } if message.contains("storage-opt") || message.contains("quota"))
}

/// The path of a VOLUME that the engine refuses because it is a file of the image (`cannot mount
/// volume over existing file, file exists <where the engine has mounted the image>/<path>`).
fn volume_at_file(message: &str) -> Option<String> {
    let (_, path) = message.split_once("over existing file, file exists ")?;
    // What the engine has mounted is a folder named by 64 digits, or `merged` in it.
    let mut inside = path.trim().split('/').skip_while(|name| name.len() != 64);
    inside.next()?;
    let inside: Vec<&str> = inside.collect();
    let inside = inside.strip_prefix(&["merged"]).unwrap_or(&inside);
    Some(format!("/{}", inside.join("/")))
}

#[cfg(test)]
mod tests {
    use super::volume_at_file;

    #[test]
    fn a_volume_at_a_file_is_named_as_the_image_has_it() {
        let id = "85528c9fd43d9d374604cab6445de1cf1aa0a2b741454e76ee8447fce8b71181";
        let says = "cannot mount volume over existing file, file exists /var/lib/docker";
        for message in [
            format!("{says}/overlay2/{id}/merged/etc/app.conf"),
            format!("{says}/rootfs/overlayfs/{id}/etc/app.conf"),
        ] {
            assert_eq!(volume_at_file(&message).as_deref(), Some("/etc/app.conf"));
        }
        assert_eq!(volume_at_file("no such image"), None);
        assert_eq!(volume_at_file(&format!("{says}/odd")), None);
    }
}
