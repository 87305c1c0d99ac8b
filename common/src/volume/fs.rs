//! The file systems that a disk can be given.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A file system that is made on an empty disk (`DISK/FS`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fs {
    /// ext2.
    Ext2,
    /// ext3.
    Ext3,
    /// ext4, what a disk gets whose VM asks for none.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
}

/// Not a file system that is made here.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("FS \"{0}\" is not known; ext2, ext3, ext4, xfs and btrfs are")]
pub struct BadFs(String);

impl Fs {
    /// The name, as `blkid` and DISK/FS write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The smallest disk that takes it, in bytes: what the programs of Debian 12 refuse below
    /// (xfsprogs 6.1, `mkfs/xfs_mkfs.c`, `validate_supported`: 300 MiB; btrfs-progs 6.2 with data
    /// and metadata mixed: 16 MiB), and 1 MiB, OpenNebula's smallest disk.
    pub const fn least(self) -> u64 {
        match self {
            Self::Ext2 | Self::Ext3 | Self::Ext4 => 1 << 20,
            Self::Btrfs => 16 << 20,
            Self::Xfs => 300 << 20,
        }
    }
}

impl FromStr for Fs {
    type Err = BadFs;
    fn from_str(text: &str) -> Result<Self, BadFs> {
        [Self::Ext2, Self::Ext3, Self::Ext4, Self::Xfs, Self::Btrfs]
            .into_iter()
            .find(|fs| fs.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| BadFs(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Fs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_five_file_systems_are_read() {
        assert_eq!("EXT4".parse(), Ok(Fs::Ext4));
        assert_eq!("btrfs".parse(), Ok(Fs::Btrfs));
        for bad in ["", "ntfs", "vfat", "ext4 -d /etc", "--help", "ext"] {
            assert!(bad.parse::<Fs>().is_err(), "{bad}");
        }
    }
}
