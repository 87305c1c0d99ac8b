//! Preparing a disk that is a file: a loop device behind it, and what is on it as
//! a mount or as device nodes, on the stage where the container does not see it yet.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{Gid, Uid, chown};
use onedock_common::disk_file;
use onedock_common::state::boot::Disk;

use crate::disks::container::Container;
use crate::disks::error::{Fault, place, step};
use crate::disks::loop_device::{self, Loop, Loops, Part};
use crate::disks::probe::{self, Content};
use crate::disks::stage::DEV;
use crate::disks::state::{Device, Mounted, Node};
use crate::disks::{file_system, slots, sys};
use crate::owned;

/// What was prepared on the stage.
pub(super) enum Prepared {
    Mount(OwnedFd, Mounted, Option<String>),
    Device(Device, Vec<OwnedFd>),
}

/// Opens the file that the disk is.
pub(super) fn open(path: &Path, read_only: bool) -> Result<File, Fault> {
    let opened = owned::file(path, read_only).map_err(|reason| Fault::Source {
        path: path.to_owned(),
        reason,
    })?;
    Ok(File::from(opened))
}

/// Puts the file behind a loop device and mounts what is on it, else makes devices of it. An
/// `existing` loop device is one that is mounted already.
pub(super) fn stage_file(
    container: &Container<'_>,
    disk: &Disk,
    path: &Path,
    file: &File,
    existing: Option<&Loop>,
) -> Result<Prepared, Fault> {
    // Before the kernel and programs see it.
    let looking = || step("looking what is on it");
    if disk.mount.is_some()
        && let Some(further) = disk_file::further_device(file).map_err(looking())?
    {
        return Err(Fault::FurtherDevice(further));
    }
    let dev = Path::new(DEV);
    let loops = Loops::open(dev).map_err(step("opening the kernel's loop devices"))?;
    let part = Part {
        read_only: disk.read_only,
        ..Part::default()
    };
    let attaching = step("attaching a loop device");
    let (device, looped) = match existing {
        Some(looped) => (loops.device(looped.index).map_err(attaching)?, *looped),
        None => loops.attach(file, part, path).map_err(attaching)?,
    };
    let node = dev.join(disk.device.as_str());
    loop_device::node(dev, disk.device.as_str(), looped.index).map_err(step("making its node"))?;
    let content = match disk_file::is_part_of_an_array(file).map_err(looking())? {
        true => Content::default(),
        false => probe::content(&node).map_err(looking())?,
    };
    if let (Some(_), Some(kind)) = (&disk.mount, content.mountable()) {
        if existing.is_none()
            && !disk.read_only
            && file_system::grows_unmounted(kind)
            && file_system::can_grow(kind, &device).is_ok_and(|can| can)
        {
            file_system::grow_unmounted(&node);
        }
        file_system::mount_at_stage(&node, kind, disk.read_only)?;
        let warning = grown(kind, &device, &node, disk);
        let (mount, mut mounted) = file_system::take(kind)?;
        mounted.looped = Some(looped);
        return Ok(Prepared::Mount(mount, mounted, warning));
    }
    fs::remove_file(&node).map_err(step("removing its node"))?;
    drop(device);
    stage_device(container, disk, &loops, path, file, content)
}

/// A file system that cannot be grown is used as it is.
fn grown(kind: &str, device: &File, node: &Path, disk: &Disk) -> Option<String> {
    let growing = !disk.read_only && file_system::can_grow(kind, device).is_ok_and(|can| can);
    let failed = growing
        .then(|| file_system::grow(kind, node).err())
        .flatten();
    let place = place(disk.mount.as_ref(), &disk.device);
    failed.map(|fault| format!("disk {} at {place}: {fault}", disk.id))
}

fn stage_device(
    container: &Container<'_>,
    disk: &Disk,
    loops: &Loops<'_>,
    path: &Path,
    file: &File,
    content: Content,
) -> Result<Prepared, Fault> {
    let slot = container.slot.ok_or_else(|| match slots::are_allowed() {
        true => Fault::NoSlot,
        false => Fault::Unbounded,
    })?;
    let mut free = slot.indices();
    let mut device = Device {
        nodes: Vec::new(),
        links: Vec::new(),
    };
    let name = disk.device.as_str();
    let made = (|| {
        let whole = Part {
            read_only: disk.read_only,
            ..Part::default()
        };
        let node = add(
            loops,
            &mut free,
            &mut device,
            name.to_owned(),
            path,
            file,
            whole,
        )?;
        if content.table {
            let found = probe::partitions(&node).map_err(step("reading its partitions"))?;
            for partition in found {
                let name = partition_name(name, partition.number);
                let part = Part {
                    offset: partition.offset,
                    size: partition.size,
                    read_only: disk.read_only,
                };
                let node = add(
                    loops,
                    &mut free,
                    &mut device,
                    name.clone(),
                    path,
                    file,
                    part,
                )?;
                let content = probe::content(&node).map_err(step("looking what is on it"))?;
                let links = content.links().into_iter();
                device.links.extend(links.map(|link| (link, name.clone())));
            }
        }
        let links = content.links().into_iter();
        device
            .links
            .extend(links.map(|link| (link, name.to_owned())));
        match container.mounts.user() {
            None => Ok(Vec::new()),
            Some(_) => staged_nodes(&device, container.owner).map_err(step("making its nodes")),
        }
    })();
    if made.is_err() {
        for node in device.nodes.iter().rev() {
            let _ = loops.release(node.looped.index);
        }
    }
    made.map(|staged| Prepared::Device(device, staged))
}

/// Puts a part of the file behind the next free device of the container. Answers its node.
fn add(
    loops: &Loops<'_>,
    free: &mut impl Iterator<Item = u32>,
    device: &mut Device,
    name: String,
    path: &Path,
    file: &File,
    part: Part,
) -> Result<PathBuf, Fault> {
    let attaching = || step("attaching a loop device");
    for index in free {
        if let Some(looped) = loops
            .attach_at(index, file, part, path)
            .map_err(attaching())?
        {
            loop_device::node(Path::new(DEV), &name, index).map_err(step("making its node"))?;
            let node = Path::new(DEV).join(&name);
            device.nodes.push(Node { name, looped });
            return Ok(node);
        }
    }
    Err(Fault::NoMinor)
}

/// As the kernel names partitions: `vdb1`, and `sr0p1` behind a digit.
fn partition_name(device: &str, number: u32) -> String {
    let between = if device.ends_with(|c: char| c.is_ascii_digit()) {
        "p"
    } else {
        ""
    };
    format!("{device}{between}{number}")
}

/// The nodes as mounts, for a container in which no node can be made.
fn staged_nodes(device: &Device, owner: (u32, u32)) -> nix::Result<Vec<OwnedFd>> {
    let mut staged = Vec::new();
    for node in &device.nodes {
        let path = Path::new(DEV).join(&node.name);
        chown(
            &path,
            Some(Uid::from_raw(owner.0)),
            Some(Gid::from_raw(owner.1)),
        )?;
        let mode = Mode::from_bits_truncate(0o660);
        fchmodat(
            nix::fcntl::AT_FDCWD,
            &path,
            mode,
            FchmodatFlags::FollowSymlink,
        )?;
        staged.push(sys::clone_mount(&path)?);
    }
    Ok(staged)
}
