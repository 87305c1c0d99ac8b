//! What a container's layer may hold: the project quota that the engine's overlay2 driver gives
//! the folder of a layer on xfs mounted with `pquota` (`docker create --storage-opt size=…`).
//!
//! The engine sets it when the container is created and has no call to change it. The quota is
//! the file system's: it is in force for the running container at once, and survives restarts.

use std::mem::size_of;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::libc;
use nix::sys::stat::Mode;
use onedock_common::ContainerId;
use onedock_common::state::paths::Paths;
use thiserror::Error;

use crate::layers::error::PackError;
use crate::layers::layer::Layer;

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
    // The layer is open by O_PATH, which no ioctl takes.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let folder = openat(layer.upper(), ".", flags, Mode::empty()).map_err(failed("read"))?;
    let project = match project(&folder) {
        Ok(0) | Err(Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::EINVAL) => {
            return Err(QuotaError::NoQuota);
        }
        project => project.map_err(failed("read"))?,
    };

    let mut quota = Quota::default();
    match call(GET, &folder, project, &mut quota) {
        // Counted, but not kept: mounted with pqnoenforce, or no quota at all.
        Err(Errno::ESRCH | Errno::ENOSYS) => return Err(QuotaError::NoQuota),
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

/// So many MiB in blocks of the quota calls.
fn blocks(size_mib: u64) -> Result<u64, QuotaError> {
    size_mib
        .checked_mul(1024 * 1024 / BLOCK)
        .filter(|blocks| *blocks > 0 && i64::try_from(*blocks).is_ok())
        .ok_or(QuotaError::Size(size_mib))
}

/// `struct fsxattr` of `linux/fs.h`.
#[repr(C)]
#[derive(Debug, Default)]
struct FileAttributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    padding: [u8; 8],
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

const _: () = assert!(size_of::<FileAttributes>() == 28 && size_of::<Quota>() == 112);

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

nix::ioctl_read! {
    /// `FS_IOC_FSGETXATTR`
    read_attributes, b'X', 31, FileAttributes
}

/// The project of the layer's folder, 0 for none.
fn project(folder: &OwnedFd) -> Result<u32, Errno> {
    let mut attributes = FileAttributes::default();
    // SAFETY: the descriptor is open, and the structure is the one that the call fills in.
    unsafe { read_attributes(folder.as_raw_fd(), &raw mut attributes) }?;
    Ok(attributes.project)
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
