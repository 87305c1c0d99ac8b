//! The container, from inside its mount namespace. What lies there is hostile: places are
//! resolved beneath its root by the kernel, and nothing of the host is reached from there.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{
    FileStat, Mode, SFlag, fstat, fstatat, makedev, mkdirat, mknodat, stat as stat_of,
};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::unistd::{
    Gid, Uid, UnlinkatFlags, chroot, fchdir, fchownat, setfsgid, setfsuid, symlinkat, unlinkat,
};
use onedock_common::ContainerId;

use crate::disks::error::{Fault, step};
use crate::disks::loop_device::MAJOR;
use crate::disks::slots::Slot;
use crate::disks::state::{Device, Mounted};
use crate::disks::{loop_device, sys};
use crate::layers::rootfs::Root;
use crate::mountinfo;
use crate::namespace::{Mounts, NamespaceError, Process};
use crate::owned::KERNELS;
use crate::record::Vm;

/// A living container.
#[derive(Debug)]
pub(super) struct Container<'a> {
    pub(super) id: &'a ContainerId,
    pub(super) pid: i32,
    pub(super) slot: Option<Slot>,
    /// The host's ids of its root user.
    pub(super) owner: (u32, u32),
    pub(super) mounts: Mounts,
    /// The host's `/dev`, which a container may share.
    hosts_dev: u64,
}

impl<'a> Container<'a> {
    pub(super) fn open(
        id: &'a ContainerId,
        vm: &Vm,
        process: &Process,
    ) -> Result<Self, NamespaceError> {
        let examine = |source| NamespaceError::Examine {
            pid: process.id(),
            source,
        };
        Ok(Self {
            id,
            pid: process.id(),
            slot: vm.slot,
            owner: vm.owner,
            mounts: process.mounts()?,
            hosts_dev: fs::metadata("/dev").map_err(examine)?.dev(),
        })
    }

    fn root(&self) -> Result<Root, Fault> {
        Ok(Root::of_this_thread(self.owner)?)
    }

    /// Attaches a mount at a folder, which is made where it is missing.
    pub(super) fn attach(&self, mount: &OwnedFd, place: &str) -> Result<(), Fault> {
        self.mounts.within(|| {
            let root = self.root()?;
            let attached = root
                .target(Path::new(place))
                .map_err(Fault::from)
                .and_then(|target| {
                    let dev = root.dev().and_then(fstat).map(|stat| stat.st_dev);
                    let kind = fstatfs(&target).map_err(step("examining its mount point"))?;
                    let stat = fstat(&target).map_err(step("examining its mount point"))?;
                    let top = stat_of("/").map_err(step("examining its mount point"))?;
                    let leads = |what: &str| {
                        Err(Fault::MountPoint {
                            place: place.to_owned(),
                            what: format!("a link in the image leads there {what}"),
                        })
                    };
                    if KERNELS.contains(&kind.filesystem_type()) || dev == Ok(stat.st_dev) {
                        return leads("into a file system of the kernel");
                    }
                    if (stat.st_dev, stat.st_ino) == (top.st_dev, top.st_ino) {
                        return leads("to the root of the VM, which it would hide");
                    }
                    sys::attach(mount, &target).map_err(step("attaching its mount"))
                });
            if attached.is_err() {
                root.remove_target(Path::new(place));
            }
            attached
        })
    }

    /// Where the mount is now, as the container sees it, and where else its file system is.
    pub(super) fn find(&self, mounted: &Mounted) -> Result<Found, Fault> {
        let table = mountinfo::of(&self.pid.to_string()).map_err(step("reading the mounts"))?;
        let mut found = Found::default();
        for entry in table {
            if entry.device != mounted.device {
                continue;
            }
            let place = entry.place.to_string_lossy().into_owned();
            if entry.id == mounted.mount_id {
                found.place = Some(place);
            } else {
                found.others.push(place);
            }
        }
        Ok(found)
    }

    /// Opens the folder at which something is mounted; called within the namespace.
    pub(super) fn open_mount(&self, place: &str) -> Result<OwnedFd, Fault> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
        openat2(nix::fcntl::AT_FDCWD, Path::new(place), how).map_err(step("opening its mount"))
    }

    /// Takes a mount away; false when it is in use.
    pub(super) fn detach(&self, place: &str) -> Result<bool, Fault> {
        let path = Path::new(place);
        // The root of its first process, which a mount over it has not moved.
        let own_root = openat(
            AT_FDCWD,
            format!("/proc/{}/root", self.pid).as_str(),
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(step("opening the root of the VM"))?;
        self.mounts.within(|| {
            let how = OpenHow::new()
                .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
                .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
            let failed = "taking its mount away";
            let name = match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => {
                    let parent =
                        openat2(nix::fcntl::AT_FDCWD, parent, how).map_err(step(failed))?;
                    fchdir(parent).map_err(step(failed))?;
                    Path::new(name)
                }
                // Over the root, where this thread's own is since it has entered the namespace. From below
                // it is the last of several mounts there, which the kernel takes away.
                _ => {
                    fchdir(&own_root).map_err(step(failed))?;
                    chroot(".").map_err(step(failed))?;
                    path
                }
            };
            match umount2(name, MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(true),
                Err(Errno::EBUSY) => Ok(false),
                Err(errno) => Err(step(failed)(errno)),
            }
        })
    }

    /// Removes the folders that were made to mount on.
    pub(super) fn remove_target(&self, place: &str) {
        let _: Result<(), Fault> = self.mounts.within(|| {
            self.root()?.remove_target(Path::new(place));
            Ok(())
        });
    }

    /// Shows device nodes and their links. In a user namespace no node can be made: there,
    /// `staged` has a mount of each.
    pub(super) fn show(&self, device: &Device, staged: &[OwnedFd]) -> Result<(), Fault> {
        self.mounts.within(|| {
            self.become_its_root();
            let dev = self.dev()?;
            for (at, node) in device.nodes.iter().enumerate() {
                let name = node.name.as_str();
                let made = match staged.get(at) {
                    None => self.make_node(&dev, name, node.looped.index),
                    Some(staged) => bind_node(&dev, name, staged),
                };
                made.map_err(|errno| match errno {
                    Errno::EEXIST => Fault::MountPoint {
                        place: format!("/dev/{name}"),
                        what: "the container has a device of that name".to_owned(),
                    },
                    errno => step("making its device node")(errno),
                })?;
            }
            for (link, name) in &device.links {
                make_link(&dev, link, name).map_err(step("making its links in /dev/disk"))?;
            }
            Ok(())
        })
    }

    /// Removes device nodes and links.
    pub(super) fn hide(&self, device: &Device) -> Result<(), Fault> {
        self.mounts.within(|| {
            self.become_its_root();
            let dev = self.dev()?;
            let hidden = (|| {
                for (link, name) in &device.links {
                    remove_link(&dev, link, name);
                }
                fchdir(&dev)?;
                for node in &device.nodes {
                    let name = node.name.as_str();
                    match fstatat(&dev, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                        Ok(stat) if is_ours(&stat, node.looped.number()) => {}
                        Ok(_) | Err(Errno::ENOENT) => continue,
                        Err(errno) => return Err(errno),
                    }
                    // A node that is a mount is not busy for its users' sake, who were asked for.
                    let _ = umount2(name, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
                    match unlinkat(&dev, name, UnlinkatFlags::NoRemoveDir) {
                        Ok(()) | Err(Errno::ENOENT) => {}
                        Err(errno) => return Err(errno),
                    }
                }
                Ok(())
            })();
            hidden.map_err(step("removing its device nodes"))
        })
    }

    /// On a file system that was mounted in a user namespace, only users of that namespace make
    /// files. Ends with the thread.
    fn become_its_root(&self) {
        if self.mounts.user().is_some() {
            setfsgid(Gid::from_raw(self.owner.1));
            setfsuid(Uid::from_raw(self.owner.0));
        }
    }

    /// The container's `/dev`, which must be its own.
    fn dev(&self) -> Result<OwnedFd, Fault> {
        let wrong = |what: &str| Fault::MountPoint {
            place: "/dev".to_owned(),
            what: what.to_owned(),
        };
        let dev = self
            .root()?
            .dev()
            .map_err(|_| wrong("it is not a folder"))?;
        let kind = fstatfs(&dev).map_err(step("examining /dev"))?;
        let stat = fstat(&dev).map_err(step("examining /dev"))?;
        if kind.filesystem_type() != TMPFS_MAGIC || stat.st_dev == self.hosts_dev {
            return Err(wrong("it is not a file system of the container's own"));
        }
        Ok(dev)
    }

    fn make_node(&self, dev: &OwnedFd, name: &str, index: u32) -> nix::Result<()> {
        let mode = Mode::from_bits_truncate(0o660);
        let number = makedev(MAJOR, u64::from(index) << loop_device::shift());
        mknodat(dev, name, SFlag::S_IFBLK, mode, number)?;
        let (uid, gid) = self.owner;
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        fchownat(dev, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
    }
}

/// A node of the device, or the empty file that was to become one.
fn is_ours(stat: &FileStat, device: u64) -> bool {
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFBLK => stat.st_rdev == device,
        SFlag::S_IFREG => stat.st_size == 0,
        _ => false,
    }
}

/// Where a mount is.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) place: Option<String>,
    /// Other mounts of the same file system.
    pub(super) others: Vec<String>,
}

fn bind_node(dev: &OwnedFd, name: &str, staged: &OwnedFd) -> nix::Result<()> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let empty = nix::fcntl::openat(dev, name, flags, Mode::from_bits_truncate(0o600))?;
    sys::attach(staged, &empty).inspect_err(|_| {
        let _ = unlinkat(dev, name, UnlinkatFlags::NoRemoveDir);
    })
}

fn folder(at: &OwnedFd, name: &str) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(at, name, how)
}

fn folder_made(at: &OwnedFd, name: &str) -> nix::Result<OwnedFd> {
    match mkdirat(at, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => folder(at, name),
        Err(errno) => Err(errno),
    }
}

/// The first disk of a label has its link.
fn make_link(dev: &OwnedFd, link: &str, node: &str) -> nix::Result<()> {
    let Some((kind, name)) = link.split_once('/') else {
        return Ok(());
    };
    let disk = folder_made(dev, "disk")?;
    match symlinkat(
        format!("../../{node}").as_str(),
        folder_made(&disk, kind)?,
        name,
    ) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn remove_link(dev: &OwnedFd, link: &str, node: &str) {
    let Some((kind, name)) = link.split_once('/') else {
        return;
    };
    let Ok(disk) = folder(dev, "disk") else {
        return;
    };
    if let Ok(links) = folder(&disk, kind)
        && readlinkat(&links, name).is_ok_and(|to| to == format!("../../{node}").as_str())
    {
        let _ = unlinkat(&links, name, UnlinkatFlags::NoRemoveDir);
    }
    // Those that hold nothing go.
    let _ = unlinkat(&disk, kind, UnlinkatFlags::RemoveDir);
    let _ = unlinkat(dev, "disk", UnlinkatFlags::RemoveDir);
}
