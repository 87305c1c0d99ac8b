//! What is on a disk. `blkid` and `partx` tell, run on the loop device and bounded in time,
//! because a tenant wrote what they read.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::disks::program::{self, DISK};

const LIMIT: Duration = Duration::from_secs(10);

/// File systems that are mounted; of any other kind, the device is shown.
const MOUNTED: [&str; 7] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "iso9660", "vfat"];

/// What a disk or a partition holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// The type of the file system, or of what else is on it.
    kind: Option<String>,
    /// Encoded as udev names its links.
    pub(super) uuid: Option<String>,
    pub(super) label: Option<String>,
    /// Whether it has partitions.
    pub(super) table: bool,
}

impl Content {
    /// The type of a file system that is mounted.
    pub(super) fn mountable(&self) -> Option<&'static str> {
        let kind = self.kind.as_deref()?;
        MOUNTED.into_iter().find(|known| *known == kind)
    }

    /// The links below `/dev/disk` that name it.
    pub(super) fn links(&self) -> Vec<String> {
        let usable = |name: &&String| {
            let plain = |b: u8| b.is_ascii_graphic() && b != b'/';
            name.len() <= 255
                && name.bytes().all(plain)
                && !matches!(name.as_str(), "" | "." | "..")
        };
        let uuid = self
            .uuid
            .iter()
            .filter(usable)
            .map(|n| format!("by-uuid/{n}"));
        let label = self
            .label
            .iter()
            .filter(usable)
            .map(|n| format!("by-label/{n}"));
        uuid.chain(label).collect()
    }
}

/// A partition, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) number: u32,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// Looks at a device.
pub(super) fn content(device: &Path) -> io::Result<Content> {
    let arguments = ["-p", "-o", "udev", "--", DISK];
    let output = program::run(("blkid", "util-linux"), &arguments, device, LIMIT)?;
    match output.code {
        Some(0) => Ok(parse(&output.stdout)),
        // Nothing that is known, or signatures that contradict each other.
        Some(2 | 8) => Ok(Content::default()),
        _ => Err(io::Error::other(format!(
            "blkid failed: {}",
            output.reason(program::QUOTED)
        ))),
    }
}

fn parse(text: &str) -> Content {
    let value = |key: &str| {
        text.lines()
            .filter_map(|line| line.split_once('='))
            .find(|(name, value)| *name == key && !value.is_empty())
            .map(|(_, value)| value.to_owned())
    };
    Content {
        kind: value("ID_FS_TYPE"),
        uuid: value("ID_FS_UUID_ENC"),
        label: value("ID_FS_LABEL_ENC"),
        table: value("ID_PART_TABLE_TYPE").is_some(),
    }
}

/// The partitions of a device.
pub(super) fn partitions(device: &Path) -> io::Result<Vec<Partition>> {
    let arguments = ["-g", "-r", "-o", "NR,START,SECTORS,TYPE", "--", DISK];
    let output = program::run(("partx", "util-linux"), &arguments, device, LIMIT)?;
    if output.succeeded() {
        Ok(output.stdout.lines().filter_map(partition).collect())
    } else {
        // A table without partitions, or one that is damaged.
        Ok(Vec::new())
    }
}

fn partition(line: &str) -> Option<Partition> {
    let mut fields = line.split_whitespace();
    let mut next = || fields.next()?.parse::<u64>().ok();
    let (number, start, sectors) = (next()?, next()?, next()?);
    // An extended partition is the place of others, and none itself.
    if matches!(fields.next(), Some("0x5" | "0xf" | "0x85")) {
        return None;
    }
    Some(Partition {
        number: u32::try_from(number).ok()?,
        offset: start.checked_mul(512)?,
        size: sectors.checked_mul(512).filter(|size| *size > 0)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_file_systems_of_the_list_are_mounted() {
        for (kind, mounted) in [
            ("ext4", true),
            ("btrfs", true),
            ("swap", false),
            ("ntfs", false),
        ] {
            let found = parse(&format!("ID_FS_TYPE={kind}\nID_FS_USAGE=filesystem\n"));
            assert_eq!(found.mountable().is_some(), mounted, "{kind}");
        }
        assert_eq!(parse(""), Content::default());
        assert!(parse("ID_PART_TABLE_TYPE=gpt\n").table);
    }

    #[test]
    fn a_label_cannot_lead_a_link_elsewhere() {
        let links = |label: &str| parse(&format!("ID_FS_LABEL_ENC={label}\n")).links();
        assert_eq!(links(r"a\x2fb"), [r"by-label/a\x2fb"]);
        for bad in ["..", ".", "a/b", "", "a b"] {
            assert!(links(bad).is_empty(), "{bad}");
        }
    }

    #[test]
    fn partitions_are_read_in_bytes() {
        let two = partition("2 2048 4096 0x83").unwrap();
        assert_eq!((two.number, two.offset, two.size), (2, 1 << 20, 2 << 20));
        for bad in [
            "",
            "x 1 2",
            "1 2",
            "1 2 0 0x83",
            "1 18446744073709551615 1 0x83",
            "4 1 2 0x5",
        ] {
            assert!(partition(bad).is_none(), "{bad}");
        }
    }
}
