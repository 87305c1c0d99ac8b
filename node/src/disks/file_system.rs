//! A file system on a loop device: mounted on the stage, grown to its device, taken off.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::fstat;

use crate::disks::error::{Fault, step};
use crate::disks::program::{self, DISK};
use crate::disks::stage::MOUNT;
use crate::disks::state::Mounted;
use crate::disks::{online_resize, sys};
use crate::mountinfo;

/// A file system may leave this much of its device free, in bytes.
const SLACK: u64 = 1 << 20;

/// The options of each file system, and those for one that can only be read and was not left
/// cleanly: what its journal holds cannot be replayed then. A superblock must not say that its
/// errors stop the host.
fn options(kind: &str) -> (&'static str, Option<&'static str>) {
    match kind {
        "ext2" => ("errors=remount-ro", None),
        "ext3" | "ext4" => ("errors=remount-ro", Some("errors=remount-ro,noload")),
        "xfs" => ("nouuid", Some("nouuid,norecovery")),
        "btrfs" => ("", Some("rescue=nologreplay")),
        _ => ("", None),
    }
}

/// Mounts the file system on `node` at the stage's place.
pub(super) fn mount_at_stage(node: &Path, kind: &str, read_only: bool) -> Result<(), Fault> {
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, read_only || kind == "iso9660");
    let (usual, unclean) = options(kind);
    let attempt =
        |kind: &str, options: &str| mount(Some(node), MOUNT, Some(kind), flags, Some(options));
    let mut done = attempt(kind, usual);
    if done == Err(Errno::ENODEV) && matches!(kind, "ext2" | "ext3") {
        done = attempt("ext4", usual);
    }
    if let (true, Some(unclean), Err(Errno::EROFS | Errno::EACCES | Errno::EIO)) =
        (read_only, unclean, done)
    {
        done = attempt(kind, unclean);
    }
    done.map_err(|reason| Fault::Mount {
        kind: kind.to_owned(),
        reason,
    })
}

/// Takes what is mounted at the stage's place: a mount that is attached nowhere, and by what it
/// is known in the container.
pub(super) fn take(kind: &str) -> Result<(OwnedFd, Mounted), Fault> {
    let table = mountinfo::of("thread-self").map_err(step("reading the mounts"))?;
    let entry = table
        .into_iter()
        .rfind(|entry| entry.place == Path::new(MOUNT));
    let device = entry.map(|entry| entry.device).unwrap_or_default();
    let mount = sys::clone_mount(Path::new(MOUNT)).map_err(step("detaching its mount"))?;
    let stat_device = fstat(&mount).map_err(step("examining its mount"))?.st_dev;
    let mount_id = sys::mount_id(&mount).map_err(step("examining its mount"))?;
    let mounted = Mounted {
        looped: None,
        kind: kind.to_owned(),
        mount_id,
        device,
        stat_device,
    };
    Ok((mount, mounted))
}

/// Clears the stage's mount point, of which nothing is needed any more.
pub(super) fn clear() {
    let _ = umount2(MOUNT, MntFlags::MNT_DETACH);
}

/// Whether a file system leaves a part of its device unused.
pub(super) fn can_grow(kind: &str, device: &File) -> io::Result<bool> {
    let size = io::Seek::seek(&mut &*device, io::SeekFrom::End(0))?;
    let used = match kind {
        "ext2" | "ext3" | "ext4" => ext_size(device)?,
        "xfs" => {
            let block = u32::from_be_bytes(read(device, 4)?);
            u64::from_be_bytes(read(device, 8)?).checked_mul(block.into())
        }
        "btrfs" => Some(u64::from_le_bytes(read(device, 0x1_0070)?)),
        _ => None,
    };
    Ok(used.is_some_and(|used| used.saturating_add(SLACK) < size))
}

fn ext_size(device: &File) -> io::Result<Option<u64>> {
    let low = u32::from_le_bytes(read(device, 1024 + 0x4)?);
    let incompatible = u32::from_le_bytes(read(device, 1024 + 0x60)?);
    // INCOMPAT_64BIT
    let high = match incompatible & 0x80 {
        0 => 0,
        _ => u32::from_le_bytes(read(device, 1024 + 0x150)?),
    };
    let blocks = u64::from(high) << 32 | u64::from(low);
    Ok(blocks.checked_mul(ext_block(device)?))
}

/// The size of an ext file system's blocks, in bytes.
fn ext_block(device: &File) -> io::Result<u64> {
    let shift = u32::from_le_bytes(read(device, 1024 + 0x18)?);
    let block = 1024u64.checked_shl(shift).filter(|block| *block > 0);
    block.ok_or_else(|| io::Error::other("its superblock has no block size"))
}

fn read<const N: usize>(device: &File, at: u64) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    device.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

/// Whether a file system is grown before it is mounted: ext2, which cannot be grown otherwise, and
/// its successors where root lacks CAP_SYS_RESOURCE. A mounted one has its journal to save it
/// when the host fails meanwhile.
pub(super) fn grows_unmounted(kind: &str) -> bool {
    kind == "ext2" || matches!(kind, "ext3" | "ext4") && !may_use_all_resources()
}

fn may_use_all_resources() -> bool {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    effective.is_some_and(|all| all & CAP_SYS_RESOURCE != 0)
}

/// Grows an ext file system that is not mounted to its device. One that is damaged is left as it
/// is, for the mount to tell.
pub(super) fn grow_unmounted(node: &Path) {
    let ran = |name: &str, arguments: &[&str], well: &[i32]| {
        program::run_to_its_end((name, "e2fsprogs"), arguments, node)
            .is_ok_and(|output| output.code.is_some_and(|code| well.contains(&code)))
    };
    // 1: errors that it has corrected.
    if ran("e2fsck", &["-fp", "--", DISK], &[0, 1]) {
        ran("resize2fs", &["--", DISK], &[0]);
    }
}

/// Grows the file system of `node` that is mounted at the stage's place to its device.
pub(super) fn grow(kind: &str, node: &Path) -> Result<(), Fault> {
    let failed = |e: io::Error| match e.raw_os_error() {
        // Root without CAP_SYS_RESOURCE; it is grown before the next mount.
        Some(libc::EPERM | libc::EACCES) if kind.starts_with("ext") => Fault::Later,
        _ => Fault::Growing(e),
    };
    let mount = Path::new(MOUNT);
    let grown = || -> io::Result<()> {
        let device = File::open(node)?;
        let size = io::Seek::seek(&mut &device, io::SeekFrom::End(0))?;
        match kind {
            "ext2" | "ext3" | "ext4" => online_resize::ext(mount, ext_block(&device)?, size),
            "xfs" => online_resize::xfs(mount, size),
            "btrfs" => online_resize::btrfs(mount),
            _ => Ok(()),
        }
    };
    grown().map_err(failed)
}
