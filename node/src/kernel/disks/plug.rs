//! Showing a disk in a container.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstat};
use nix::unistd::{Gid, Uid, chown};
use onedock_common::boot::{Disk, DiskSource};

use crate::kernel::disks::container::Container;
use crate::kernel::disks::error::{Fault, place, step};
use crate::kernel::disks::loops::{self, Loop, Loops, Part};
use crate::kernel::disks::probe::{self, Content};
use crate::kernel::disks::shown::{Device, Folder, Form, Mounted, Node, Shown};
use crate::kernel::disks::stage::{self, DEV};
use crate::kernel::disks::{qcow2, sys, trees, unplug, volume};

/// What was prepared on the stage.
pub(super) enum Staged {
    Mount(OwnedFd, Mounted, Option<String>),
    Device(Device, Vec<OwnedFd>),
}

/// Shows a disk; what it made is taken back when it fails. Answers a warning.
pub(super) fn plug(
    container: &Container<'_>,
    folder: &Folder,
    disk: &Disk,
) -> Result<Option<String>, Fault> {
    let mut shown = Shown {
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
        let _ = unplug::withdraw(container, folder, &shown);
    }
    done
}

fn show(
    container: &Container<'_>,
    folder: &Folder,
    shown: &mut Shown,
) -> Result<Option<String>, Fault> {
    let disk = shown.disk.clone();
    let staged = match &disk.source {
        DiskSource::Folder(path) => stage::within(|| trees::folder(path))?,
        DiskSource::Tree(path) => stage::within(|| trees::overlay(path, disk.read_only))?,
        DiskSource::Raw(path) => {
            let file = open(path, disk.read_only)?;
            stage::within(|| stage_file(container, &disk, path, &file, None))?
        }
        DiskSource::Qcow2(path) => {
            let file = qcow2::serve(folder, &disk, path)?;
            stage::within(|| stage_file(container, &disk, path, &file, None))?
        }
    };
    present(container, folder, shown, staged)
}

/// Brings what was prepared into the container.
pub(super) fn present(
    container: &Container<'_>,
    folder: &Folder,
    shown: &mut Shown,
    staged: Staged,
) -> Result<Option<String>, Fault> {
    let disk = &shown.disk;
    let remembered = step("remembering it");
    match staged {
        Staged::Mount(mount, mounted, warning) => {
            let Some(target) = disk.mount.clone() else {
                return Err(Fault::Cannot("shown as a device"));
            };
            map_owners(container, disk, &mount, &mounted.kind)?;
            shown.form = Some(Form::Mounted(mounted));
            folder.write(shown).map_err(remembered)?;
            container.attach(&mount, target.as_str())?;
            Ok(warning)
        }
        Staged::Device(device, staged) => {
            shown.form = Some(Form::Device(device.clone()));
            folder.write(shown).map_err(remembered)?;
            container.show(&device, &staged)?;
            Ok(None)
        }
    }
}

/// The owners on the disk are those of the container, whatever ids these have on the host. The
/// engine has laid a tree with the container's ids already.
fn map_owners(
    container: &Container<'_>,
    disk: &Disk,
    mount: &OwnedFd,
    kind: &str,
) -> Result<(), Fault> {
    if matches!(disk.source, DiskSource::Folder(_)) {
        return map_to_root(container, mount);
    }
    let Some(user) = container.mounts.user() else {
        return Ok(());
    };
    if matches!(disk.source, DiskSource::Tree(_)) {
        return Ok(());
    }
    match sys::map_owners(mount, user) {
        Ok(()) => Ok(()),
        // What can only be read is read by others, too.
        Err(Errno::EINVAL | Errno::ENOSYS) if kind == "iso9660" => Ok(()),
        Err(errno) => Err(Fault::Owners(errno)),
    }
}

/// The files of a CD that the driver has unpacked are its own on the host, and root's in the
/// container. Where the file system cannot map owners, they can be read all the same.
fn map_to_root(container: &Container<'_>, mount: &OwnedFd) -> Result<(), Fault> {
    let stat = fstat(mount).map_err(step("examining its mount"))?;
    let (user, group) = container.owner;
    if (stat.st_uid, stat.st_gid) == (user, group) {
        return Ok(());
    }
    let mapped = namespace_of((stat.st_uid, user), (stat.st_gid, group))
        .and_then(|namespace| Ok(sys::map_owners(mount, namespace)?));
    // Elsewhere the container sees the driver's numbers.
    mapped.or(Ok(()))
}

/// A user namespace in which one user and one group of a file system are others.
fn namespace_of(user: (u32, u32), group: (u32, u32)) -> io::Result<OwnedFd> {
    let sleeper = sys::Sleeper::in_new_user_namespace()?;
    let folder = Path::new("/proc").join(sleeper.pid().to_string());
    fs::write(folder.join("uid_map"), format!("{} {} 1", user.0, user.1))?;
    fs::write(folder.join("gid_map"), format!("{} {} 1", group.0, group.1))?;
    Ok(File::open(folder.join("ns/user"))?.into())
}

/// Opens the file, or the block device, that the disk is.
pub(super) fn open(path: &Path, read_only: bool) -> Result<File, Fault> {
    let source = |reason| Fault::Source {
        path: path.to_owned(),
        reason,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(!read_only)
        // A fifo in its place must not hold us up.
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(source)?;
    let kind = file.metadata().map_err(source)?.file_type();
    if kind.is_file() || kind.is_block_device() {
        Ok(file)
    } else {
        Err(Fault::Kind {
            path: path.to_owned(),
            wanted: "a file or a block device",
        })
    }
}

/// Puts the file behind a loop device and mounts what is on it, else makes devices of it. An
/// `existing` loop device is one that is mounted already.
pub(super) fn stage_file(
    container: &Container<'_>,
    disk: &Disk,
    path: &Path,
    file: &File,
    existing: Option<&Loop>,
) -> Result<Staged, Fault> {
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
    loops::node(dev, disk.device.as_str(), looped.index).map_err(step("making its node"))?;
    let content = probe::content(&node).map_err(step("looking what is on it"))?;
    if let (Some(_), Some(kind)) = (&disk.mount, content.mountable()) {
        if existing.is_none()
            && !disk.read_only
            && volume::grows_unmounted(kind)
            && volume::can_grow(kind, &device).is_ok_and(|can| can)
        {
            volume::grow_unmounted(&node);
        }
        volume::mount_at_stage(&node, kind, disk.read_only)?;
        let warning = grown(kind, &device, &node, disk);
        let (mount, mut mounted) = volume::take(kind)?;
        mounted.looped = Some(looped);
        return Ok(Staged::Mount(mount, mounted, warning));
    }
    std::fs::remove_file(&node).map_err(step("removing its node"))?;
    drop(device);
    stage_device(container, disk, &loops, path, file, content)
}

/// A file system that cannot be grown is used as it is.
fn grown(kind: &str, device: &File, node: &Path, disk: &Disk) -> Option<String> {
    let growing = !disk.read_only && volume::can_grow(kind, device).is_ok_and(|can| can);
    let failed = growing.then(|| volume::grow(kind, node).err()).flatten();
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
) -> Result<Staged, Fault> {
    let slot = container.slot.ok_or(Fault::NoSlot)?;
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
    made.map(|staged| Staged::Device(device, staged))
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
) -> Result<std::path::PathBuf, Fault> {
    let attaching = || step("attaching a loop device");
    for index in free {
        if let Some(looped) = loops
            .attach_at(index, file, part, path)
            .map_err(attaching())?
        {
            loops::node(Path::new(DEV), &name, index).map_err(step("making its node"))?;
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
