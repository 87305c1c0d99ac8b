//! The header of a qcow2 image (QEMU, `docs/interop/qcow2.rst`), as much of it as decides whether
//! the image stands alone.

use std::fs::File;
use std::path::Path;

use super::bytes::read_at;
use super::error::READING;
use super::{DiskFileError, Format};

pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";

/// The shortest header: that of version 2.
const SHORTEST: usize = 72;
/// Up to the header's own length, from version 3 on.
const WITH_FEATURES: usize = 104;
/// Where header extensions end at the latest: with the first cluster, at most this many bytes.
const BEGINNING: usize = 64 * 1024;
/// Incompatible features that are known and harmless: dirty, compression type, extended L2 entries.
const HARMLESS: u64 = 1 | 1 << 3 | 1 << 4;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
/// Header extensions: the name of a data file, and of an encryption header.
const DATA_FILE_NAME: u32 = 0x4441_5441;
const ENCRYPTION: u32 = 0x0537_be77;
/// QEMU's own bound (`QCOW_MAX_L1_SIZE`), in bytes.
const LARGEST_L1: u64 = 32 << 20;

/// What of the header is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qcow2Header {
    /// The disk's size in bytes.
    pub size: u64,
    /// Where the table of tables is, and its bytes.
    l1: (u64, u64),
}

impl Qcow2Header {
    /// Reads and checks the header: no backing file, no data file, no encryption, nothing that
    /// this version of the format does not know. The one check of such a file: a tenant may have
    /// written it, and what reads it next would follow it anywhere.
    pub fn read(file: &File, path: &Path) -> Result<Self, DiskFileError> {
        let io = |source| DiskFileError::io(READING, path, 0, source);
        let length = file.metadata().map_err(io)?.len();
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(BEGINNING).min(BEGINNING)];
        read_at(file, 0, &mut bytes).map_err(io)?;
        parse(&bytes, length).map_err(|reason| DiskFileError::Image {
            path: path.to_owned(),
            format: Format::Qcow2,
            reason,
        })
    }

    /// Whether no cluster of the disk is allocated.
    #[cfg(feature = "disks")]
    pub(super) fn is_empty(&self, file: &File, path: &Path) -> Result<bool, DiskFileError> {
        let io = |source| DiskFileError::io(READING, path, 0, source);
        let (offset, length) = self.l1;
        let mut table = vec![0; usize::try_from(length).unwrap_or(0)];
        let whole = read_at(file, offset, &mut table).map_err(io)?;
        if !whole {
            return Err(DiskFileError::Image {
                path: path.to_owned(),
                format: Format::Qcow2,
                reason: "its table of clusters is cut off",
            });
        }
        Ok(table.iter().all(|b| *b == 0))
    }
}

fn parse(bytes: &[u8], file_length: u64) -> Result<Qcow2Header, &'static str> {
    const SHORT: &str = "its header is cut off";
    if bytes.len() < SHORTEST {
        return Err(SHORT);
    }
    if bytes[..4] != MAGIC {
        return Err("it does not begin as one");
    }
    let u32_at = |at| number(bytes, at, 4).ok_or(SHORT);
    let u64_at = |at| number(bytes, at, 8).ok_or(SHORT);
    let version = u32_at(4)?;
    if u64_at(8)? != 0 || u32_at(16)? != 0 {
        return Err("it has a backing file; flatten it with 'qemu-img convert'");
    }
    if !(9..=21).contains(&u32_at(20)?) {
        return Err("its cluster size is not one");
    }
    if u32_at(32)? != 0 {
        return Err("it is encrypted");
    }
    let extensions = match version {
        2 => SHORTEST,
        3 => {
            let features = u64_at(72)?;
            if features & DATA_FILE != 0 {
                return Err("its data is in another file; convert it with 'qemu-img convert'");
            }
            if features & CORRUPT != 0 {
                return Err("it is marked as damaged; repair it with 'qemu-img check -r all'");
            }
            if features & !HARMLESS != 0 {
                return Err("it needs a newer QEMU");
            }
            let length = usize::try_from(u32_at(100)?).map_err(|_| SHORT)?;
            if length < WITH_FEATURES || length > bytes.len() {
                return Err(SHORT);
            }
            length
        }
        _ => return Err("its version is neither 2 nor 3"),
    };
    check_extensions(bytes, extensions)?;
    let l1 = (u64_at(40)?, u32_at(36)? * 8);
    let end = l1.0.checked_add(l1.1);
    if l1.1 > LARGEST_L1 || end.is_none_or(|end| end > file_length) {
        return Err("its table of clusters is cut off");
    }
    Ok(Qcow2Header {
        size: u64_at(24)?,
        l1,
    })
}

/// Walks the header extensions: none may name another file or an encryption.
fn check_extensions(bytes: &[u8], from: usize) -> Result<(), &'static str> {
    let mut at = from;
    while let (Some(kind), Some(length)) = (number(bytes, at, 4), number(bytes, at + 4, 4)) {
        match u32::try_from(kind) {
            Ok(0) => return Ok(()),
            Ok(DATA_FILE_NAME) => return Err("it names another file for its data"),
            Ok(ENCRYPTION) => return Err("it is encrypted"),
            _ => {}
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        at = length
            .checked_next_multiple_of(8)
            .and_then(|padded| at.checked_add(8 + padded.min(bytes.len())))
            .unwrap_or(bytes.len());
    }
    Ok(())
}

/// The big-endian number of `length` bytes at `at`.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(length)?)?;
    Some(
        field
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        bytes[23] = 16;
        bytes[24..32].copy_from_slice(&(1u64 << 30).to_be_bytes());
        bytes[36..40].copy_from_slice(&2u32.to_be_bytes());
        bytes[40..48].copy_from_slice(&256u64.to_be_bytes());
        bytes[100..104].copy_from_slice(&112u32.to_be_bytes());
        bytes
    }

    #[test]
    fn a_plain_header_tells_the_size() {
        let header = parse(&plain(), 512).unwrap();
        assert_eq!(header.size, 1 << 30);
        assert_eq!(header.l1, (256, 16));
    }

    #[test]
    fn an_image_that_leads_elsewhere_or_is_damaged_is_refused() {
        for (at, byte, word) in [
            (3, 4, "begin as one"),
            (15, 1, "backing file"),
            (19, 9, "backing file"),
            (7, 4, "version"),
            (23, 63, "cluster size"),
            (35, 1, "encrypted"),
            (79, 4, "another file"),
            (79, 2, "damaged"),
            (72, 1, "newer"),
            (100, 255, "cut off"),
            (36, 255, "cut off"),
            (40, 255, "cut off"),
        ] {
            let mut bytes = plain();
            bytes[at] = byte;
            let reason = parse(&bytes, 512).unwrap_err();
            assert!(reason.contains(word), "{at}: {reason}");
        }
        for length in [0, 4, 71, 72, 103] {
            assert!(parse(&plain()[..length], 512).is_err(), "{length}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_whatever_leads_astray(
            at in 4_usize..200,
            field in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..40),
            length in 0_usize..600,
        ) {
            let mut bytes = plain();
            bytes[at..at + field.len()].copy_from_slice(&field);
            bytes.resize(length, 0);
            if let Ok(header) = parse(&bytes, length as u64) {
                assert!(header.l1.0 + header.l1.1 <= length as u64);
                assert_eq!(bytes[8..20], [0; 12]);
            }
        }
    }

    #[test]
    fn a_data_file_that_only_an_extension_names_is_refused_wherever_it_stands() {
        let mut bytes = plain();
        bytes[112..120].copy_from_slice(b"\x68\x03\xf8\x57\0\0\0\x05");
        bytes[128..136].copy_from_slice(b"DATA\0\0\0\x0b");
        assert!(parse(&bytes, 512).unwrap_err().contains("another file"));
        bytes[116..120].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(parse(&bytes, 512).is_ok());
    }
}
