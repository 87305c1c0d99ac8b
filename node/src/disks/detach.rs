//! Taking a disk out of a running container, unless something there uses it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use onedock_common::state::boot::DiskSource;
use onedock_common::wait;

use crate::disks::container::Container;
use crate::disks::error::{Fault, place, step};
use crate::disks::loop_device::{self, Loop, Loops};
use crate::disks::stage::{self, DEV};
use crate::disks::state::{Device, Folder, Form, Mounted, PluggedDisk};
use crate::disks::{prepare, present, qcow2, users};

/// How long the kernel is given to let go of a file system that nobody has mounted any more.
const FREE: Duration = Duration::from_secs(3);

/// Takes a disk out; it stays as it was when it is refused.
pub(super) fn detach(
    container: &Container<'_>,
    folder: &Folder,
    shown: &PluggedDisk,
) -> Result<(), Fault> {
    match &shown.form {
        Some(Form::Mounted(mounted)) => mount(container, folder, shown, mounted)?,
        Some(Form::Device(device)) => devices(container, shown, device)?,
        None => {}
    }
    qcow2::end(folder, shown.disk.id).map_err(step("ending what serves its qcow2 file"))?;
    folder.forget(shown.disk.id).map_err(step("forgetting it"))
}

fn in_use(shown: &PluggedDisk, by: &[String]) -> Fault {
    let by = match by {
        [] => String::new(),
        names => format!(" by {}", names.join(", ")),
    };
    Fault::InUse {
        place: place(shown.disk.mount.as_ref(), &shown.disk.device),
        by,
    }
}

fn mount(
    container: &Container<'_>,
    folder: &Folder,
    shown: &PluggedDisk,
    mounted: &Mounted,
) -> Result<(), Fault> {
    let found = container.find(mounted)?;
    // The file system of a folder is the host's.
    let whole = !matches!(shown.disk.source, DiskSource::Folder(_));
    if whole {
        if !found.others.is_empty() {
            let by = format!("a further mount of it at {}", found.others.join(", "));
            return Err(in_use(shown, &[by]));
        }
        let others = users::elsewhere(container.id, container.pid, mounted);
        if !others.is_empty() {
            return Err(in_use(shown, &others));
        }
    }
    if let Some(place) = &found.place
        && !container.detach(place)?
    {
        return Err(in_use(shown, &users::of_mount(container.id, mounted)));
    }
    if let Some(looped) = &mounted.looped
        && !freed(looped, FREE).map_err(step("waiting for its loop device"))?
    {
        // Something that was not seen has it: it stays.
        put_back(container, folder, shown, looped)?;
        return Err(in_use(
            shown,
            &users::elsewhere(container.id, container.pid, mounted),
        ));
    }
    if let Some(place) = &shown.disk.mount {
        container.remove_target(place.as_str());
    }
    Ok(())
}

fn put_back(
    container: &Container<'_>,
    folder: &Folder,
    shown: &PluggedDisk,
    looped: &Loop,
) -> Result<(), Fault> {
    let (disk, mut shown) = (&shown.disk, shown.clone());
    let (DiskSource::Raw(path) | DiskSource::Qcow2(path)) = &disk.source else {
        return Ok(());
    };
    let file = prepare::open(path, true)?;
    let staged = stage::within(|| prepare::stage_file(container, disk, path, &file, Some(looped)))?;
    present::present(container, folder, &mut shown, staged).map(drop)
}

/// Whether a loop device lets go of its file in time.
pub(super) fn freed(looped: &Loop, limit: Duration) -> io::Result<bool> {
    if !loop_device::bound(looped.index) {
        return Ok(true);
    }
    stage::within(|| {
        let loops = Loops::open(Path::new(DEV))?;
        let free = || Ok((!loops.holds(looped)?).then_some(()));
        wait::until_ok(limit, free).map(|free| free.is_some())
    })
}

fn devices(container: &Container<'_>, shown: &PluggedDisk, device: &Device) -> Result<(), Fault> {
    let numbers: Vec<u64> = device
        .nodes
        .iter()
        .map(|node| node.looped.number())
        .collect();
    let open = users::of_devices(container.id, &numbers);
    if !open.is_empty() {
        return Err(in_use(shown, &open));
    }
    if device
        .nodes
        .iter()
        .any(|node| is_claimed(node.looped.index))
    {
        return Err(in_use(shown, &["a mount of it".to_owned()]));
    }
    container.hide(device)?;
    let released = stage::within(|| {
        let loops = Loops::open(Path::new(DEV))?;
        for node in device.nodes.iter().rev() {
            if !loops.release(node.looped.index)? {
                return Ok(false);
            }
        }
        Ok(true)
    });
    match released {
        Ok(true) => Ok(()),
        Ok(false) => {
            let _ = container.show(device, &[]);
            Err(in_use(shown, &users::of_devices(container.id, &numbers)))
        }
        Err(e) => Err(step::<io::Error>("detaching its loop devices")(e)),
    }
}

/// Whether the kernel itself uses the device, as it does when it is mounted.
fn is_claimed(index: u32) -> bool {
    let claimed: io::Result<bool> = stage::within(|| {
        let dev = Path::new(DEV);
        loop_device::node(dev, "claim", index)?;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(nix::libc::O_EXCL);
        let opened = options.open(dev.join("claim"));
        Ok(opened.is_err_and(|e| e.raw_os_error() == Some(Errno::EBUSY as i32)))
    });
    claimed.unwrap_or(false)
}
