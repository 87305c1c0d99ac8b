//! A disk only becomes larger.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use super::bytes::read_at;
use super::error::{READING, WRITING};
use super::further_device::{further_device, is_part_of_an_array};
use super::make::{check, quick, set_length};
use super::mkfs::resolve;
use super::program::{Call, Program};
use super::{DiskFile, DiskFileError, Format};

/// For a check of a whole file system.
const CHECK: Duration = Duration::from_secs(1800);

const BLKID: Program = Program {
    name: "blkid",
    package: "util-linux",
};
const E2FSCK: Program = Program {
    name: "e2fsck",
    package: "e2fsprogs",
};
const RESIZE2FS: Program = Program {
    name: "resize2fs",
    package: "e2fsprogs",
};

/// Makes a disk that no VM uses now as large as `size` bytes, and with a raw disk an ext2, ext3 or
/// ext4 that fills it. The other file systems grow when they are mounted. A disk that is as large
/// already stays; one that is larger is an error. A file system that cannot be repaired leaves the
/// disk as it was; one that leads to another device stays as it is.
pub async fn grow(path: &Path, size: u64) -> Result<(), DiskFileError> {
    let (volume, path) = larger(path, size)?;
    if volume.format != Format::Raw || leads_on(&path)? || !has_ext(&path, size).await? {
        return lengthen(&path, volume, size).await;
    }
    // Also when only the file was made longer before, by a call that was cut off then.
    if !leaves_room(&path, size)? {
        return lengthen(&path, volume, size).await;
    }
    let call = |program| Call {
        program,
        path: &path,
        limit: CHECK,
        bytes: size,
    };
    let arguments: [&OsStr; 3] = ["-f".as_ref(), "-p".as_ref(), path.as_os_str()];
    // 1: repaired; 2: and a mounted one would have to be mounted anew (e2fsck(8)).
    call(E2FSCK).run_until(&arguments, &[0, 1, 2, 3]).await?;
    lengthen(&path, volume, size).await?;
    call(RESIZE2FS).run(&[path.as_os_str()]).await
}

/// Makes a raw disk's file as large as `size` bytes and touches nothing on it: for a disk that a VM
/// uses now. A qcow2 image in use belongs to the process that exports it.
pub async fn grow_file(path: &Path, size: u64) -> Result<(), DiskFileError> {
    let (volume, path) = larger(path, size)?;
    match volume.format {
        Format::Raw => lengthen(&path, volume, size).await,
        format => Err(DiskFileError::Unfit {
            what: "growing in use",
            format,
            path,
        }),
    }
}

/// Whether what is on the disk belongs to several devices: `e2fsck` would open the others.
fn leads_on(path: &Path) -> Result<bool, DiskFileError> {
    let io = |source| DiskFileError::io(READING, path, 0, source);
    let disk = File::open(path).map_err(io)?;
    let found = further_device(&disk).map_err(io)?;
    Ok(found.is_some() || is_part_of_an_array(&disk).map_err(io)?)
}

fn larger(path: &Path, size: u64) -> Result<(DiskFile, std::path::PathBuf), DiskFileError> {
    check(path, size)?;
    let (volume, path) = resolve(path)?;
    if size < volume.size {
        return Err(DiskFileError::Shrink {
            path,
            size: volume.size,
            wanted: size,
        });
    }
    Ok((volume, path))
}

async fn lengthen(path: &Path, volume: DiskFile, size: u64) -> Result<(), DiskFileError> {
    if size == volume.size {
        return Ok(());
    }
    match volume.format {
        Format::Raw => {
            let io = |source| DiskFileError::io(WRITING, path, size, source);
            let file = OpenOptions::new()
                .write(true)
                .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
                .open(path)
                .map_err(io)?;
            set_length(&file, path, size)?;
            file.sync_all().map_err(io)
        }
        Format::Qcow2 => {
            let size_word = size.to_string();
            let arguments: [&OsStr; 6] = [
                "resize".as_ref(),
                "-q".as_ref(),
                "-f".as_ref(),
                "qcow2".as_ref(),
                path.as_os_str(),
                size_word.as_ref(),
            ];
            quick(path, size).run(&arguments).await
        }
        format => Err(DiskFileError::Unfit {
            what: "growing",
            format,
            path: path.to_owned(),
        }),
    }
}

/// Whether an ext2, ext3 or ext4 fills the disk. A disk with partitions, or with signatures of more
/// than one kind, is left to its user.
async fn has_ext(path: &Path, bytes: u64) -> Result<bool, DiskFileError> {
    let words = ["-p", "-o", "value", "-s", "TYPE", "--"].map(OsStr::new);
    // 2: nothing known is on it; 8: more than one thing is (blkid(8)).
    let ended = quick_blkid(path, bytes)
        .run_until(&[&words[..], &[path.as_os_str()]].concat(), &[0, 2, 8])
        .await?;
    Ok(matches!(ended.stdout.trim(), "ext2" | "ext3" | "ext4"))
}

fn quick_blkid(path: &Path, bytes: u64) -> Call<'_> {
    Call {
        program: BLKID,
        ..quick(path, bytes)
    }
}

/// Whether the ext file system is smaller than `size` by a block at least (`Documentation/
/// filesystems/ext4/super.rst`: s_blocks_count_lo, s_log_block_size, s_feature_incompat,
/// s_blocks_count_hi).
fn leaves_room(path: &Path, size: u64) -> Result<bool, DiskFileError> {
    const WIDE: u32 = 0x80;
    let io = |source| DiskFileError::io(READING, path, 0, source);
    let file = File::open(path).map_err(io)?;
    let mut block = [0; 1024];
    if !read_at(&file, 1024, &mut block).map_err(io)? {
        return Ok(false);
    }
    let field = |at: usize| {
        let bytes = [block[at], block[at + 1], block[at + 2], block[at + 3]];
        u32::from_le_bytes(bytes)
    };
    let mut blocks = u64::from(field(4));
    if field(0x60) & WIDE != 0 {
        blocks |= u64::from(field(0x150)) << 32;
    }
    let block_size = 1024_u64.checked_shl(field(0x18)).unwrap_or(0);
    Ok(blocks
        .checked_add(1)
        .and_then(|blocks| blocks.checked_mul(block_size))
        .is_some_and(|bytes| bytes <= size))
}
