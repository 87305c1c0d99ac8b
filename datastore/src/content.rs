//! What a file that a user registers is: an archive of a container image, or a disk. Its content
//! tells, never its name.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, bail};
use onedock_common::disk_file;
use onedock_common::opennebula::image::ImageKind;
use onedock_common::state::disk_image::{DiskFormat, DiskMeta};
use onedock_registry::{is_compressed, is_tar};

use crate::local_file::LocalFile;

/// The least that a disk has, in bytes: a smaller file could be taken for a disk's descriptor.
const LEAST: u64 = 1 << 20;
/// A device has whole sectors.
const SECTOR: u64 = 512;

/// Other formats of disks, by their first bytes: taken for raw they would be nothing but noise.
const FOREIGN: [(&[u8], &str); 5] = [
    (b"KDMV", "a VMDK"),
    (b"# Disk DescriptorFile", "a VMDK"),
    (b"vhdxfile", "a VHDX"),
    (b"conectix", "a VHD"),
    (b"<<< Oracle VM VirtualBox Disk Image >>>", "a VDI"),
];

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// A container image, or so it seems.
    Archive,
    /// A disk.
    Disk(DiskMeta),
}

impl Content {
    pub(crate) fn of(file: &LocalFile) -> anyhow::Result<Self> {
        let name = file.name().display();
        let mut beginning = vec![0; 512];
        let opened = File::open(file.path()).with_context(|| format!("{name} cannot be read"))?;
        let length =
            fill(&opened, &mut beginning).with_context(|| format!("{name} cannot be read"))?;
        beginning.truncate(length);
        if is_archive(&beginning) {
            return Ok(Self::Archive);
        }
        if let Some((_, what)) = FOREIGN
            .iter()
            .find(|(magic, _)| beginning.starts_with(magic))
        {
            bail!(
                "{name} is {what} image, which is not read here; convert it with 'qemu-img convert -O qcow2'"
            );
        }
        let volume = disk_file::inspect(&file.path())
            .with_context(|| format!("{name} cannot be stored as a disk"))?;
        Ok(Self::Disk(DiskMeta {
            format: volume.format,
            size: match volume.format {
                DiskFormat::Qcow2 => volume.size,
                DiskFormat::Raw | DiskFormat::Iso => {
                    volume.size.next_multiple_of(SECTOR).max(LEAST)
                }
            },
            fs: None,
            blank: false,
        }))
    }
}

/// A tar archive, or what an archive is packed with. One with the mark of POSIX is an archive even
/// when its header is damaged, which is an error when it is read.
fn is_archive(beginning: &[u8]) -> bool {
    let has_mark = beginning.get(257..262) == Some(b"ustar");
    has_mark || is_tar(beginning) || is_compressed(beginning)
}

fn fill(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, length as u64)? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

/// The format in which a disk is stored in an image of this kind.
pub(crate) fn as_image(
    meta: DiskMeta,
    kind: Option<ImageKind>,
    path: &str,
) -> anyhow::Result<DiskMeta> {
    match kind {
        Some(ImageKind::Cdrom) => Ok(meta),
        // It may be written to: an ISO 9660 image is then a disk like any other.
        Some(ImageKind::Datablock) if meta.format == DiskFormat::Iso => Ok(DiskMeta {
            format: DiskFormat::Raw,
            ..meta
        }),
        Some(ImageKind::Datablock) => Ok(meta),
        _ => bail!(
            "PATH {path} is a disk ({}), and a container starts from a container image: register it with TYPE=DATABLOCK or CDROM, or give a docker save archive or docker://…",
            meta.format
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: DiskMeta = DiskMeta {
        format: DiskFormat::Iso,
        size: LEAST,
        fs: None,
        blank: false,
    };

    #[test]
    fn a_disk_is_no_image_to_start_from() {
        let error = as_image(META, Some(ImageKind::Os), "/x")
            .unwrap_err()
            .to_string();
        assert!(error.contains("TYPE=DATABLOCK"), "{error}");
        assert!(as_image(META, Some(ImageKind::Other), "/x").is_err());
        assert_eq!(as_image(META, Some(ImageKind::Cdrom), "/x").unwrap(), META);
        let block = as_image(META, Some(ImageKind::Datablock), "/x").unwrap();
        assert_eq!(block.format, DiskFormat::Raw);
    }

    #[test]
    fn a_tar_of_unix_version_7_is_known_by_its_checksum() {
        let mut header = tar::Header::new_old();
        header.set_path("manifest.json").unwrap();
        header.set_size(2);
        header.set_mode(0o644);
        header.set_cksum();
        let mut archive = header.as_bytes().to_vec();
        assert_eq!(archive.get(257..262), Some(&[0; 5][..]));
        assert!(is_archive(&archive));
        archive[0] ^= 1;
        assert!(!is_archive(&archive));
    }

    #[test]
    fn archives_are_known_packed_and_unpacked() {
        let mut tar = [0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert!(is_archive(&tar));
        for packed in [
            &b"\x1f\x8b\x08"[..],
            b"BZh9",
            b"\xfd7zXZ\0",
            b"\x28\xb5\x2f\xfd",
        ] {
            assert!(is_archive(packed));
        }
        assert!(!is_archive(b"QFI\xfb"));
        assert!(!is_archive(&[0; 512]));
        assert!(!is_archive(b""));
    }
}
