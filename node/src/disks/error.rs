//! What stops the work on a disk, in the words that the user reads.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use onedock_common::disk_file::{DiskFileError, FurtherDevice};
use onedock_common::state::boot::Disk;
use onedock_common::types::names::{DeviceName, MountPath};
use onedock_common::{ContainerId, DiskId, VmId};
use thiserror::Error;

use crate::layers::PackError;
use crate::layers::rootfs::RootError;
use crate::namespace::NamespaceError;
use crate::owned::NotOpened;

/// Why something about the disks of a VM was not done.
#[derive(Debug, Error)]
pub enum DiskError {
    /// About one disk.
    #[error("disk {disk} ({device}): {fault}")]
    Of {
        /// DISK/DISK_ID.
        disk: DiskId,
        /// DISK/TARGET.
        device: DeviceName,
        /// What is wrong.
        fault: Fault,
    },
    /// Two disks of one name, number or place.
    #[error("disk {0} has the number, TARGET or MOUNTPOINT of another disk; change the template")]
    Twice(DiskId),
    /// No such container.
    #[error("VM {vm} has no running container {}", container.short())]
    NotRunning { vm: VmId, container: ContainerId },
    /// Not among those shown.
    #[error("VM {vm} has no disk {disk} in its container")]
    NotShown { vm: VmId, disk: DiskId },
    /// The records of the runtime.
    #[error("the state in /run/onedock cannot be used: {0}")]
    State(io::Error),
    /// Another call.
    #[error("another call works on the disks of VM {0}; try again")]
    Locked(VmId),
    /// Nothing on the host.
    #[error("disk {disk}: there is no {path} on this host; check the datastores' transfer")]
    Missing {
        /// DISK/DISK_ID.
        disk: DiskId,
        /// What is missing.
        path: PathBuf,
    },
    /// After the end.
    #[error("disk {0} is still in use on the host by what has ended; look for processes that hang")]
    Unsettled(DiskId),
}

/// What is wrong with a disk.
#[derive(Debug, Error)]
pub enum Fault {
    /// What lies on the host.
    #[error("{path} cannot be opened: {reason}")]
    Source {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        reason: NotOpened,
    },
    /// What lies on the host is of another kind.
    #[error("{path} is not {wanted}")]
    Kind {
        /// The file or folder.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
    /// The tree of an image.
    #[error(transparent)]
    Layer(#[from] PackError),
    /// A damaged qcow2 file, or one that leads to other files.
    #[error(transparent)]
    Image(#[from] DiskFileError),
    /// The kernel did not take the file system.
    #[error(
        "its {kind} file system cannot be mounted ({reason}); repair it, or set DEVICE=YES to get the disk as a device"
    )]
    Mount {
        /// The type of the file system.
        kind: String,
        /// What the kernel answered.
        reason: Errno,
    },
    /// A file system that belongs to several devices.
    #[error(
        "{0}, and would lead this host to devices that are not the VM's; set DEVICE=YES to get the disk as a device"
    )]
    FurtherDevice(FurtherDevice),
    /// Owners cannot be mapped.
    #[error(
        "the owners of its files cannot be mapped into the container's user namespace ({0}); that needs Linux 5.12 (btrfs: 5.15), or an engine without userns-remap"
    )]
    Owners(Errno),
    /// The place in the container.
    #[error("it cannot be shown at {place}: {what}")]
    MountPoint {
        /// Where.
        place: String,
        /// Why not.
        what: String,
    },
    /// All minor numbers are in use.
    #[error(
        "the container's 16 block devices are all in use; use fewer disks as devices or fewer partitions"
    )]
    NoMinor,
    /// In use.
    #[error("it is in use at {place}{by}; end what uses it and detach it again")]
    InUse {
        /// Where it is shown.
        place: String,
        /// By whom, as far as is known, as ` by …`.
        by: String,
    },
    /// A container that was created by an earlier version.
    #[error("the container has no block devices of its own; power the VM off and resume it")]
    NoSlot,
    /// A host without the bound of decision 17.
    #[error(
        "no disk is shown as a device on this host, whose loop driver has no bound (max_loop); 'onedock setup node' there says how to set it"
    )]
    Unbounded,
    #[error("its qcow2 file is not served: {0}")]
    Daemon(String),
    #[error("its file system cannot be grown: {0}")]
    Growing(io::Error),
    /// Only root with the right to all resources grows a mounted ext file system.
    #[error(
        "it has its new size; its file system follows when the VM is next powered off and resumed, because root on this host has no CAP_SYS_RESOURCE"
    )]
    Later,
    /// Not for this kind of disk.
    #[error("a disk of this kind cannot be {0}")]
    Cannot(&'static str),
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// Anything else.
    #[error("{step} failed: {reason}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// What the system answered.
        reason: io::Error,
    },
}

impl From<io::Error> for Fault {
    fn from(reason: io::Error) -> Self {
        step("preparing it")(reason)
    }
}

/// Names the step that failed.
pub(super) fn step<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Fault {
    move |reason| Fault::Step {
        step,
        reason: reason.into(),
    }
}

/// Names the disk.
pub(super) fn of(disk: &Disk) -> impl FnOnce(Fault) -> DiskError {
    let (disk, device) = (disk.id, disk.device.clone());
    move |fault| DiskError::Of {
        disk,
        device,
        fault,
    }
}

/// Where a disk is seen, in words.
pub(super) fn place(mount: Option<&MountPath>, device: &DeviceName) -> String {
    mount.map_or_else(|| format!("/dev/{device}"), ToString::to_string)
}
