//! A disk that stays where it is: grown, or brought to its file.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::unistd::syncfs;
use onedock_common::state::boot::DiskSource;

use crate::disks::container::Container;
use crate::disks::error::{Fault, step};
use crate::disks::file_system;
use crate::disks::loop_device::{self, Loops};
use crate::disks::stage::{self, DEV};
use crate::disks::state::{Form, PluggedDisk};

/// Lets a container see that the file of a disk has become longer.
pub(super) fn grow(shown: &PluggedDisk) -> Result<(), Fault> {
    let disk = &shown.disk;
    let growing = step::<io::Error>("growing its loop device");
    match &shown.form {
        Some(Form::Device(device)) => {
            let Some(whole) = device.nodes.first() else {
                return Ok(());
            };
            let grown = stage::within(|| Loops::open(Path::new(DEV))?.grow(&whole.looped));
            grown.map_err(growing)
        }
        Some(Form::Mounted(mounted)) => {
            let looped = mounted.looped.as_ref().ok_or(Fault::Cannot("resized"))?;
            stage::within(|| {
                let dev = Path::new(DEV);
                Loops::open(dev)
                    .and_then(|loops| loops.grow(looped))
                    .map_err(growing)?;
                if disk.read_only {
                    return Ok(());
                }
                // The file system again, at a place where a program can reach it.
                let node = dev.join(disk.device.as_str());
                loop_device::node(dev, disk.device.as_str(), looped.index)
                    .map_err(step("making its node"))?;
                file_system::mount_at_stage(&node, &mounted.kind, false)?;
                let grown = file_system::grow(&mounted.kind, &node);
                file_system::clear();
                grown
            })
        }
        None => Err(Fault::Cannot("resized")),
    }
}

/// Brings what was written to a disk into its file.
pub(super) fn sync(container: &Container<'_>, shown: &PluggedDisk) -> Result<(), Fault> {
    let failed = || step::<io::Error>("bringing it to its file");
    let looped = match &shown.form {
        Some(Form::Mounted(mounted)) => {
            if let Some(place) = container.find(mounted)?.place {
                // The mount's own root: what it shows is asked for nothing.
                container.mounts.within(|| {
                    let folder = container.open_mount(&place)?;
                    syncfs(folder).map_err(step("bringing it to its file"))
                })?;
            }
            mounted.looped.iter().collect()
        }
        Some(Form::Device(device)) => device.nodes.iter().map(|node| &node.looped).collect(),
        None => Vec::new(),
    };
    let synced: io::Result<()> = stage::within(|| {
        let loops = Loops::open(Path::new(DEV))?;
        looped.iter().try_for_each(|looped| loops.sync(looped))
    });
    synced.map_err(failed())?;
    match &shown.disk.source {
        DiskSource::Raw(path) | DiskSource::Qcow2(path) => File::open(path)
            .and_then(|file| file.sync_all())
            .map_err(failed()),
        DiskSource::Tree(_) | DiskSource::FormerTree(_) | DiskSource::Folder(_) => Ok(()),
    }
}
