//! The format of a disk, kept on its file where nothing inside a VM can change it: an extended
//! attribute of the user's class. A guest that writes the beginning of a qcow2 image into its raw
//! disk would otherwise have another disk after the next start, of any size it names.

use std::fs::File;

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};

use super::Format;

const NAME: &str = "user.onedock.format";

/// The format that was kept; `None` where there is no mark or the file system keeps none.
pub(super) fn read(file: &File) -> Option<Format> {
    let mut value = [0; 16];
    let length = fgetxattr(file, NAME, &mut value[..]).ok()?;
    std::str::from_utf8(value.get(..length)?).ok()?.parse().ok()
}

/// Keeps the format. A file system without such attributes goes on without: the content then
/// counts, as with the files of other drivers.
pub(super) fn write(file: &File, format: Format) {
    if let Err(error) = fsetxattr(file, NAME, format.as_str().as_bytes(), XattrFlags::empty()) {
        tracing::debug!(%error, "the file system keeps no mark of a disk's format");
    }
}
