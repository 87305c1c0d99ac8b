//! Attaching a disk to a container.

use std::io;

use onedock_common::state::boot::{Disk, DiskSource};

use crate::disks::container::Container;
use crate::disks::error::{Fault, step};
use crate::disks::state::{Folder, PluggedDisk};
use crate::disks::{detach, prepare, present, qcow2, stage, tree};

/// Shows a disk; what it made is taken back when it fails. Answers a warning.
pub(super) fn attach(
    container: &Container<'_>,
    folder: &Folder,
    disk: &Disk,
) -> Result<Option<String>, Fault> {
    let mut shown = PluggedDisk {
        disk: disk.clone(),
        complete: false,
        form: None,
    };
    let remembered = step::<io::Error>("remembering it");
    folder.write(&shown).map_err(remembered)?;
    let done = show(container, folder, &mut shown).and_then(|warning| {
        shown.complete = true;
        let remembered = step("remembering it");
        folder.write(&shown).map(|()| warning).map_err(remembered)
    });
    if done.is_err() {
        // The first error is the one to tell.
        let _ = detach::detach(container, folder, &shown);
    }
    done
}

fn show(
    container: &Container<'_>,
    folder: &Folder,
    shown: &mut PluggedDisk,
) -> Result<Option<String>, Fault> {
    let disk = shown.disk.clone();
    let prepared = match &disk.source {
        DiskSource::Folder(path) => stage::within(|| tree::folder(path))?,
        DiskSource::Tree(container) => stage::within(|| tree::overlay(container, disk.read_only))?,
        DiskSource::FormerTree(path) => {
            return Err(Fault::Kind {
                path: path.clone(),
                wanted: "how this version names the tree of an image; resume the VM by OpenNebula, which names it anew",
            });
        }
        DiskSource::Raw(path) => {
            let file = prepare::open(path, disk.read_only)?;
            stage::within(|| prepare::stage_file(container, &disk, path, &file, None))?
        }
        DiskSource::Qcow2(path) => {
            let file = qcow2::serve(folder, &disk, path)?;
            stage::within(|| prepare::stage_file(container, &disk, path, &file, None))?
        }
    };
    present::present(container, folder, shown, prepared)
}
