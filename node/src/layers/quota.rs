//! What a container's layer may hold: a project quota on its folder, where the file system keeps them
//! (xfs mounted with `pquota`, ext4 with `prjquota`).
//!
//! With overlay2 on xfs the engine gives the layer a project when the container is created with a
//! size, and has no call to change that; with containerd's snapshots it takes the size and does
//! nothing. The quota is the file system's: it is in force for the running container at once, and survives
//! restarts.

use std::mem::size_of;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::libc;
use nix::sys::stat::{Mode, fstat};
use onedock_common::ContainerId;
use onedock_common::state::paths::Paths;
use thiserror::Error;

use crate::layers::error::PackError;
use crate::layers::layer::Layer;
use crate::layers::{pack, project};

/// The first of the numbers of projects that are given here.
const OURS: u32 = 1 << 30;

/// A block of the quota calls, in bytes.
const BLOCK: u64 = 512;

/// Why a layer has no new bound.
#[derive(Debug, Error)]
pub enum QuotaError {
    #[error(transparent)]
    Layer(#[from] PackError),
    /// Storage without quotas, or a container that was made without one.
    #[error("the engine's storage keeps no quota for this layer")]
    NoQuota,
    /// A bound that means none, or is out of the kernel's range.
    #[error("{0} MiB is no size of a disk")]
    Size(u64),
    /// A bound below what the layer holds already.
    #[error("the disk holds {held} MiB of changes already, {size} MiB are too few")]
    Held {
        /// In MiB, rounded up.
        held: u64,
        /// The bound that was asked for.
        size: u64,
    },
    /// The kernel.
    #[error("the quota of {path} cannot be {verb}: {errno}")]
    Failed {
        path: PathBuf,
        /// Read or changed.
        verb: &'static str,
        /// What it answered.
        errno: Errno,
    },
}

/// Lets the layer of `container` hold `size_mib` MiB of changes.
///
/// # Errors
///
/// [`QuotaError`]; the old bound is then in force.
pub fn limit(paths: &Paths, container: &ContainerId, size_mib: u64) -> Result<(), QuotaError> {
    let blocks = blocks(size_mib)?;
    let layer = Layer::of(paths, container)?;
    let failed = |verb| {
        let path = layer.path().to_owned();
        move |errno| QuotaError::Failed { path, verb, errno }
    };
    let folder = readable(layer.upper()).map_err(failed("read"))?;
    let project = match project::of(&folder) {
        Ok(0) => give_project(&layer, &folder)?,
        Err(Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::EINVAL) => return Err(QuotaError::NoQuota),
        project => project.map_err(failed("read"))?,
    };

    let mut quota = Quota::default();
    match call(GET, &folder, project, &mut quota) {
        Err(errno) if is_no_quota(errno) => return Err(QuotaError::NoQuota),
        // A layer that holds nothing yet has no record.
        Err(Errno::ENOENT) => quota = Quota::default(),
        answer => answer.map_err(failed("read"))?,
    }
    if quota.held > blocks {
        return Err(QuotaError::Held {
            held: (quota.held * BLOCK).div_ceil(1024 * 1024),
            size: size_mib,
        });
    }
    let mut quota = Quota {
        version: 1,
        flags: PROJECT,
        fields: SOFT | HARD,
        id: project,
        hard: blocks,
        soft: blocks,
        ..Quota::default()
    };
    call(SET, &folder, project, &mut quota).map_err(failed("changed"))
}

/// Gives a layer a project of its own, as the engine does only with overlay2 on xfs.
fn give_project(layer: &Layer, folder: &OwnedFd) -> Result<u32, QuotaError> {
    let failed = |errno| QuotaError::Failed {
        path: layer.path().to_owned(),
        verb: "changed",
        errno,
    };
    let project = match free_project(folder) {
        Err(errno) if is_no_quota(errno) => return Err(QuotaError::NoQuota),
        project => project.map_err(failed)?,
    };
    pack::allow_depth();
    // The kernel makes files in the folder for work and renames them into the layer, which it refuses
    // across projects: that folder first.
    let work = readable(&layer.work()?).map_err(failed)?;
    project::assign(work, project).map_err(failed)?;
    let again = readable(layer.upper()).map_err(failed)?;
    project::assign(again, project).map_err(failed)?;
    Ok(project)
}

/// A number that counts nothing yet. It begins with the folder's inode, so that two of these calls at
/// once do not take the same; those of the engine count from 1.
fn free_project(folder: &OwnedFd) -> Result<u32, Errno> {
    let inode = fstat(folder)?.st_ino;
    for number in inode..inode.saturating_add(1000) {
        let project = OURS | u32::try_from(number & u64::from(!OURS >> 1)).unwrap_or(0);
        let mut quota = Quota::default();
        match call(GET, folder, project, &mut quota) {
            Err(Errno::ENOENT) => return Ok(project),
            Ok(()) if quota.held == 0 && quota.inodes == 0 => return Ok(project),
            Ok(()) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EUSERS)
}

/// Counted, but not enforced (mounted with pqnoenforce), no quota at all, or Linux before 5.14.
fn is_no_quota(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ESRCH | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EINVAL
    )
}

/// The folder again, which is open by `O_PATH`: no ioctl takes that.
fn readable(folder: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(folder, ".", flags, Mode::empty())
}

/// So many MiB in blocks of the quota calls.
fn blocks(size_mib: u64) -> Result<u64, QuotaError> {
    size_mib
        .checked_mul(1024 * 1024 / BLOCK)
        .filter(|blocks| *blocks > 0 && i64::try_from(*blocks).is_ok())
        .ok_or(QuotaError::Size(size_mib))
}

/// `struct fs_disk_quota` of `linux/dqblk_xfs.h`.
#[repr(C)]
#[derive(Debug, Default)]
struct Quota {
    version: i8,
    flags: i8,
    fields: u16,
    id: u32,
    /// Bounds and what is held, in blocks of 512 bytes.
    hard: u64,
    soft: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    held: u64,
    inodes: u64,
    timers: [i32; 2],
    warnings: [u16; 2],
    padding: [u8; 4],
    realtime: [u64; 3],
    realtime_timer: i32,
    realtime_warnings: u16,
    end: [u8; 10],
}

const _: () = assert!(size_of::<Quota>() == 112);

/// `FS_PROJ_QUOTA`, `FS_DQ_BSOFT`, `FS_DQ_BHARD`.
const PROJECT: i8 = 2;
const SOFT: u16 = 1 << 2;
const HARD: u16 = 1 << 3;
/// `Q_XGETQUOTA` and `Q_XSETQLIM`, for projects (`PRJQUOTA`).
const GET: libc::c_int = command(3);
const SET: libc::c_int = command(4);

const fn command(number: libc::c_int) -> libc::c_int {
    let kind = 2;
    ((((b'X' as libc::c_int) << 8) + number) << 8) | kind
}

/// `quotactl_fd`, from Linux 5.14 on: of the file system that holds `folder`, whatever its device is
/// named.
fn call(
    command: libc::c_int,
    folder: &OwnedFd,
    project: u32,
    quota: &mut Quota,
) -> Result<(), Errno> {
    let address: *mut Quota = quota;
    // SAFETY: the descriptor is open, and the structure is the one that both commands read or fill in.
    let done = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            folder.as_raw_fd(),
            command,
            project,
            address,
        )
    };
    Errno::result(done).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That the kernel bounds by it is shown in a virtual machine (`tests/vm/disks.sh`): few
    /// kernels have quotas.
    #[test]
    fn a_bound_is_in_blocks_of_512_bytes() {
        assert_eq!(blocks(1).unwrap(), 2048);
        assert_eq!(blocks(74).unwrap(), 74 * 2048);
        assert!(blocks(0).is_err() && blocks(u64::MAX / 2048).is_err());
    }

    #[test]
    fn a_size_that_is_none_is_refused_before_anything_is_opened() {
        let paths = Paths::at("/nonexistent/state");
        let container = "ab".repeat(32).parse().unwrap();
        for size in [0, u64::MAX] {
            let refused = limit(&paths, &container, size);
            assert!(matches!(refused, Err(QuotaError::Size(s)) if s == size));
        }
        let unknown = limit(&paths, &container, 1);
        assert!(matches!(
            unknown,
            Err(QuotaError::Layer(PackError::Unknown { .. }))
        ));
    }
}
