//! `resize_disk`: a running VM sees a disk in its new size. The transfer manager's `resize` was
//! before, and grew the file or could not know that the VM runs; both is well. A disk only grows.

use anyhow::{Context as _, bail, ensure};
use onedock_common::ContainerId;
use onedock_common::disk_file::{self, Format};
use onedock_common::engine::labels::is_disk;
use onedock_common::engine::{ContainerInfo, Engine};
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::vm::Vm;
use onedock_common::state::boot::DiskSource;
use onedock_common::state::lock::VmLock;
use onedock_node::request::Request;

use super::attach_disk::allow;
use super::bound::{self, Bound};
use super::{LOCK_WAIT, running};
use crate::Host;
use crate::plan::disks as planned;
use crate::request::ResizeDiskRequest;
use onedock_node::client::Root;

pub(super) async fn run<E: Engine, R: Root>(
    host: &Host<E, R>,
    request: &ResizeDiskRequest,
    document: &[u8],
) -> anyhow::Result<Answer> {
    let mut vm = Vm::from_action(document)?;
    let id = request.disk;
    running::ensure_same(&vm, request.name)?;
    let number = vm.disks.iter().position(|disk| disk.id == id);
    let Some(disk) = number.and_then(|number| vm.disks.get_mut(number)) else {
        bail!("VM {} has no DISK {id}; nothing was done", vm.id);
    };
    disk.size_mib = Some(request.size_mib);
    let (read_only, shown) = (disk.read_only, planned::is_shown(disk));
    let bytes = planned::bytes(disk)
        .with_context(|| format!("DISK {id} cannot have {} MB", request.size_mib))?;
    let _lock = VmLock::acquire(&host.paths, vm.id, LOCK_WAIT)?;
    let container = running::there(host, request.name).await?;
    if is_disk(&container, vm.id, id) {
        return limit(host, request, &container.id).await;
    }
    if !shown {
        allow(host, &vm, &container).await?;
        return Ok(Answer::done());
    }
    ensure!(
        !read_only,
        "DISK {id} can only be read, so it cannot grow; nothing was done"
    );
    let spec = running::spec(host, &container)?;
    let there = spec.disks.iter().find(|there| there.id == id);
    let there = there.with_context(|| {
        format!(
            "DISK {id} is not in the running VM {}; nothing was done",
            vm.id
        )
    })?;
    match &there.source {
        DiskSource::Tree(tree) => limit(host, request, tree).await,
        DiskSource::FormerTree(_) => bail!(
            "DISK {id} was shown by an earlier version of the driver; power the VM off and resume it, then resize the disk; nothing was done"
        ),
        DiskSource::Folder(_) => bail!("DISK {id} is a CD, which cannot grow"),
        DiskSource::Raw(path) => {
            let size = disk_file::inspect_as(path, Format::Raw)?.size;
            ensure_grows(request, bytes, size)?;
            if container.running {
                disk_file::grow_file(path, bytes).await?;
            } else {
                disk_file::grow(path, bytes).await?;
            }
            grow(host, request, &container).await
        }
        DiskSource::Qcow2(path) => {
            let size = disk_file::inspect_as(path, Format::Qcow2)?.size;
            ensure_grows(request, bytes, size)?;
            if !container.running {
                disk_file::grow(path, bytes).await?;
            }
            grow(host, request, &container).await
        }
    }
}

fn ensure_grows(request: &ResizeDiskRequest, bytes: u64, size: u64) -> anyhow::Result<()> {
    ensure!(
        bytes >= size,
        "DISK {} has {} MB and cannot be made smaller ({} MB); nothing was changed",
        request.disk,
        size.div_ceil(1 << 20),
        request.size_mib
    );
    Ok(())
}

async fn grow<E, R: Root>(
    host: &Host<E, R>,
    request: &ResizeDiskRequest,
    container: &ContainerInfo,
) -> anyhow::Result<Answer> {
    if !container.running {
        return Ok(Answer::done());
    }
    running::ensure_runs(container, request.name.vm())?;
    let asked = Request::GrowDisk {
        vm: request.name.vm(),
        container: container.id.clone(),
        disk: request.disk,
        size_mib: request.size_mib,
    };
    let note = host.root.call(&asked).await?.note;
    let notes = note.map(|note| format!("resize_disk: {note}"));
    Ok(Answer::done().with_notes(notes.into_iter().collect()))
}

/// The disk of a container has no size but its bound, which not every storage of the engine keeps.
async fn limit<E: Engine, R: Root>(
    host: &Host<E, R>,
    request: &ResizeDiskRequest,
    container: &ContainerId,
) -> anyhow::Result<Answer> {
    if bound::bound(host, container, request.size_mib).await? == Bound::Nothing {
        let note = format!(
            "resize_disk: DISK {} is bounded by nothing but the space of the host, because the storage of its Docker engine keeps no quotas",
            request.disk
        );
        return Ok(Answer::done().with_notes(vec![note]));
    }
    Ok(Answer::done())
}
