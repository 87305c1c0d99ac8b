//! `detach_disk`: takes a disk out of the running container, and out of its boot spec. A disk that
//! is out already is detached; one that the VM does not have is refused, as is one in use.

use anyhow::ensure;
use onedock_common::engine::Engine;
use onedock_common::engine::labels::is_disk;
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::vm::Vm;
use onedock_common::state::boot::BootSpec;
use onedock_common::state::extracted;
use onedock_common::state::lock::VmLock;

use super::attach_disk::{allow, concerned, plug, unplug};
use super::start::with_rollback;
use super::{LOCK_WAIT, running};
use crate::Host;
use crate::plan::disks as planned;
use crate::request::DiskRequest;
use onedock_node::client::{Root, settle};

pub(super) async fn run<E: Engine, R: Root>(
    host: &Host<E, R>,
    request: &DiskRequest,
    document: &[u8],
) -> anyhow::Result<Answer> {
    let mut vm = Vm::from_action(document)?;
    let disk = concerned(&vm, request)?.clone();
    let _lock = VmLock::acquire(&host.paths, vm.id, LOCK_WAIT)?;
    let container = running::there(host, request.name).await?;
    ensure!(
        !is_disk(&container, vm.id, disk.id),
        "DISK {} is the VM's root disk, which cannot be detached",
        disk.id
    );
    let mut notes = Vec::new();
    if container.running {
        running::ensure_runs(&container, vm.id)?;
    } else {
        notes.push("the VM does not run any more; the disk is out of it".to_owned());
    }
    if !planned::is_shown(&disk) {
        vm.disks.retain(|other| other.id != disk.id);
        allow(host, &vm, &container).await?;
        return Ok(Answer::done().with_notes(notes));
    }
    let spec = BootSpec::read(&host.paths, &container.id)?;
    let there = spec
        .as_ref()
        .and_then(|spec| spec.disks.iter().find(|there| there.id == disk.id))
        .cloned();
    if there.is_none() {
        notes.push(format!("DISK {} was out of the VM already", disk.id));
    }
    let done = async {
        if container.running {
            host.root.call(&unplug(vm.id, &container, &disk)).await?;
        } else if there.is_some() {
            // The transfer manager moves its file next: what the VM wrote last must be in it.
            settle(&host.root, vm.id, &container.id).await?;
        }
        if let (Some(mut spec), Some(_)) = (spec, &there) {
            spec.disks.retain(|there| there.id != disk.id);
            running::keep(host, &container, &spec)?;
        }
        anyhow::Ok(())
    };
    if let Err(error) = done.await {
        let back = async {
            match there.filter(|_| container.running) {
                Some(there) => host
                    .root
                    .call(&plug(vm.id, &container, &there))
                    .await
                    .map(drop),
                None => Ok(()),
            }
        };
        return Err(with_rollback(error, back).await);
    }
    extracted::forget_disk(&host.paths, vm.id, disk.id)?;
    Ok(Answer::done().with_notes(notes))
}
