//! A btrfs that was copied needs another identity: the kernel takes two of the same for one file
//! system on two devices.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;

use super::bytes::read_at;
use super::error::READING;
use super::further_device::further_device;
use super::make::{convert, quick};
use super::mkfs::{resolve, tables};
use super::program::Program;
use super::{DiskFileError, Format, Staged};

/// Where the first superblock has its magic (64 KiB, and 64 bytes into it), and up to the place of
/// its log tree (`include/uapi/linux/btrfs_tree.h`, `struct btrfs_super_block`).
const MAGIC_AT: u64 = 64 * 1024 + 64;
const FIELDS: usize = 40;
const MAGIC: &[u8; 8] = b"_BHRfS_M";
/// How much of a qcow2 is unpacked to see it.
const BEGINNING: &str = "131072";

const BTRFSTUNE: Program = Program {
    name: "btrfstune",
    package: "btrfs-progs",
};

/// Gives a btrfs that fills the whole disk another identity (the "metadata UUID" of kernel 5.0:
/// only its superblocks are rewritten). On any other disk nothing is done. A raw disk is changed in
/// place, so it must be a copy that nobody uses yet.
///
/// One that was not unmounted before it was copied, and has a log to be replayed, stays as it is:
/// it can be mounted, though not beside its original, and with another identity it never could be
/// again, because the log still has the old one (seen with btrfs-progs 6.2).
pub async fn new_fsid(path: &Path) -> Result<(), DiskFileError> {
    let (volume, path) = resolve(path)?;
    match volume.format {
        Format::Iso => Ok(()),
        Format::Raw => {
            if can_be_tuned(&path)? {
                tune(&path, volume.size).await?;
            }
            Ok(())
        }
        Format::Qcow2 => {
            let staged = Staged::beside(&path)?;
            let raw = staged.further("raw");
            unpack_beginning(&path, raw.path()).await?;
            if !can_be_tuned(raw.path())? {
                return Ok(());
            }
            let (packed, plain) = ((path.as_path(), Format::Qcow2), (raw.path(), Format::Raw));
            convert(packed, plain, volume.size).await?;
            tune(raw.path(), volume.size).await?;
            drop(staged.create()?);
            convert(plain, (staged.path(), Format::Qcow2), volume.size).await?;
            staged.commit(Format::Qcow2)
        }
    }
}

async fn tune(path: &Path, size: u64) -> Result<(), DiskFileError> {
    let arguments: [&OsStr; 3] = ["-m".as_ref(), "-f".as_ref(), path.as_os_str()];
    tables(BTRFSTUNE, path, size).run(&arguments).await
}

fn can_be_tuned(path: &Path) -> Result<bool, DiskFileError> {
    let mut fields = [0; FIELDS];
    let read = |source: io::Error| DiskFileError::io(READING, path, 0, source);
    let file = File::open(path).map_err(read)?;
    if !read_at(&file, MAGIC_AT, &mut fields).map_err(read)? || !fields.starts_with(MAGIC) {
        return Ok(false);
    }
    let has_log = fields[FIELDS - 8..].iter().any(|b| *b != 0);
    if has_log {
        tracing::warn!(path = %path.display(), "a btrfs with a log keeps its identity");
    }
    // The program would write to the other devices that it finds on this machine.
    let further = further_device(&file).map_err(read)?;
    if let Some(further) = further {
        tracing::warn!(path = %path.display(), "{further}: it keeps its identity");
    }
    Ok(!has_log && further.is_none())
}

async fn unpack_beginning(from: &Path, to: &Path) -> Result<(), DiskFileError> {
    let word = |key: &str, path: &Path| {
        let mut word = std::ffi::OsString::from(key);
        word.push(path);
        word
    };
    let (input, output) = (word("if=", from), word("of=", to));
    let size = word("bs=", Path::new(BEGINNING));
    let arguments: [&OsStr; 8] = [
        "dd".as_ref(),
        "-f".as_ref(),
        "qcow2".as_ref(),
        "-O".as_ref(),
        "raw".as_ref(),
        &size,
        "count=1".as_ref(),
        &input,
    ];
    quick(from, 0)
        .run(&[&arguments[..], &[output.as_os_str()]].concat())
        .await
}
