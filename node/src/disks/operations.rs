//! What the runtime and `onedock-node` ask of the disks of one container. One call at a time
//! works on them.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use onedock_common::state::boot::{Disk, DiskSource};
use onedock_common::{ContainerId, DiskId, VmId};

use crate::disks::container::Container;
use crate::disks::error::{DiskError, Fault, of};
use crate::disks::slots::Slots;
use crate::disks::state::{Access, Folder, PluggedDisk};
use crate::disks::{attach, cleanup, detach, live, qcow2};
use crate::namespace::Process;
use crate::record::{Records, Vm};

/// How long the kernel may take to let go of all disks while an engine waits.
const FREE: Duration = Duration::from_secs(10);
/// Whether the disks of a boot spec can be shown side by side.
pub(crate) fn check(disks: &[Disk]) -> Result<(), DiskError> {
    let mut seen = HashSet::new();
    for disk in disks {
        let place = disk.mount.as_ref().map(ToString::to_string);
        let place = place.unwrap_or_else(|| format!("/dev/{}", disk.device));
        let names = [disk.id.to_string(), format!("dev {}", disk.device), place];
        if !names.into_iter().all(|name| seen.insert(name)) {
            return Err(DiskError::Twice(disk.id));
        }
        let path = match &disk.source {
            DiskSource::Raw(path)
            | DiskSource::Qcow2(path)
            | DiskSource::FormerTree(path)
            | DiskSource::Folder(path) => path,
            // Whether it is there shows when it is opened.
            DiskSource::Tree(_) => continue,
        };
        if !path.exists() {
            return Err(DiskError::Missing {
                disk: disk.id,
                path: path.clone(),
            });
        }
    }
    Ok(())
}

fn lock(vm: VmId, id: &ContainerId) -> Result<Folder, DiskError> {
    match Folder::open(id).map_err(DiskError::State)? {
        Access::Opened(folder) => Ok(folder),
        Access::Absent | Access::Locked => Err(DiskError::Locked(vm)),
    }
}

/// Shows all disks in a created container; all or none. Answers warnings.
pub(crate) fn plug_all(
    id: &ContainerId,
    vm: &Vm,
    process: &Process,
) -> Result<Vec<String>, DiskError> {
    let Some(first) = vm.disks.first() else {
        return Ok(Vec::new());
    };
    let folder = lock(vm.id, id)?;
    let container = Container::open(id, vm, process).map_err(|e| of(first)(e.into()))?;
    let mut warnings = Vec::new();
    for disk in &vm.disks {
        warnings.extend(attach::attach(&container, &folder, disk).map_err(of(disk))?);
    }
    Ok(warnings)
}

/// Takes all disks out of a container that does not start; what stays goes with [`settle`].
pub(crate) fn take_back(id: &ContainerId, vm: &Vm, process: &Process) {
    let (Ok(Access::Opened(folder)), Ok(container)) =
        (Folder::open_existing(id), Container::open(id, vm, process))
    else {
        return;
    };
    for disk in folder.list().unwrap_or_default().into_iter().rev() {
        if let Ok(Some(shown)) = folder.read(disk) {
            let _ = detach::detach(&container, &folder, &shown);
        }
    }
}

/// Waits for what the kernel lets go of when a container has ended, lets go of the rest, and
/// gives its numbers back.
pub(crate) fn settle(id: &ContainerId, vm: &Vm) -> Result<(), DiskError> {
    settle_within(id, vm, FREE).map(drop)
}

/// Ends the daemons of a container's disks that do not answer any more, which keep its processes from
/// their end. Answers whose they were.
pub(crate) fn end_hung(id: &ContainerId) -> io::Result<Vec<DiskId>> {
    let mut hung = Vec::new();
    if let Access::Opened(folder) = Folder::open_existing(id)? {
        for disk in folder.list()? {
            if qcow2::end_hung(&folder, disk)? {
                hung.push(disk);
            }
        }
    }
    Ok(hung)
}

/// As [`settle`], within `limit`. Answers the disks whose daemon hung and was ended.
pub(crate) fn settle_within(
    id: &ContainerId,
    vm: &Vm,
    limit: Duration,
) -> Result<Vec<DiskId>, DiskError> {
    let folder = match Folder::open_existing(id).map_err(DiskError::State)? {
        Access::Opened(folder) => Some(folder),
        Access::Absent => None,
        Access::Locked => return Err(DiskError::Locked(vm.id)),
    };
    let hung = cleanup::settle(folder, vm, limit)?;
    if let Some(slot) = vm.slot {
        Slots::system()
            .give_back(slot, id)
            .map_err(DiskError::State)?;
    }
    Ok(hung)
}

/// The container of a request, as root remembers it.
pub(crate) fn recorded(vm: VmId, id: &ContainerId) -> Result<Option<Vm>, DiskError> {
    let record = Records::system().read(id).map_err(DiskError::State)?;
    Ok(record
        .and_then(|record| record.vm)
        .filter(|found| found.id == vm))
}

/// Works in the running container of a VM, with its disks locked.
fn within<T>(
    vm: VmId,
    id: &ContainerId,
    work: impl FnOnce(&Container<'_>, &Folder) -> Result<T, DiskError>,
) -> Result<T, DiskError> {
    let gone = || DiskError::NotRunning {
        vm,
        container: id.clone(),
    };
    recorded(vm, id)?.ok_or_else(gone)?;
    let folder = lock(vm, id)?;
    // Again, because whoever had the lock may have ended it.
    let found = recorded(vm, id)?;
    let process = found.as_ref().and_then(|found| found.process);
    let (Some(found), Some(process)) = (found, process) else {
        let _ = folder.remove();
        return Err(gone());
    };
    let container = Container::open(id, &found, &process).map_err(|_| gone())?;
    work(&container, &folder)
}

/// Shows one more disk; one that is shown stays.
pub fn plug_one(vm: VmId, id: &ContainerId, disk: &Disk) -> Result<(), DiskError> {
    within(vm, id, |container, folder| {
        let mut others = Vec::new();
        for other in folder.list().map_err(DiskError::State)? {
            match folder.read(other).map_err(DiskError::State)? {
                Some(shown) if other != disk.id => others.push(shown.disk),
                Some(shown) if shown.complete && shown.disk == *disk => return Ok(()),
                Some(shown) if shown.complete => return Err(DiskError::Twice(disk.id)),
                // A call that was ended in the middle.
                Some(shown) => detach::detach(container, folder, &shown).map_err(of(disk))?,
                None => {}
            }
        }
        others.push(disk.clone());
        check(&others)?;
        attach::attach(container, folder, disk)
            .map(drop)
            .map_err(of(disk))
    })
}

/// Takes one disk out; one that is not there is taken out.
pub fn unplug_one(vm: VmId, id: &ContainerId, disk: DiskId) -> Result<(), DiskError> {
    within(vm, id, |container, folder| {
        match folder.read(disk).map_err(DiskError::State)? {
            Some(shown) => detach::detach(container, folder, &shown).map_err(of(&shown.disk)),
            None => Ok(()),
        }
    })
}

fn on_shown(
    vm: VmId,
    id: &ContainerId,
    disk: DiskId,
    work: impl FnOnce(&Container<'_>, &Folder, &PluggedDisk) -> Result<(), DiskError>,
) -> Result<(), DiskError> {
    within(vm, id, |container, folder| {
        let shown = folder.read(disk).map_err(DiskError::State)?;
        let shown = shown.ok_or(DiskError::NotShown { vm, disk })?;
        work(container, folder, &shown)
    })
}

/// Lets the container see a disk in its new size, in MiB; answers what has to wait for the next
/// start.
pub fn grow_one(
    vm: VmId,
    id: &ContainerId,
    disk: DiskId,
    size_mib: u64,
) -> Result<Option<String>, DiskError> {
    let mut note = None;
    on_shown(vm, id, disk, |_, folder, shown| {
        let grown = || {
            if let DiskSource::Qcow2(_) = shown.disk.source {
                qcow2::grow(folder, disk, size_mib.saturating_mul(1 << 20))?;
            }
            live::grow(shown)
        };
        match grown() {
            Err(Fault::Later) => {
                note = Some(of(&shown.disk)(Fault::Later).to_string());
                Ok(())
            }
            done => done.map_err(of(&shown.disk)),
        }
    })?;
    Ok(note)
}

/// Brings what was written to a disk into its file.
pub fn sync_one(vm: VmId, id: &ContainerId, disk: DiskId) -> Result<(), DiskError> {
    on_shown(vm, id, disk, |container, _, shown| {
        live::sync(container, shown).map_err(of(&shown.disk))
    })
}
