//! Calls of the kernel for loop devices and detached mounts.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc::{self, c_long, c_ulong};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

/// `LO_FLAGS_READ_ONLY` (linux/loop.h).
pub(super) const LOOP_READ_ONLY: u32 = 1;
/// `LO_FLAGS_AUTOCLEAR`: the device lets go of its file with its last user.
pub(super) const LOOP_AUTOCLEAR: u32 = 4;

const LOOP_SET_STATUS64: c_ulong = 0x4C04;
const LOOP_GET_STATUS64: c_ulong = 0x4C05;
const LOOP_CLR_FD: c_ulong = 0x4C01;
const LOOP_SET_CAPACITY: c_ulong = 0x4C07;
const LOOP_CONFIGURE: c_ulong = 0x4C0A;
const LOOP_CTL_ADD: c_ulong = 0x4C80;
const LOOP_CTL_REMOVE: c_ulong = 0x4C81;
const LOOP_CTL_GET_FREE: c_ulong = 0x4C82;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct LoopInfo {
    /// Device of the file behind it.
    pub(super) device: u64,
    /// Inode of the file behind it.
    pub(super) inode: u64,
    rdevice: u64,
    /// Where in the file it begins, in bytes.
    pub(super) offset: u64,
    /// How long it is, in bytes; 0: to the end of the file.
    pub(super) size: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    /// `LO_FLAGS_…`.
    pub(super) flags: u32,
    /// What is shown as its file.
    pub(super) name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl LoopInfo {
    pub(super) const fn new(offset: u64, size: u64, flags: u32) -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset,
            size,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags,
            name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

fn number(request: c_ulong, on: &File, argument: c_ulong) -> nix::Result<i32> {
    // SAFETY: the descriptor is open and these requests take a plain number.
    Errno::result(unsafe { libc::ioctl(on.as_raw_fd(), request as _, argument) })
}

/// Adds the loop device of this index.
pub(super) fn loop_add(control: &File, index: u32) -> nix::Result<()> {
    number(LOOP_CTL_ADD, control, index.into()).map(drop)
}

/// Removes the loop device of this index, when it is free.
pub(super) fn loop_remove(control: &File, index: u32) -> nix::Result<()> {
    number(LOOP_CTL_REMOVE, control, index.into()).map(drop)
}

/// The index of a free loop device.
pub(super) fn loop_free(control: &File) -> nix::Result<u32> {
    let index = number(LOOP_CTL_GET_FREE, control, 0)?;
    u32::try_from(index).map_err(|_| Errno::EINVAL)
}

/// Lets a loop device go of its file: now, or with its last user when it has others.
pub(super) fn loop_clear(device: &File) -> nix::Result<()> {
    number(LOOP_CLR_FD, device, 0).map(drop)
}

/// Makes a loop device as large as its file has become.
pub(super) fn loop_set_capacity(device: &File) -> nix::Result<()> {
    number(LOOP_SET_CAPACITY, device, 0).map(drop)
}

/// Puts a file behind a loop device, in one step.
pub(super) fn loop_configure(device: &File, file: &File, info: LoopInfo) -> nix::Result<()> {
    let config = LoopConfig {
        fd: u32::try_from(file.as_raw_fd()).map_err(|_| Errno::EBADF)?,
        block_size: 0,
        info,
        reserved: [0; 8],
    };
    // SAFETY: both descriptors are open; the structure has the kernel's layout, which it only
    // reads during the call.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) };
    Errno::result(done).map(drop)
}

/// What is behind a loop device; none: nothing.
pub(super) fn loop_info(device: &File) -> nix::Result<Option<LoopInfo>> {
    let mut info = LoopInfo::new(0, 0, 0);
    // SAFETY: the descriptor is open; the structure has the kernel's layout and size.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64 as _, &raw mut info) };
    match Errno::result(done) {
        Ok(_) => Ok(Some(info)),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Changes the flags of a loop device that may be changed.
pub(super) fn loop_set_info(device: &File, info: &LoopInfo) -> nix::Result<()> {
    // SAFETY: the descriptor is open; the structure has the kernel's layout and is only read.
    let done = unsafe {
        libc::ioctl(
            device.as_raw_fd(),
            LOOP_SET_STATUS64 as _,
            std::ptr::from_ref(info),
        )
    };
    Errno::result(done).map(drop)
}

/// A copy of the one mount at `path`, attached nowhere.
pub(super) fn clone_mount(path: &Path) -> nix::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, path, flags).map_err(errno)
}

/// Attaches a detached mount to the open folder or file `target`.
pub(super) fn attach(mount: impl AsFd, target: impl AsFd) -> nix::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags).map_err(errno)
}

/// `struct mount_attr`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Maps the owners on a detached mount into a user namespace.
pub(super) fn map_owners(mount: impl AsFd, user: impl AsFd) -> nix::Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    let attributes = MountAttributes {
        set: MOUNT_ATTR_IDMAP,
        clear: 0,
        propagation: 0,
        user_namespace: u64::try_from(user.as_fd().as_raw_fd()).map_err(|_| Errno::EBADF)?,
    };
    // SAFETY: both descriptors are open; the structure has the size that is given and outlives
    // the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    Errno::result(done).map(drop)
}

/// A process that does nothing in a user namespace of its own, and ends with this value.
#[derive(Debug)]
pub(super) struct Sleeper(i32);

impl Sleeper {
    /// Starts it. It ends with the thread that started it, and after a minute in any case.
    pub(super) fn in_new_user_namespace() -> nix::Result<Self> {
        let flags = c_long::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
        // SAFETY: without CLONE_VM the child has a copy of the memory, and it only makes system
        // calls that take plain numbers, and touches nothing that another thread held.
        let pid = Errno::result(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
        if pid == 0 {
            let minute = libc::timespec {
                tv_sec: 60,
                tv_nsec: 0,
            };
            let nothing = std::ptr::null_mut::<libc::timespec>();
            // SAFETY: as above; the structure lives on the child's own stack.
            unsafe {
                libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::syscall(libc::SYS_nanosleep, &raw const minute, nothing);
                libc::syscall(libc::SYS_exit_group, 0);
            }
        }
        Ok(Self(i32::try_from(pid).map_err(|_| Errno::EOVERFLOW)?))
    }

    pub(super) fn pid(&self) -> i32 {
        self.0
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // A child that was not waited for keeps its number.
        let pid = nix::unistd::Pid::from_raw(self.0);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(pid, None);
    }
}

/// Asks for the real size of a file on a file system that answers from memory for a while.
pub(super) fn fresh_size(file: &File) -> nix::Result<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
    let answer = statx(file, c"", flags, StatxFlags::SIZE).map_err(errno)?;
    Ok(answer.stx_size)
}

/// The kernel's id of the mount at which the descriptor is open (Linux 5.8).
pub(super) fn mount_id(on: impl AsFd) -> nix::Result<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let answer = statx(on, c"", flags, StatxFlags::MNT_ID).map_err(errno)?;
    if answer.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err(Errno::ENOSYS);
    }
    Ok(answer.stx_mnt_id)
}

/// The number of the block device that lies at a path, links followed; none: another kind of
/// file. Asks the kernel's memory alone, never a file system that may not answer.
pub(super) fn block_device(path: &Path) -> nix::Result<Option<u64>> {
    let answer = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE).map_err(errno)?;
    let block = u32::from(answer.stx_mode) & libc::S_IFMT == libc::S_IFBLK;
    let number = libc::makedev(answer.stx_rdev_major, answer.stx_rdev_minor);
    Ok(block.then_some(number))
}

fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}
