//! Starting a VM, for `deploy` and `restore` alike. One that fails undoes what it made itself: a
//! container that it created goes; one that was there before stays, stopped, its layer untouched.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use onedock_common::engine::labels::{is_disk, is_of_vm};
use onedock_common::engine::{ContainerInfo, CreateSpec, Engine, ImageState, Limits, Watched};
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::vm::Vm;
use onedock_common::options::Options;
use onedock_common::state::boot::{self, BootSpec};
use onedock_common::state::descriptor::Descriptor;
use onedock_common::state::vm_folder;
use onedock_common::types::image_config::ImageConfig;
use onedock_common::types::system_datastore::SystemDatastore;
use onedock_common::{ContainerId, ContainerName, DiskId, VmId};
use onedock_node::client::{Root, settle};
use tokio::time::timeout;

use super::bound::bound_new;
use super::creation::{ContainerCreation, Part};
use super::disks::{Disks, Staged};
use super::{context, disks, ending, running};
use crate::plan::disks::{self as planned, PlannedDisk};
use crate::{Host, labels, options, plan};

/// How long taking back may last: an engine that hangs has had its time before.
const UNDO: Duration = Duration::from_secs(30);

/// One start of a VM.
pub(super) struct Start<'a, E, R> {
    pub(super) host: &'a Host<E, R>,
    pub(super) system_dir: &'a Path,
    pub(super) vm: &'a Vm,
}

/// What is there when it begins.
enum Before {
    /// No container yet.
    Nothing,
    /// The VM's container.
    Ours(ContainerInfo),
}

impl<E: Engine, R: Root> Start<'_, E, R> {
    pub(super) async fn run(&self) -> anyhow::Result<Answer> {
        let name = ContainerName::of(self.vm.id).to_string();
        self.ensure_supported()?;
        let mut staged = disks::staged_disks(self.vm, self.system_dir)?;
        let forms: BTreeMap<_, _> = staged.iter().map(|(id, s)| (*id, s.form())).collect();
        let root = planned::root(self.vm, &forms).context(
            "the VM has no disk of an image from a datastore with DS_MAD=onedock; a container is made of such an image",
        )?;
        let Some(Staged::Container(mut descriptor)) = staged.remove(&root) else {
            bail!("DISK {root} is not a container");
        };
        let path = vm_folder::disk(self.system_dir, root);

        let mut before = self.find(&descriptor).await?;
        if let Before::Ours(container) = &before
            && container.running
        {
            // `oned` asks again when an answer was lost: the VM runs, so this is the answer.
            if container.paused {
                self.host.engine.unpause(&container.id).await?;
            }
            self.creation(root)
                .remember(&mut descriptor, &path, &container.id)?;
            return Ok(Answer::line(name));
        }
        let options = options::of(self.host, self.vm, root)?;
        if let Before::Ours(container) = &before
            && !container.started_before
            && labels::made_with(container) != options.engine
        {
            // Of a call that was cut off; it holds nothing yet.
            running::remove(self.host, self.vm.id, &container.id).await?;
            descriptor.container = None;
            descriptor.write(&path)?;
            before = Before::Nothing;
        }
        let changed = match &before {
            Before::Ours(container) => {
                let mut changed = changed_since(container, &options)?;
                if options
                    .terminal
                    .is_some_and(|asked| asked != container.terminal)
                {
                    changed.later.push("Tty".to_owned());
                }
                changed
            }
            Before::Nothing => plan::Changed::default(),
        };
        let image = self.image(&descriptor).await?;
        let planned_disks = planned::all(self.vm, root, &forms)?;
        // What the template says wrong is refused before anything is made.
        let terminal = match &before {
            Before::Ours(container) => container.terminal,
            Before::Nothing => options.terminal.unwrap_or(true),
        };
        let mut spec = self.spec(&descriptor, &image, &options, terminal)?;
        for disk in &self.vm.disks {
            planned::file_system(disk)?;
        }
        spec.context = context::folder(self.host, self.vm, self.system_dir).await?;

        let mut notes: Vec<String> = options
            .notes
            .iter()
            .map(|note| format!("deploy: {note}"))
            .collect();
        if !changed.later.is_empty() {
            notes.push(format!(
                "deploy: options of Docker that have changed count when the VM's container is made anew, by a migration or by undeploy and resume (not where the front-end is the node): {}",
                changed.later.join(", ")
            ));
        }
        spec.drop_capabilities = changed.drop;
        let mut disks = Disks::new(self.host, self.vm, self.system_dir);
        let started = async {
            self.prepare(&mut disks, planned_disks, staged, &mut spec, &mut notes)
                .await?;
            match before {
                Before::Ours(container) => {
                    notes.extend(self.last_end(&container).await);
                    let limits = plan::limits(self.vm, &self.host.config, &options);
                    self.resume(&mut descriptor, &path, &container, &spec, limits)
                        .await
                }
                Before::Nothing => {
                    let asked =
                        plan::container(self.vm, &descriptor, &image, &self.host.config, &options);
                    self.first(&mut descriptor, &path, asked, &spec, &mut notes)
                        .await
                }
            }
        };
        match started.await {
            Ok(()) => Ok(Answer::line(name).with_notes(notes)),
            Err(error) => Err(with_rollback(error, disks.undo()).await),
        }
    }

    fn ensure_supported(&self) -> anyhow::Result<()> {
        let Some(placement) = &self.vm.placement else {
            return Ok(());
        };
        if let Err(error) = placement.tm_mad.parse::<SystemDatastore>() {
            bail!("system datastore {}: {error}", placement.datastore);
        }
        Ok(())
    }

    fn spec(
        &self,
        descriptor: &Descriptor,
        image: &ImageConfig,
        options: &Options,
        terminal: bool,
    ) -> anyhow::Result<BootSpec> {
        let boot_id = boot::boot_id().context("this boot of the host cannot be read")?;
        let config = &self.host.config;
        plan::boot(
            self.vm, descriptor, image, config, options, terminal, &boot_id,
        )
    }

    fn creation(&self, disk: DiskId) -> ContainerCreation<'_, E> {
        ContainerCreation {
            engine: &self.host.engine,
            paths: &self.host.paths,
            vm: self.vm.id,
            disk,
            part: Part::Root,
        }
    }

    /// The container that the descriptor names, else one that an interrupted `deploy` made.
    async fn find(&self, descriptor: &Descriptor) -> anyhow::Result<Before> {
        let engine = &self.host.engine;
        let vm = self.vm.id;
        if let Some(id) = &descriptor.container {
            let container = engine.container(id).await?.with_context(|| {
                format!(
                    "the Docker engine does not have the container {}, which is the VM's root disk: it was removed, or the engine's image store or folder was changed; change it back to keep the disk, or begin anew from the image with 'onevm recover --recreate'",
                    id.short(),
                )
            })?;
            ensure!(
                is_disk(&container, vm, descriptor.disk),
                "DISK {} was a further disk of the VM until now, and its container cannot become the VM's own; put the former root disk first in OS/BOOT",
                descriptor.disk
            );
            return Ok(Before::Ours(self.thawed(vm, container).await?));
        }
        let name = ContainerName::of(vm);
        let Some(container) = engine.named(name).await? else {
            return Ok(Before::Nothing);
        };
        ensure!(
            is_of_vm(&container, vm),
            "the name {name} is taken by a container that is not OpenNebula's ({}); rename or remove it",
            container.id.short()
        );
        if labels::is_made_of(&container, descriptor)
            && (container.running || !container.started_before)
        {
            return Ok(Before::Ours(self.thawed(vm, container).await?));
        }
        // The disk was staged anew after this container had lived: `oned` gave it up.
        tracing::warn!(
            container = container.id.short(),
            "removing the container of an earlier life of this VM"
        );
        running::remove(self.host, vm, &container.id).await?;
        Ok(Before::Nothing)
    }

    async fn thawed(&self, vm: VmId, container: ContainerInfo) -> anyhow::Result<ContainerInfo> {
        running::thawed(self.host, vm, container).await
    }

    /// What the image asks for: as it was staged, or, of a disk that an earlier version has staged, as
    /// the engine says.
    async fn image(&self, descriptor: &Descriptor) -> anyhow::Result<ImageConfig> {
        if let Some(config) = &descriptor.image_config {
            return Ok(config.clone());
        }
        let image = &descriptor.image;
        match self.host.engine.image(image).await? {
            ImageState::Known(config) => Ok(config),
            ImageState::Missing => {
                bail!("the image {image} is not on this host; it was removed after it was staged")
            }
            ImageState::Unknown => bail!(
                "the Docker engine does not know the command and the volumes of {image}, because this host has its layers in another form; remove the images on it that share them (docker image rm) and try again"
            ),
        }
    }

    /// Makes the further disks ready, in the order of their ids.
    async fn prepare(
        &self,
        disks: &mut Disks<'_, E, R>,
        planned_disks: Vec<PlannedDisk>,
        mut staged: BTreeMap<DiskId, Staged>,
        spec: &mut BootSpec,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        for planned_disk in planned_disks {
            if let (Some(disk), Some(staged)) = (
                self.vm.disk(planned_disk.id),
                staged.remove(&planned_disk.id),
            ) {
                let ready = disks.prepare(disk, staged, planned_disk, notes).await?;
                spec.disks.push(ready);
            }
        }
        Ok(())
    }

    /// What ended the VM since it was last started from here: `oned` hears of it only as
    /// POWEROFF, so it is written to the VM's log now.
    async fn last_end(&self, container: &ContainerInfo) -> Option<String> {
        if !ending::is_telling(container) {
            return None;
        }
        let told = ending::told(&self.host.engine, container).await;
        Some(format!("deploy: the last run of the VM ended with {told}"))
    }

    /// Makes the container and starts it; one that does not start is removed.
    async fn first(
        &self,
        descriptor: &mut Descriptor,
        path: &Path,
        asked: CreateSpec,
        spec: &BootSpec,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let creation = self.creation(descriptor.disk);
        let size_mib = asked.storage_mib;
        let id = creation.create(asked).await?;
        let started = async {
            creation.remember(descriptor, path, &id)?;
            self.start(&id, spec).await?;
            self.unrecorded(descriptor.disk, &id).await
        };
        let error = match started.await {
            Ok(note) => {
                bound_new(self.host, descriptor.disk, &id, size_mib, notes).await;
                notes.extend(note);
                return Ok(());
            }
            Err(error) => error,
        };
        let removed = async {
            running::remove(self.host, self.vm.id, &id).await?;
            descriptor.container = None;
            descriptor.write(path)?;
            Ok(())
        };
        Err(with_rollback(error, removed).await)
    }

    /// Where the runtime has recorded no layers: what will be lost whenever the disk is saved. Scripts of
    /// the transfer manager that succeed cannot say it themselves (OpenNebula's `one_tm.rb` logs only
    /// what failed ones write). An error where the engine has not used our runtime at all: the VM would
    /// have neither NICs nor disks.
    async fn unrecorded(&self, disk: DiskId, id: &ContainerId) -> anyhow::Result<Option<String>> {
        if self.host.paths.layer_record(id).exists() {
            return Ok(None);
        }
        if let Some(container) = self.host.engine.container(id).await? {
            ensure!(
                container.runtime == plan::RUNTIME,
                "the engine has started the container by its own runtime {} in place of {}, as Podman does: 'onedock setup node' on this host says which engine it needs",
                container.runtime,
                plan::RUNTIME
            );
        }
        Ok(Some(format!(
            "DISK {disk} will be saved by the Docker engine's own commit, because the engine's storage is no overlay: extended attributes (user.*, ACLs) are lost whenever the VM is stopped, undeployed or moved, and by snapshots and save-as"
        )))
    }

    /// Starts the container that is there; one that does not start is left stopped.
    async fn resume(
        &self,
        descriptor: &mut Descriptor,
        path: &Path,
        container: &ContainerInfo,
        spec: &BootSpec,
        limits: Limits,
    ) -> anyhow::Result<()> {
        self.creation(descriptor.disk)
            .remember(descriptor, path, &container.id)?;
        // What an earlier start has left would be in the way, or go on beside this one.
        settle(&self.host.root, self.vm.id, &container.id).await?;
        if container.limits != limits {
            self.host
                .engine
                .limit(&container.id, container.limits, limits)
                .await
                .context("the VM's capacity cannot be set")?;
        }
        let Err(error) = self.start(&container.id, spec).await else {
            return Ok(());
        };
        // An answer that was lost may have left it running, while `oned` believes it is not.
        let stopped = async { Ok(self.host.engine.kill(&container.id).await?) };
        Err(with_rollback(error, stopped).await)
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
}

/// What of the options a container that is there cannot have. Refused where it would go on with rights
/// that it may have no more.
pub(super) fn changed_since(
    container: &ContainerInfo,
    options: &Options,
) -> anyhow::Result<plan::Changed> {
    let made = labels::made_with(container);
    plan::changed(&made, &options.engine).map_err(|name| {
        anyhow::anyhow!(
            "the VM's container was made with the option {name} of Docker, which the template does not ask for any more; a migration, or 'onevm undeploy' and 'onevm resume' (not where the front-end is the node), make it anew without and keep its disks"
        )
    })
}

/// The error that an action ends with; it tells both if taking back fails too.
pub(super) async fn with_rollback(
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
    anyhow::anyhow!("{error:#}; and what this call did could not be undone: {also}")
}
