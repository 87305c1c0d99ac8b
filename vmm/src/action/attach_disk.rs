//! `attach_disk`: a further disk for the running container. The boot spec is written anew, so
//! that the next start has it too; an attach that fails leaves nothing.

use anyhow::{Context as _, bail};
use onedock_common::VmId;
use onedock_common::engine::{ContainerInfo, Engine};
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::vm::{Disk, Vm};
use onedock_common::state::boot;
use onedock_common::state::boot::BootSpec;
use onedock_common::state::lock::VmLock;
use onedock_node::request::Request;

use super::disks::{Disks, staged_disk};
use super::start::with_rollback;
use super::{LOCK_WAIT, running};
use crate::plan::disks::{self as planned, PlannedDisk};
use crate::request::DiskRequest;
use crate::{Host, attributes, options, plan};
use onedock_node::client::Root;

pub(super) async fn run<E: Engine, R: Root>(
    host: &Host<E, R>,
    request: &DiskRequest,
    document: &[u8],
) -> anyhow::Result<Answer> {
    let vm = Vm::from_action(document)?;
    let disk = concerned(&vm, request)?;
    let mut notes = attributes::of_disk("attach_disk", &vm, disk.id)?;
    let _lock = VmLock::acquire(&host.paths, vm.id, LOCK_WAIT)?;
    let container = running::there(host, request.name).await?;
    running::ensure_runs(&container, vm.id)?;
    if !planned::is_shown(disk) {
        allow(host, &vm, &container).await?;
        return Ok(Answer::done().with_notes(notes));
    }
    let mut spec = running::spec(host, &container)?;
    let others: Vec<PlannedDisk> = spec.disks.iter().map(PlannedDisk::from).collect();
    // An attach whose answer was lost.
    if let Some(there) = spec.disks.iter().find(|there| there.id == disk.id) {
        host.root.call(&plug(vm.id, &container, there)).await?;
        return Ok(Answer::done());
    }
    let staged = staged_disk(&vm, &request.system_dir, disk.id)?;
    let planned_disk = planned::one(disk, staged.form(), &others)?;
    if let Some(hidden) = planned::hides(&planned_disk, &others) {
        bail!(
            "DISK {} would be mounted over DISK {}; give it another MOUNTPOINT",
            planned_disk.id,
            hidden.id
        );
    }
    planned::file_system(disk)?;

    let mut disks = Disks::new(host, &vm, &request.system_dir);
    let mut asked = false;
    let done = async {
        let ready = disks
            .prepare(disk, staged, planned_disk, &mut notes)
            .await?;
        asked = true;
        host.root.call(&plug(vm.id, &container, &ready)).await?;
        insert(&mut spec, ready);
        running::keep(host, &container, &spec)
    };
    let Err(error) = done.await else {
        return Ok(Answer::done().with_notes(notes));
    };
    let undo = async {
        // An answer that was lost may have left it plugged.
        let unplugged = if asked {
            host.root
                .call(&unplug(vm.id, &container, disk))
                .await
                .map(drop)
        } else {
            Ok(())
        };
        disks.undo().await.and(unplugged)
    };
    Err(with_rollback(error, undo).await)
}

/// The disk that the call is about: ATTACH=YES in the document, and the one of the path.
pub(super) fn concerned<'a>(vm: &'a Vm, request: &DiskRequest) -> anyhow::Result<&'a Disk> {
    running::ensure_same(vm, request.name)?;
    vm.attached()
        .filter(|disk| disk.id == request.disk)
        .with_context(|| {
            format!(
                "VM {} has no DISK {} that is being attached or detached; nothing was done",
                vm.id, request.disk
            )
        })
}

/// Sets the memory and swap that the document asks for; as before when that fails.
pub(super) async fn allow<E: Engine, R>(
    host: &Host<E, R>,
    vm: &Vm,
    container: &ContainerInfo,
) -> anyhow::Result<()> {
    let limits = plan::limits(
        vm,
        &host.config,
        &options::of_running(host, "attach_disk", vm, container).0,
    );
    if limits == container.limits {
        return Ok(());
    }
    let before = container.limits;
    let set = host.engine.limit(&container.id, before, limits).await;
    let Err(error) = set.context("the VM's capacity cannot be changed") else {
        return Ok(());
    };
    let back = async { Ok(host.engine.limit(&container.id, limits, before).await?) };
    Err(with_rollback(error, back).await)
}

pub(super) fn plug(vm: VmId, container: &ContainerInfo, disk: &boot::Disk) -> Request {
    Request::PlugDisk {
        vm,
        container: container.id.clone(),
        disk: disk.clone(),
    }
}

pub(super) fn unplug(vm: VmId, container: &ContainerInfo, disk: &Disk) -> Request {
    Request::UnplugDisk {
        vm,
        container: container.id.clone(),
        disk: disk.id,
    }
}

fn insert(spec: &mut BootSpec, disk: boot::Disk) {
    spec.disks.push(disk);
    spec.disks.sort_by_key(|disk| disk.id);
}
