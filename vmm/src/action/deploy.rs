//! `deploy`: the first one makes the container, every one starts it. A `deploy` that fails undoes
//! what it made itself: a container that it created goes; one that was there before stays,
//! stopped, its layer untouched.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use onedock_common::answer::Answer;
use onedock_common::boot::{self, BootSpec};
use onedock_common::descriptor::{Descriptor, disk_path};
use onedock_common::engine::{ContainerInfo, CreateSpec, Engine, EngineError, ImageInfo, Watched};
use onedock_common::journal;
use onedock_common::labels::is_of_vm;
use onedock_common::lock::VmLock;
use onedock_common::vm::Vm;
use onedock_common::{ContainerId, ContainerName};
use tokio::time::{Instant, sleep, timeout};

use super::{LOCK_WAIT, ending};
use crate::request::DeployRequest;
use crate::{Host, labels, plan};

/// How often a container that the engine still makes is looked for.
const STEP: Duration = Duration::from_millis(10);
/// How long taking back may last: an engine that hangs has had its time before.
const UNDO: Duration = Duration::from_secs(30);

pub(super) async fn run<E: Engine>(
    host: &Host<E>,
    request: &DeployRequest,
    document: &[u8],
) -> anyhow::Result<Answer> {
    let vm = Vm::from_deployment_with(document, host.config.default_prefix)?;
    ensure!(
        vm.id == request.vm,
        "the deployment file describes VM {}, not {}",
        vm.id,
        request.vm
    );
    let _lock = VmLock::acquire(&host.paths, vm.id, LOCK_WAIT)?;
    let deploy = Deploy {
        host,
        request,
        vm: &vm,
    };
    deploy.run().await
}

struct Deploy<'a, E> {
    host: &'a Host<E>,
    request: &'a DeployRequest,
    vm: &'a Vm,
}

/// What is there when `deploy` begins.
enum Found {
    /// No container yet.
    Nothing,
    /// The VM's container.
    Ours(ContainerInfo),
}

impl<E: Engine> Deploy<'_, E> {
    async fn run(&self) -> anyhow::Result<Answer> {
        let name = ContainerName::of(self.vm.id);
        let root = self.vm.root_disk().context(
            "the VM has no disk of an image from a datastore with DS_MAD=onedock; a container is made of such an image",
        )?;
        if let Some(placement) = &self.vm.placement {
            ensure!(
                placement.tm_mad == "onedock",
                "the VM's system datastore {} has TM_MAD={}, which this version of the driver does not serve; use one with TM_MAD=onedock",
                placement.datastore,
                placement.tm_mad
            );
        }
        let path = disk_path(&self.request.system_dir, root.id);
        let mut descriptor = Descriptor::read(&path)?;
        ensure!(
            descriptor.vm == self.vm.id,
            "{} belongs to VM {}",
            path.display(),
            descriptor.vm
        );

        let found = self.find(&descriptor).await?;
        if let Found::Ours(container) = &found {
            // `oned` asks again when an answer was lost: the VM runs, so this is the answer.
            if container.running && !container.paused {
                self.remember(&mut descriptor, &path, &container.id)?;
                return Ok(Answer::line(name.to_string()));
            }
        }
        let image = self.image(&descriptor).await?;
        let boot_id = boot::boot_id().context("this boot of the host cannot be told")?;
        let spec = plan::boot(
            self.vm,
            &descriptor,
            &image,
            &self.host.config,
            &self.request.system_dir,
            &boot_id,
        )?;
        if let Some(folder) = &spec.context {
            ensure!(
                folder.is_dir(),
                "the context files of the VM are not at {}",
                folder.display()
            );
        }

        match found {
            Found::Ours(container) => {
                let notes = self.last_end(&container).await;
                self.resume(&mut descriptor, &path, &container, &spec)
                    .await?;
                Ok(Answer::line(name.to_string()).with_notes(notes))
            }
            Found::Nothing => {
                let id = self.create(&descriptor, &image).await?;
                let started = match self.remember(&mut descriptor, &path, &id) {
                    Ok(()) => self.start(&id, &spec).await,
                    Err(e) => Err(e),
                };
                if let Err(error) = started {
                    return Err(self.undo(&mut descriptor, &path, &id, error).await);
                }
                Ok(Answer::line(name.to_string()))
            }
        }
    }

    /// The container that the descriptor names, else one that an interrupted `deploy` made.
    async fn find(&self, descriptor: &Descriptor) -> anyhow::Result<Found> {
        let engine = &self.host.engine;
        if let Some(id) = &descriptor.container {
            let container = engine.container(id).await?.with_context(|| {
                format!(
                    "the container {} of VM {} was removed behind OpenNebula's back, and its root disk with it; 'onevm recover --recreate' makes a new one",
                    id.short(),
                    self.vm.id
                )
            })?;
            return Ok(Found::Ours(container));
        }
        let name = ContainerName::of(self.vm.id);
        let Some(container) = engine.named(name).await? else {
            return Ok(Found::Nothing);
        };
        ensure!(
            is_of_vm(&container, self.vm.id),
            "the name {name} is taken by a container that is not OpenNebula's ({}); rename or remove it",
            container.id.short()
        );
        if labels::is_made_of(&container, descriptor)
            && (container.running || !container.started_before)
        {
            return Ok(Found::Ours(container));
        }
        // The disk was staged anew after this container had lived: `oned` gave it up.
        tracing::warn!(
            container = container.id.short(),
            "removing the container of an earlier life of this VM"
        );
        engine.remove(&container.id).await?;
        BootSpec::remove(&self.host.paths, &container.id)?;
        Ok(Found::Nothing)
    }

    async fn image(&self, descriptor: &Descriptor) -> anyhow::Result<ImageInfo> {
        self.host
            .engine
            .image(&descriptor.image)
            .await?
            .with_context(|| {
                format!(
                    "the image {} is not on this host; it was removed after it was staged",
                    descriptor.image
                )
            })
    }

    async fn create(
        &self,
        descriptor: &Descriptor,
        image: &ImageInfo,
    ) -> anyhow::Result<ContainerId> {
        let spec = plan::container(self.vm, descriptor, image);
        journal::creating(&self.host.paths, self.vm.id, descriptor.disk).with_context(|| {
            format!(
                "{} cannot be written; run 'onedock setup node' on this host",
                self.host.paths.journal(self.vm.id).display()
            )
        })?;
        let made = self.host.engine.create(&spec).await;
        if matches!(
            made,
            Err(EngineError::Refused { .. } | EngineError::Missing { .. })
        ) {
            journal::settled(&self.host.paths, self.vm.id)?;
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
            Err(EngineError::Conflict { message, .. }) => self.made_meanwhile(&spec, message).await,
            Err(e) => Err(e).context("the container cannot be made"),
        }
    }

    /// The name was free and is taken: the engine still works on the request of a `deploy` that
    /// was cut off, and takes a name some time before the container can be seen. What comes of
    /// it is taken up; where nothing does, the name is free again.
    async fn made_meanwhile(
        &self,
        spec: &CreateSpec,
        taken: String,
    ) -> anyhow::Result<ContainerId> {
        let deadline = Instant::now() + journal::MAKING;
        while Instant::now() < deadline {
            sleep(STEP).await;
            if let Some(container) = self.host.engine.named(spec.name).await? {
                let as_asked = spec
                    .labels
                    .iter()
                    .all(|(key, value)| container.labels.get(key) == Some(value));
                ensure!(
                    as_asked && !container.started_before,
                    "the name {} was taken by another container ({}) while this VM was deployed",
                    spec.name,
                    container.id.short()
                );
                return Ok(container.id);
            }
            match self.host.engine.create(spec).await {
                Err(EngineError::Conflict { .. }) => {}
                made => return made.context("the container cannot be made"),
            }
        }
        bail!("the container cannot be made: {taken}")
    }

    fn remember(
        &self,
        descriptor: &mut Descriptor,
        path: &Path,
        id: &ContainerId,
    ) -> anyhow::Result<()> {
        if descriptor.container.as_ref() != Some(id) {
            descriptor.container = Some(id.clone());
            descriptor.write(path)?;
        }
        // From here on the container is found by the descriptor.
        journal::settled(&self.host.paths, self.vm.id)?;
        Ok(())
    }

    /// What ended the VM since it was last started from here: `oned` hears of it only as
    /// POWEROFF, so it is told to the VM's log now.
    async fn last_end(&self, container: &ContainerInfo) -> Vec<String> {
        if !ending::is_telling(container) {
            return Vec::new();
        }
        vec![format!(
            "deploy: the last run of the VM ended with {}",
            ending::told(&self.host.engine, container).await
        )]
    }

    async fn resume(
        &self,
        descriptor: &mut Descriptor,
        path: &Path,
        container: &ContainerInfo,
        spec: &BootSpec,
    ) -> anyhow::Result<()> {
        self.remember(descriptor, path, &container.id)?;
        let limits = plan::limits(&self.vm.capacity);
        if container.limits != limits {
            self.host
                .engine
                .limit(&container.id, limits)
                .await
                .context("the VM's capacity cannot be set")?;
        }
        let started = self.start(&container.id, spec).await;
        let Err(error) = started else { return Ok(()) };
        // An answer that was lost may have left it running, while `oned` believes it is not.
        let stopped = async { Ok(self.host.engine.kill(&container.id).await?) };
        Err(taken_back(error, stopped).await)
    }

    /// Starts, and watches the first process for a short time: what dies in it never ran.
    async fn start(&self, id: &ContainerId, spec: &BootSpec) -> anyhow::Result<()> {
        let engine = &self.host.engine;
        spec.write(&self.host.paths, id).with_context(|| {
            format!(
                "the boot spec cannot be written to {}; run 'onedock setup node' on this host",
                self.host.paths.boot_dir().display()
            )
        })?;
        engine.start(id).await?;
        if engine.watch(id, self.host.config.deploy_watch).await? == Watched::Lives {
            return Ok(());
        }
        let container = engine
            .container(id)
            .await?
            .context("the container vanished while it was started")?;
        bail!(
            "the VM's command ended at once with {}",
            ending::told(engine, &container).await
        )
    }

    /// Takes back a container that this call made.
    async fn undo(
        &self,
        descriptor: &mut Descriptor,
        path: &Path,
        id: &ContainerId,
        error: anyhow::Error,
    ) -> anyhow::Error {
        let removed = async {
            self.host.engine.remove(id).await?;
            BootSpec::remove(&self.host.paths, id)?;
            descriptor.container = None;
            descriptor.write(path)?;
            Ok(())
        };
        taken_back(error, removed).await
    }
}

/// The error that a `deploy` ends with; it tells both if taking back fails too.
async fn taken_back(
    error: anyhow::Error,
    undo: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Error {
    let also = match timeout(UNDO, undo).await {
        Ok(Ok(())) => return error,
        Ok(Err(also)) => format!("{also:#}"),
        Err(_) => format!(
            "the Docker engine did not answer within {} s",
            UNDO.as_secs()
        ),
    };
    anyhow::anyhow!("{error:#}; and what this call did could not be taken back: {also}")
}
