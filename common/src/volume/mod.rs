//! Disks that are files: raw, qcow2 and ISO 9660 images of a VM and of a datastore, made, measured,
//! given a file system, grown and copied by the drivers' ordinary user.
//!
//! What is in such a file is a tenant's. It is never handed to a program that would find out the
//! format by itself, because a raw disk that begins like a qcow2 image could name any file of the
//! host as the one below it.
//!
//! What is made anew ([`make()`], [`make_fs`], [`make_swap`], [`copy()`], [`new_fsid`] of a qcow2) is
//! written to a temporary file beside the old one and takes its place in one step ([`Staged`]): one
//! that is cut off leaves what was there before. One disk has one writer at a time; the VM's lock
//! sees to that.

mod blank;
mod copy;
mod error;
mod extents;
mod fsid;
mod grow;
mod inspect;
mod make;
mod mark;
mod mkfs;
mod program;
mod qcow2;
mod staged;

pub use crate::disk_image::{DiskFormat as Format, FileSystem as Fs};
pub use blank::is_blank;
pub use copy::{copy, copy_for_now};
pub use error::VolumeError;
pub use extents::{Extent, data_extents};
pub use fsid::new_fsid;
pub use grow::{grow, grow_file};
pub use inspect::{Volume, inspect, inspect_as, open};
pub use make::make;
pub use mkfs::{least, make_fs, make_swap};
pub use staged::{Staged, sweep};

/// The largest disk, in bytes (1 PiB): more is a mistake or an attack, and sums of sizes stay far
/// from the end of 64 bits.
pub const LIMIT: u64 = 1 << 50;

#[cfg(test)]
mod tests;
