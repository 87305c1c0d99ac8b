//! A file system or a swap area on a disk in a file, made by the ordinary user.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::make::{convert, write};
use super::program::{Call, Program};
use super::{DiskFile, DiskFileError, Format, Fs, Staged, inspect, mark, smallest};

/// For a program that writes a file system's tables.
const TABLES: Duration = Duration::from_secs(900);
/// Below this size btrfs keeps data and metadata together, else there is room for neither.
const MIXED_BELOW: u64 = 256 << 20;

/// Puts an empty file system onto a disk, over whatever is there (ask
/// [`is_blank`](super::is_blank) before). Its root folder belongs to root. A call that is cut off
/// leaves the disk as it was.
pub async fn make_fs(path: &Path, fs: Fs) -> Result<(), DiskFileError> {
    let (volume, path) = resolve(path)?;
    if volume.size < smallest(fs) {
        return Err(DiskFileError::TooSmall {
            path,
            size: volume.size,
            fs,
        });
    }
    replace(&path, volume, async |file| {
        let arguments: &[&str] = match fs {
            Fs::Ext2 | Fs::Ext3 | Fs::Ext4 => &["-q", "-F", "-E", "root_owner=0:0"],
            Fs::Xfs => &["-q", "-f"],
            Fs::Btrfs if volume.size < MIXED_BELOW => &["-q", "-f", "--mixed"],
            Fs::Btrfs => &["-q", "-f"],
        };
        let mut arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        arguments.push(file.as_os_str());
        tables(program(fs), file, volume.size).run(&arguments).await
    })
    .await
}

/// Makes a disk a swap area, as [`make_fs`] does.
pub async fn make_swap(path: &Path) -> Result<(), DiskFileError> {
    const MKSWAP: Program = Program {
        name: "mkswap",
        package: "util-linux",
    };
    let (volume, path) = resolve(path)?;
    replace(&path, volume, async |file| {
        tables(MKSWAP, file, volume.size)
            .run(&["--".as_ref(), file.as_os_str()])
            .await
    })
    .await
}

fn program(fs: Fs) -> Program {
    let (name, package) = match fs {
        Fs::Ext2 => ("mkfs.ext2", "e2fsprogs"),
        Fs::Ext3 => ("mkfs.ext3", "e2fsprogs"),
        Fs::Ext4 => ("mkfs.ext4", "e2fsprogs"),
        Fs::Xfs => ("mkfs.xfs", "xfsprogs"),
        Fs::Btrfs => ("mkfs.btrfs", "btrfs-progs"),
    };
    Program { name, package }
}

pub(super) fn tables(program: Program, path: &Path, bytes: u64) -> Call<'_> {
    Call {
        program,
        path,
        limit: TABLES,
        bytes,
    }
}

/// What the disk is, and where behind a link.
pub(super) fn resolve(path: &Path) -> Result<(DiskFile, PathBuf), DiskFileError> {
    let (file, path) = inspect::open(path)?;
    let known = mark::read(&file);
    let volume = inspect::of(&file, &path, known)?;
    Ok((volume, path))
}

/// Puts a new disk of the same size and format in the place of `path`, after `work` was done on it
/// while it was raw.
async fn replace(
    path: &Path,
    volume: DiskFile,
    work: impl AsyncFnOnce(&Path) -> Result<(), DiskFileError>,
) -> Result<(), DiskFileError> {
    let staged = Staged::beside(path)?;
    match volume.format {
        Format::Raw => {
            write(&staged, Format::Raw, volume.size).await?;
            work(staged.path()).await?;
        }
        Format::Qcow2 => {
            let raw = staged.further("raw");
            write(&raw, Format::Raw, volume.size).await?;
            work(raw.path()).await?;
            drop(staged.create()?);
            let (from, to) = ((raw.path(), Format::Raw), (staged.path(), Format::Qcow2));
            convert(from, to, volume.size).await?;
        }
        Format::Iso => {
            return Err(DiskFileError::Unfit {
                what: "a file system",
                format: volume.format,
                path: path.to_owned(),
            });
        }
    }
    staged.commit(volume.format)
}
