//! What on a disk would lead the kernel, or a program, to another device: a journal or a log elsewhere, a
//! file system of several devices, or a part of an array. A tenant writes which one it is, and it would be
//! one of the host's, so such a disk is neither mounted nor given to a program.
//!
//! Read from the superblocks alone, before anything else opens the disk. Shown as a device (DEVICE=YES)
//! it needs none of this: what is made of it is made inside the VM.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};

use super::bytes::read_at;

/// How a file system leads to another device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FurtherDevice {
    /// ext3, ext4: its journal is a device, or its superblock has options that name one.
    Journal,
    /// An ext journal that belongs to another file system.
    JournalOfAnother,
    /// btrfs of this many devices.
    Btrfs(u64),
    /// btrfs that others are grown from.
    BtrfsSeed,
    /// xfs: its log is elsewhere.
    XfsLog,
    /// xfs with a realtime device.
    XfsRealtime,
}

impl fmt::Display for FurtherDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal => f.write_str("its file system keeps its journal on another device"),
            Self::JournalOfAnother => f.write_str("it is the journal of another file system"),
            Self::Btrfs(count) => write!(f, "its btrfs has {count} devices"),
            Self::BtrfsSeed => f.write_str("its btrfs is a seed, from which others are grown"),
            Self::XfsLog => f.write_str("its xfs keeps its log on another device"),
            Self::XfsRealtime => f.write_str("its xfs has a realtime device"),
        }
    }
}

/// How the file system on a disk leads to another device; `None` where none does, and on a disk without a
/// file system.
pub fn further_device(disk: &File) -> io::Result<Option<FurtherDevice>> {
    if let Some(found) = ext(disk)? {
        return Ok(Some(found));
    }
    if let Some(found) = btrfs(disk)? {
        return Ok(Some(found));
    }
    xfs(disk)
}

/// Whether a disk is a part of something that the kernel or a program puts together of several devices:
/// LVM, RAID (md), bcache and bcachefs, ZFS.
pub fn is_part_of_an_array(disk: &File) -> io::Result<bool> {
    Ok(is_lvm(disk)? || is_md(disk)? || is_bcache(disk)? || is_zfs(disk)?)
}

/// `struct ext4_super_block` (`fs/ext4/ext4.h`), relative to the superblock.
mod ext4 {
    pub(super) const SIZE: usize = 1024;
    pub(super) const MAGIC_AT: usize = 0x38;
    pub(super) const MAGIC: [u8; 2] = [0x53, 0xef];
    pub(super) const COMPAT: usize = 0x5c;
    pub(super) const HAS_JOURNAL: u32 = 4;
    pub(super) const INCOMPAT: usize = 0x60;
    pub(super) const JOURNAL_DEVICE: u32 = 8;
    pub(super) const JOURNAL_UUID: usize = 0xd0;
    pub(super) const JOURNAL_INODE: usize = 0xe0;
    pub(super) const JOURNAL_DEV: usize = 0xe4;
    /// Options that the kernel takes before those of the mount: `journal_dev=`, `journal_path=`.
    pub(super) const OPTIONS: usize = 0x200;
    pub(super) const OPTIONS_END: usize = 0x240;
}

/// The superblock and its first copies for each size of blocks: `e2fsck` without `-p` takes one of these when
/// it is damaged (`e2fsck/unix.c`, `get_backup_sb`).
fn ext(disk: &File) -> io::Result<Option<FurtherDevice>> {
    let copies = (10..=16).map(|bits| {
        let block = 1u64 << bits;
        // The first block of 1 KiB is not of the file system.
        (block * 8 + u64::from(bits == 10)) * block
    });
    for at in std::iter::once(1024).chain(copies) {
        let mut block = [0; ext4::SIZE];
        if !read_at(disk, at, &mut block)? {
            continue;
        }
        let found = ext_superblock(&block);
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn ext_superblock(block: &[u8; ext4::SIZE]) -> Option<FurtherDevice> {
    let field =
        |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    if block[ext4::MAGIC_AT..ext4::MAGIC_AT + 2] != ext4::MAGIC {
        return None;
    }
    if field(ext4::INCOMPAT) & ext4::JOURNAL_DEVICE != 0 {
        return Some(FurtherDevice::JournalOfAnother);
    }
    let has_uuid = block[ext4::JOURNAL_UUID..ext4::JOURNAL_INODE]
        .iter()
        .any(|byte| *byte != 0);
    let nowhere = field(ext4::COMPAT) & ext4::HAS_JOURNAL != 0 && field(ext4::JOURNAL_INODE) == 0;
    let options = &block[ext4::OPTIONS..ext4::OPTIONS_END];
    let has = |word: &[u8]| options.windows(word.len()).any(|found| found == word);
    let named = has(b"journal_dev") || has(b"journal_path");
    (field(ext4::JOURNAL_DEV) != 0 || has_uuid || nowhere || named)
        .then_some(FurtherDevice::Journal)
}

/// `struct btrfs_super_block` (`include/uapi/linux/btrfs_tree.h`) and its copies.
fn btrfs(disk: &File) -> io::Result<Option<FurtherDevice>> {
    const FLAGS: usize = 0x38;
    const SEEDING: u64 = 1 << 32;
    const MAGIC: usize = 0x40;
    const DEVICES: usize = 0x88;
    for at in [64 << 10, 64 << 20, 256 << 30] {
        let mut block = [0; 0x90];
        if !read_at(disk, at, &mut block)? || block[MAGIC..MAGIC + 8] != *b"_BHRfS_M" {
            continue;
        }
        let field = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&block[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        if field(DEVICES) != 1 {
            return Ok(Some(FurtherDevice::Btrfs(field(DEVICES))));
        }
        if field(FLAGS) & SEEDING != 0 {
            return Ok(Some(FurtherDevice::BtrfsSeed));
        }
    }
    Ok(None)
}

/// `struct xfs_dsb` (`fs/xfs/libxfs/xfs_format.h`). Without a log of its own its first block is 0.
fn xfs(disk: &File) -> io::Result<Option<FurtherDevice>> {
    const REALTIME_BLOCKS: usize = 16;
    const LOG_START: usize = 48;
    let mut block = [0; 56];
    if !read_at(disk, 0, &mut block)? || !block.starts_with(b"XFSB") {
        return Ok(None);
    }
    let is_zero = |at: usize| block[at..at + 8].iter().all(|byte| *byte == 0);
    Ok(if is_zero(LOG_START) {
        Some(FurtherDevice::XfsLog)
    } else if !is_zero(REALTIME_BLOCKS) {
        Some(FurtherDevice::XfsRealtime)
    } else {
        None
    })
}

fn has(disk: &File, at: u64, magic: &[u8]) -> io::Result<bool> {
    let mut found = vec![0; magic.len()];
    Ok(read_at(disk, at, &mut found)? && found == magic)
}

/// A label in one of the first four sectors (`lib/label/label.h` of LVM2).
fn is_lvm(disk: &File) -> io::Result<bool> {
    for sector in 0..4 {
        if has(disk, sector * 512, b"LABELONE")? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A superblock at one of the four places of its versions (`drivers/md/md.c`).
fn is_md(disk: &File) -> io::Result<bool> {
    const MAGIC: u32 = 0xa92b_4efc;
    let size = (&mut &*disk).seek(SeekFrom::End(0))?;
    let of_1_0 = (size / 512).saturating_sub(16) & !7;
    let of_0_90 = (size & !0xffff).saturating_sub(0x1_0000);
    for at in [0, 4096, of_1_0 * 512, of_0_90] {
        // Version 0.90 has the order of bytes of its machine.
        if has(disk, at, &MAGIC.to_le_bytes())? || has(disk, at, &MAGIC.to_be_bytes())? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `include/uapi/linux/bcache.h`, and bcachefs, whose number begins alike.
fn is_bcache(disk: &File) -> io::Result<bool> {
    has(disk, 4096 + 24, &[0xc6, 0x85, 0x73, 0xf6])
}

/// An uberblock in one of the four labels (`include/sys/vdev_impl.h` of OpenZFS).
fn is_zfs(disk: &File) -> io::Result<bool> {
    const LABEL: u64 = 256 << 10;
    const RING: u64 = 128 << 10;
    const MAGIC: u64 = 0x00ba_b10c;
    let size = (&mut &*disk).seek(SeekFrom::End(0))? / LABEL * LABEL;
    let mut ring = vec![0; 128 << 10];
    let last = [size.checked_sub(2 * LABEL), size.checked_sub(LABEL)];
    for label in [Some(0), Some(LABEL)].into_iter().chain(last).flatten() {
        if !read_at(disk, label + RING, &mut ring)? {
            continue;
        }
        let is_uberblock = |slot: &[u8]| {
            slot.starts_with(&MAGIC.to_le_bytes()) || slot.starts_with(&MAGIC.to_be_bytes())
        };
        if ring.chunks(1024).any(is_uberblock) {
            return Ok(true);
        }
    }
    Ok(false)
}
