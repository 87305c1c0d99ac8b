//! What is kept of an image that is a disk (DATABLOCK, CDROM, OS without PATH) and not a container
//! image: its format, its size, its file system. It lies in the registry as the configuration of
//! an artifact.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Text that names no format of a disk.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("\"{0}\" is not a format of a disk here (raw, qcow2 or iso)")]
pub struct BadFormat(String);

/// Text that names no file system.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("\"{0}\" is not a file system that is made here (ext2, ext3, ext4, xfs or btrfs)")]
pub struct BadFileSystem(String);

/// What a disk's file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskFormat {
    /// The disk's bytes as they are.
    Raw,
    /// QEMU's format, without a backing file, a data file or encryption.
    Qcow2,
    /// ISO 9660; read-only, its bytes as they are.
    Iso,
}

impl DiskFormat {
    /// `raw`, `qcow2` or `iso`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Iso => "iso",
        }
    }
}

impl FromStr for DiskFormat {
    type Err = BadFormat;
    fn from_str(text: &str) -> Result<Self, BadFormat> {
        [Self::Raw, Self::Qcow2, Self::Iso]
            .into_iter()
            .find(|format| format.as_str() == text.to_ascii_lowercase())
            .ok_or_else(|| BadFormat(text.chars().take(80).collect()))
    }
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A file system that is made on an empty disk (IMAGE/FS, DISK/FS).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileSystem {
    Ext2,
    Ext3,
    Ext4,
    Xfs,
    Btrfs,
}

impl FileSystem {
    /// Every one, oldest first.
    pub const ALL: [Self; 5] = [Self::Ext2, Self::Ext3, Self::Ext4, Self::Xfs, Self::Btrfs];

    /// Its name, as `mkfs.<name>` and mount(2) have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

impl FromStr for FileSystem {
    type Err = BadFileSystem;
    fn from_str(text: &str) -> Result<Self, BadFileSystem> {
        Self::ALL
            .into_iter()
            .find(|fs| fs.as_str() == text.to_ascii_lowercase())
            .ok_or_else(|| BadFileSystem(text.chars().take(80).collect()))
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of an image that is a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskMeta {
    /// What its file holds.
    pub format: DiskFormat,
    /// How large the disk is that a VM sees, in bytes; the file may be smaller (qcow2, holes).
    pub size: u64,
    /// The file system to be made on a blank disk. `None` of a blank disk: it stays empty; of
    /// another: whatever the file holds.
    pub fs: Option<FileSystem>,
    /// Whether there is no content: whoever stages it makes the file, and its file system.
    pub blank: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_file_systems_are_read_as_opennebula_writes_them() {
        assert_eq!("QCOW2".parse(), Ok(DiskFormat::Qcow2));
        assert_eq!("ext4".parse(), Ok(FileSystem::Ext4));
        for format in [DiskFormat::Raw, DiskFormat::Qcow2, DiskFormat::Iso] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        for fs in FileSystem::ALL {
            assert_eq!(fs.to_string().parse(), Ok(fs));
        }
        for bad in ["", "ntfs", "ext4 -F /dev/sda", "../ext4"] {
            assert!(bad.parse::<FileSystem>().is_err(), "{bad}");
            assert!(bad.parse::<DiskFormat>().is_err(), "{bad}");
        }
    }
}
