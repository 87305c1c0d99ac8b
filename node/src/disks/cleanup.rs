//! What is left of the disks of a container that has ended.

use std::path::Path;
use std::time::{Duration, Instant};

use onedock_common::DiskId;

use crate::disks::error::DiskError;
use crate::disks::loop_device::{self, Loops};
use crate::disks::stage::{self, DEV};
use crate::disks::state::{Folder, Form, PluggedDisk};
use crate::disks::{detach, qcow2};
use crate::layers::rootfs::Root;
use crate::record::Vm;

/// How long a disk may be in use before it is asked whether its daemon hangs.
const SUSPECT: Duration = Duration::from_secs(3);

/// Waits at most `limit` until the kernel has let go of all disks, and lets go of what it does
/// not by itself. None of the container's processes lives any more. Answers the disks whose daemon hung
/// and was ended.
pub(super) fn settle(
    folder: Option<Folder>,
    vm: &Vm,
    limit: Duration,
) -> Result<Vec<DiskId>, DiskError> {
    let mut hung = Vec::new();
    let mut devices = Vec::new();
    devices.extend(vm.slot.into_iter().flat_map(|slot| slot.indices()));
    devices.retain(|index| loop_device::exists(*index));
    if !devices.is_empty() {
        stage::within(|| {
            let loops = Loops::open(Path::new(DEV))?;
            devices.iter().try_for_each(|index| loops.abandon(*index))
        })
        .map_err(DiskError::State)?;
    }
    let Some(folder) = folder else {
        return Ok(hung);
    };
    let end = Instant::now() + limit;
    let root = Root::open(&vm.root, vm.owner).ok();
    for id in folder.list().map_err(DiskError::State)? {
        // What cannot be read was not written to its end, before anything was made.
        let shown = folder.read(id).ok().flatten();
        let settled = |end| shown.as_ref().is_none_or(|shown| waited(shown, end));
        if !settled(end.min(Instant::now() + SUSPECT)) {
            if qcow2::end_hung(&folder, id).map_err(DiskError::State)? {
                hung.push(id);
            }
            if !settled(end) {
                return Err(DiskError::Unsettled(id));
            }
        }
        qcow2::end(&folder, id).map_err(DiskError::State)?;
        if let (Some(root), Some(shown)) = (&root, &shown)
            && let Some(place) = &shown.disk.mount
        {
            root.remove_target(Path::new(place.as_str()));
        }
    }
    folder.remove().map_err(DiskError::State)?;
    Ok(hung)
}

fn waited(shown: &PluggedDisk, end: Instant) -> bool {
    let limit = || end.saturating_duration_since(Instant::now());
    match &shown.form {
        Some(Form::Mounted(mounted)) => mounted
            .looped
            .as_ref()
            .is_none_or(|looped| detach::freed(looped, limit()).is_ok_and(|freed| freed)),
        Some(Form::Device(device)) => device
            .nodes
            .iter()
            .all(|node| detach::freed(&node.looped, limit()).is_ok_and(|freed| freed)),
        None => true,
    }
}
