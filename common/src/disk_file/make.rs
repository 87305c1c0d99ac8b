//! A new, empty disk.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use super::error::WRITING;
use super::program::{Call, Program};
use super::{DiskFileError, Format, LIMIT, Staged};

/// For what touches only an image's tables.
const QUICK: Duration = Duration::from_secs(120);

pub(super) const QEMU_IMG: Program = Program {
    name: "qemu-img",
    package: "qemu-utils",
};

/// Makes an empty disk of `size` bytes at `path`, in place of whatever file is there. It takes
/// next to no space: a raw disk is one hole.
pub async fn make(path: &Path, format: Format, size: u64) -> Result<(), DiskFileError> {
    check(path, size)?;
    let staged = Staged::beside(path)?;
    write(&staged, format, size).await?;
    staged.commit(format)
}

pub(super) fn check(path: &Path, size: u64) -> Result<(), DiskFileError> {
    let reason = match size {
        0 => "a disk has at least one",
        1..=LIMIT => return Ok(()),
        _ => "more than 1 PiB is no disk",
    };
    Err(DiskFileError::Size {
        path: path.to_owned(),
        size,
        reason,
    })
}

/// Writes an empty disk to a name where nothing is.
pub(super) async fn write(staged: &Staged, format: Format, size: u64) -> Result<(), DiskFileError> {
    // Made here, so that it is the drivers' alone from its first moment on.
    let file = staged.create()?;
    let path = staged.path();
    match format {
        Format::Raw => set_length(&file, path, size),
        Format::Qcow2 => {
            let words = ["create", "-q", "-f", "qcow2"].map(OsStr::new);
            let size_word = size.to_string();
            let arguments = [&words[..], &[path.as_os_str(), size_word.as_ref()]].concat();
            quick(path, size).run(&arguments).await
        }
        Format::Iso => Err(DiskFileError::Unfit {
            what: "making an empty disk",
            format,
            path: path.to_owned(),
        }),
    }
}

/// Makes a file longer. A file system may know no file that long.
pub(super) fn set_length(
    file: &std::fs::File,
    path: &Path,
    size: u64,
) -> Result<(), DiskFileError> {
    file.set_len(size).map_err(|e| match e.kind() {
        std::io::ErrorKind::FileTooLarge => DiskFileError::Size {
            path: path.to_owned(),
            size,
            reason: "the file system there has no files so large",
        },
        _ => DiskFileError::io(WRITING, path, size, e),
    })
}

/// A call of `qemu-img` that moves no data.
pub(super) fn quick(path: &Path, bytes: u64) -> Call<'_> {
    Call {
        program: QEMU_IMG,
        path,
        limit: QUICK,
        bytes,
    }
}

/// Writes the disk `from` in another format to `to`, where nothing is or an empty file.
pub(super) async fn convert(
    from: (&Path, Format),
    to: (&Path, Format),
    bytes: u64,
) -> Result<(), DiskFileError> {
    let call = Call {
        program: QEMU_IMG,
        path: to.0,
        limit: Duration::from_secs(4000),
        bytes,
    };
    let arguments = [
        "convert".as_ref(),
        "-q".as_ref(),
        "-f".as_ref(),
        from.1.as_str().as_ref(),
        "-O".as_ref(),
        to.1.as_str().as_ref(),
        from.0.as_os_str(),
        to.0.as_os_str(),
    ];
    call.run(&arguments).await
}
