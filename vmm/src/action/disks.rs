//! The disks of a VM on their way from the VM's folder into the boot spec: read, made as
//! large as the template says, given their file system, and what was made for them removed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use onedock_common::disk_file::{self, DiskFile, Format};
use onedock_common::engine::{Engine, EngineError};
use onedock_common::opennebula::vm::{Disk, Vm};
use onedock_common::state::boot::{self, DiskSource};
use onedock_common::state::descriptor::{Descriptor, DiskKind};
use onedock_common::state::extracted;
use onedock_common::state::journal;
use onedock_common::state::vm_folder;
use onedock_common::{ContainerId, DiskId};
use onedock_node::client::Root;

use super::bound::bound_new;
use super::creation::{ContainerCreation, Part};
use super::running;
use crate::plan::disks::{self as planned, DiskForm, PlannedDisk};
use crate::{Host, iso, plan};

/// What lies at `disk.<n>`, and its descriptor where it is a container.
#[derive(Debug)]
pub(super) enum Staged {
    Container(Box<Descriptor>),
    File,
}

impl Staged {
    pub(super) fn form(&self) -> DiskForm {
        match self {
            Self::Container(_) => DiskForm::Container,
            Self::File => DiskForm::File,
        }
    }
}

/// What one disk in the VM's folder is.
pub(super) fn staged_disk(vm: &Vm, system_dir: &Path, disk: DiskId) -> anyhow::Result<Staged> {
    let path = vm_folder::disk(system_dir, disk);
    match Descriptor::find(&path)? {
        Some(DiskKind::Container(descriptor)) => {
            ensure!(
                descriptor.vm == vm.id && descriptor.disk == disk,
                "{} belongs to disk {} of VM {}",
                path.display(),
                descriptor.disk,
                descriptor.vm
            );
            Ok(Staged::Container(descriptor))
        }
        Some(DiskKind::File) => Ok(Staged::File),
        None => bail!(
            "DISK {disk} is not at {}; the transfer manager has not brought it to this host",
            path.display()
        ),
        Some(DiskKind::Folder) => {
            bail!("DISK {disk} cannot be used: {} is a folder", path.display())
        }
    }
}

/// What the disks of the template are.
pub(super) fn staged_disks(vm: &Vm, system_dir: &Path) -> anyhow::Result<BTreeMap<DiskId, Staged>> {
    vm.disks
        .iter()
        .map(|disk| Ok((disk.id, staged_disk(vm, system_dir, disk.id)?)))
        .collect()
}

/// What one call makes for a VM's disks, to be removed when the call fails.
pub(super) struct Disks<'a, E, R> {
    host: &'a Host<E, R>,
    vm: &'a Vm,
    system_dir: &'a Path,
    trees: Vec<(ContainerId, Descriptor)>,
    extracted: Vec<DiskId>,
}

impl<'a, E: Engine, R: Root> Disks<'a, E, R> {
    pub(super) fn new(host: &'a Host<E, R>, vm: &'a Vm, system_dir: &'a Path) -> Self {
        Self {
            host,
            vm,
            system_dir,
            trees: Vec::new(),
            extracted: Vec::new(),
        }
    }

    /// Makes one disk ready to be shown in the container.
    pub(super) async fn prepare(
        &mut self,
        disk: &Disk,
        staged: Staged,
        planned: PlannedDisk,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<boot::Disk> {
        let source = match staged {
            Staged::Container(descriptor) => DiskSource::Tree(self.tree(*descriptor, notes).await?),
            Staged::File => self.file(disk, notes).await?,
        };
        Ok(boot::Disk {
            id: planned.id,
            source,
            mount: planned.mount,
            device: planned.device,
            read_only: planned.read_only,
        })
    }

    async fn file(&mut self, disk: &Disk, notes: &mut Vec<String>) -> anyhow::Result<DiskSource> {
        let path = vm_folder::disk(self.system_dir, disk.id);
        let found = inspect(disk, &path)?;
        if found.format == Format::Iso && !disk.device && !kernel_reads_iso() {
            return self.extract(disk.id, path, notes).await;
        }
        if !disk.read_only && found.format != Format::Iso {
            fit(disk, &path, &found).await?;
        }
        Ok(match found.format {
            Format::Qcow2 => DiskSource::Qcow2(path),
            Format::Raw | Format::Iso => DiskSource::Raw(path),
        })
    }

    async fn extract(
        &mut self,
        disk: DiskId,
        image: PathBuf,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<DiskSource> {
        let target = self.host.paths.extracted_folder(self.vm.id, disk);
        if !target.exists() {
            self.extracted.push(disk);
        }
        let of_others = extract(image, target.clone(), iso::once)
            .await
            .with_context(|| format!("DISK {disk}"))?;
        if of_others > 0 {
            notes.push(format!(
                "DISK {disk}: {of_others} files of the CD have owners other than root on it, and are shown as root's, because this host's kernel has no iso9660"
            ));
        }
        Ok(DiskSource::Folder(target))
    }

    /// The layer of a further image's tree, whose container is made when there is none.
    async fn tree(
        &mut self,
        mut descriptor: Descriptor,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<ContainerId> {
        let disk = descriptor.disk;
        let engine = &self.host.engine;
        let creation = ContainerCreation {
            engine,
            paths: &self.host.paths,
            vm: self.vm.id,
            disk,
            part: Part::Tree,
        };
        let mut size_mib = None;
        let id = match descriptor.container.clone() {
            Some(id) => id,
            None => {
                let asked = plan::tree(self.vm, &descriptor);
                size_mib = asked.storage_mib;
                let id = creation.create(asked).await?;
                self.trees.push((id.clone(), descriptor.clone()));
                id
            }
        };
        creation.remember(
            &mut descriptor,
            &vm_folder::disk(self.system_dir, disk),
            &id,
        )?;
        ensure!(
            engine.container(&id).await?.is_some(),
            "the Docker engine does not have the container {}, which is DISK {disk}: it was removed, or the engine's image store or folder was changed; change it back to keep the disk, or begin anew from the image with 'onevm recover --recreate'",
            id.short()
        );
        self.record_layers(disk, &id).await?;
        bound_new(self.host, disk, &id, size_mib, notes).await;
        Ok(id)
    }

    /// Lets the runtime record what the tree is laid of, if it has not: only a start of the container
    /// shows that on every engine. The runtime refuses the start itself.
    async fn record_layers(&self, disk: DiskId, tree: &ContainerId) -> anyhow::Result<()> {
        let paths = &self.host.paths;
        let recorded = || paths.layer_record(tree).exists();
        if recorded() {
            return Ok(());
        }
        let boot_id = boot::boot_id().context("this boot of the host cannot be read")?;
        plan::boot_tree(self.vm, &boot_id).write(paths, tree)?;
        match self.host.engine.start(tree).await {
            Err(_) if recorded() => Ok(()),
            Err(EngineError::Refused { message, .. }) if message.contains("runs nothing") => bail!(
                "DISK {disk} is an image of a container, which can be a further disk only where the Docker engine lays layers over each other by the kernel (overlay2, overlayfs); this host's engine does not"
            ),
            Err(e) => Err(e).with_context(|| format!("the tree of DISK {disk} cannot be opened")),
            Ok(()) => {
                self.host.engine.kill(tree).await?;
                bail!(
                    "the runtime onedock of this host's Docker engine is not of this version; run 'onedock setup node' there"
                )
            }
        }
    }

    /// Takes back what this call made; all of it is tried.
    pub(super) async fn undo(self) -> anyhow::Result<()> {
        let mut failed = Ok(());
        for (id, mut descriptor) in self.trees {
            let path = vm_folder::disk(self.system_dir, descriptor.disk);
            let gone = async {
                running::remove(self.host, self.vm.id, &id).await?;
                descriptor.container = None;
                descriptor.write(&path)?;
                journal::tree::settled(&self.host.paths, self.vm.id, descriptor.disk)?;
                anyhow::Ok(())
            };
            failed = gone.await.and(failed);
        }
        for disk in self.extracted {
            let gone = extracted::forget_disk(&self.host.paths, self.vm.id, disk);
            failed = gone.map_err(anyhow::Error::from).and(failed);
        }
        failed
    }
}

/// What the file is. Where a transfer manager of OpenNebula's own brought it, FORMAT says so, and
/// its content, which the VM writes, decides nothing; ours marks its files.
pub(super) fn inspect(disk: &Disk, path: &Path) -> anyhow::Result<DiskFile> {
    let is_cdrom = disk.kind.as_deref() == Some("CDROM");
    let foreign = disk.tm_mad.as_deref().is_some_and(|tm| tm != "onedock");
    let said = disk.format.as_deref().and_then(|f| f.parse().ok());
    let found = match said {
        Some(format) if foreign && !is_cdrom => disk_file::inspect_as(path, format),
        _ => disk_file::inspect(path),
    };
    found.with_context(|| format!("DISK {}", disk.id))
}

/// Makes a disk as large as SIZE, and gives it its file system while nothing is on it.
async fn fit(disk: &Disk, path: &Path, found: &DiskFile) -> anyhow::Result<()> {
    let named = || format!("DISK {}", disk.id);
    if let Some(size) = planned::bytes(disk)
        && size > found.size
    {
        disk_file::grow(path, size).await.with_context(named)?;
    }
    if let Some(fs) = planned::file_system(disk)?
        && disk_file::is_blank(path).await.with_context(named)?
    {
        disk_file::make_fs(path, fs).await.with_context(named)?;
    }
    Ok(())
}

/// Reads an ISO image on a thread of its own.
pub(super) async fn extract(
    image: PathBuf,
    target: PathBuf,
    how: fn(&Path, &Path) -> Result<usize, iso::IsoError>,
) -> anyhow::Result<usize> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)
            .and_then(|()| closed(parent))
            .with_context(|| {
                format!(
                    "{} cannot be made; run 'onedock setup node' on this host",
                    parent.display()
                )
            })?;
    }
    Ok(tokio::task::spawn_blocking(move || how(&image, &target)).await??)
}

/// Context files hold secrets: no other user of the host gets below this folder.
fn closed(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o750))
}

/// Whether this kernel can mount a CD, by itself or with a module that it would load.
fn kernel_reads_iso() -> bool {
    let lists = |path: &Path, word: &str| {
        fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line.contains(word)))
    };
    if lists(Path::new("/proc/filesystems"), "iso9660") {
        return true;
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let modules = Path::new("/lib/modules").join(release.trim());
    lists(&modules.join("modules.dep"), "/isofs.ko")
}
