//! A mounted file system is grown by the kernel. It is asked here, because the programs that ask it would
//! need root's rights for that, and read a tenant's bytes before.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use nix::libc::c_char;

/// Block sizes below this are grown by as much at a time, as `resize2fs` does: a page, in bytes.
const PAGE: u64 = 4096;

/// `struct xfs_fsop_geom_v1` (xfs/libxfs/xfs_fs.h).
#[repr(C)]
#[derive(Default)]
pub(super) struct XfsGeometry {
    block_size: u32,
    before: [u32; 6],
    inode_percentage: u32,
    after: [u64; 10],
}

/// `struct xfs_growfs_data` (xfs/libxfs/xfs_fs.h).
#[repr(C)]
pub(super) struct XfsGrowth {
    blocks: u64,
    inode_percentage: u32,
}

/// `struct btrfs_ioctl_vol_args` (linux/btrfs.h).
#[repr(C)]
pub(super) struct BtrfsArguments {
    fd: i64,
    name: [c_char; 4088],
}

nix::ioctl_write_ptr!(ext4_resize, b'f', 16, u64);
nix::ioctl_read!(xfs_geometry, b'X', 100, XfsGeometry);
nix::ioctl_write_ptr!(xfs_grow, b'X', 110, XfsGrowth);
nix::ioctl_write_ptr!(btrfs_resize, 0x94, 3, BtrfsArguments);

/// Grows the ext file system of this block size that is mounted at `mount` to `size`; both in bytes.
pub(super) fn ext(mount: &Path, block: u64, size: u64) -> io::Result<()> {
    let step = PAGE.max(block);
    let blocks = size.saturating_sub(size.checked_rem(step).unwrap_or(0)) / block.max(1);
    let folder = File::open(mount)?;
    // SAFETY: the descriptor is open, and the kernel reads one number.
    unsafe { ext4_resize(folder.as_raw_fd(), &raw const blocks) }?;
    Ok(())
}

/// Grows the xfs that is mounted at `mount` to `size` bytes.
pub(super) fn xfs(mount: &Path, size: u64) -> io::Result<()> {
    let folder = File::open(mount)?;
    let mut geometry = XfsGeometry::default();
    // SAFETY: the descriptor is open, and the structure has the kernel's layout and size.
    unsafe { xfs_geometry(folder.as_raw_fd(), &raw mut geometry) }?;
    let growth = XfsGrowth {
        blocks: size / u64::from(geometry.block_size.max(1)),
        inode_percentage: geometry.inode_percentage,
    };
    // SAFETY: as above; it is only read.
    unsafe { xfs_grow(folder.as_raw_fd(), &raw const growth) }?;
    Ok(())
}

/// Grows the btrfs that is mounted at `mount` to its device.
pub(super) fn btrfs(mount: &Path) -> io::Result<()> {
    let folder = File::open(mount)?;
    let mut arguments = BtrfsArguments {
        fd: 0,
        name: [0; 4088],
    };
    for (to, from) in arguments.name.iter_mut().zip(b"max") {
        *to = from.cast_signed();
    }
    // SAFETY: the descriptor is open, and the structure has the kernel's layout; it is only read.
    unsafe { btrfs_resize(folder.as_raw_fd(), &raw const arguments) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<XfsGeometry>(), 112);
        assert_eq!(size_of::<XfsGrowth>(), 16);
        assert_eq!(size_of::<BtrfsArguments>(), 4096);
    }
}
