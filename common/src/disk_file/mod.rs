//! Disks that are files: raw, qcow2 and ISO 9660 images of a VM and of a datastore, made, measured,
//! given a file system, grown and copied by the drivers' ordinary user.
//!
//! What is in such a file is a tenant's. It is never handed to a program that would find out the
//! format by itself, because a raw disk that begins like a qcow2 image could name any file of the
//! host as the one below it; nor to one that would follow it to another device ([`further_device()`]).
//!
//! What is made anew ([`make()`], [`make_fs`], [`make_swap`], [`copy()`], [`new_fsid`] of a qcow2) is
//! written to a temporary file beside the old one and takes its place in one step ([`Staged`]): one
//! that is cut off leaves what was there before. One disk has one writer at a time; the VM's lock
//! sees to that.

#[cfg(feature = "disks")]
mod blank;
mod bytes;
#[cfg(feature = "disks")]
mod copy;
mod error;
#[cfg(feature = "disks")]
mod extents;
#[cfg(feature = "disks")]
mod fsid;
mod further_device;
#[cfg(feature = "disks")]
mod grow;
mod inspect;
mod loop_bound;
#[cfg(feature = "disks")]
mod make;
mod mark;
#[cfg(feature = "disks")]
mod mkfs;
#[cfg(feature = "disks")]
mod program;
mod qcow2;
#[cfg(feature = "disks")]
mod staged;

pub use crate::state::disk_image::{DiskFormat as Format, FileSystem as Fs};
pub use error::DiskFileError;
pub use further_device::{FurtherDevice, further_device, is_part_of_an_array};
pub use inspect::{DiskFile, inspect, inspect_as, open};
pub use loop_bound::{LoopBound, RESERVED};
pub use qcow2::Qcow2Header;
#[cfg(feature = "disks")]
pub use {
    blank::is_blank,
    copy::{copy, copy_for_now},
    extents::{Extent, data_extents},
    fsid::new_fsid,
    grow::{grow, grow_file},
    make::make,
    mkfs::{make_fs, make_swap},
    staged::{Staged, remove_leftovers},
};

/// The largest disk, in bytes (1 PiB): more is a mistake or an attack, and sums of sizes stay far
/// from the end of 64 bits.
pub const LIMIT: u64 = 1 << 50;

/// The smallest disk that takes a file system, in bytes: what the programs of Debian 12 refuse
/// below (xfsprogs 6.1: 300 MiB; btrfs-progs 6.2 with data and metadata together: 16 MiB), and
/// 1 MiB, OpenNebula's smallest disk.
pub const fn smallest(fs: Fs) -> u64 {
    match fs {
        Fs::Ext2 | Fs::Ext3 | Fs::Ext4 => 1 << 20,
        Fs::Btrfs => 16 << 20,
        Fs::Xfs => 300 << 20,
    }
}

#[cfg(test)]
#[cfg(feature = "disks")]
mod tests;
