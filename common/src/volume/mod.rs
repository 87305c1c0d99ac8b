//! Disks that are files: raw, qcow2 and ISO 9660 images of a VM and of a datastore, made, measured,
//! given a file system, grown and copied by the drivers' ordinary user.
//!
//! What is in such a file is a tenant's. It is never handed to a program that would find out the
//! format by itself, because a raw disk that begins like a qcow2 image could name any file of the
//! host as the one below it.

#[allow(dead_code)]
mod error;
mod format;
mod fs;

use std::path::Path;

pub use error::VolumeError;
pub use format::Format;
pub use fs::Fs;

/// What a disk in a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volume {
    /// How the file is written.
    pub format: Format,
    /// The size of the disk as a VM sees it, in bytes.
    pub size: u64,
    /// What the file takes on its file system, in bytes.
    pub allocated: u64,
}

fn not_built(path: &Path) -> VolumeError {
    VolumeError::Unfit {
        what: "what is not built yet",
        format: Format::Raw,
        path: path.to_owned(),
    }
}

/// What the disk at `path` is. A link is followed once.
pub fn inspect(path: &Path) -> Result<Volume, VolumeError> {
    Err(not_built(path))
}

/// What the disk at `path` is, when its format is known: its content then decides nothing.
pub fn inspect_as(path: &Path, _format: Format) -> Result<Volume, VolumeError> {
    Err(not_built(path))
}

/// Whether nothing was ever written to the disk.
pub async fn is_blank(path: &Path) -> Result<bool, VolumeError> {
    Err(not_built(path))
}

/// Makes an empty disk of `size` bytes.
pub async fn make(path: &Path, _format: Format, _size: u64) -> Result<(), VolumeError> {
    Err(not_built(path))
}

/// Puts an empty file system onto the disk, over whatever is there.
pub async fn make_fs(path: &Path, _fs: Fs) -> Result<(), VolumeError> {
    Err(not_built(path))
}

/// Makes the disk a swap area.
pub async fn make_swap(path: &Path) -> Result<(), VolumeError> {
    Err(not_built(path))
}

/// Makes a disk that no VM uses now as large as `size` bytes, ext2/3/4 on it too.
pub async fn grow(path: &Path, _size: u64) -> Result<(), VolumeError> {
    Err(not_built(path))
}

/// Makes the file of a disk as large as `size` bytes, whatever is on it.
pub async fn grow_file(path: &Path, _size: u64) -> Result<(), VolumeError> {
    Err(not_built(path))
}

/// Gives a copy of a btrfs another identity.
pub async fn new_fsid(path: &Path) -> Result<(), VolumeError> {
    Err(not_built(path))
}

/// Copies a disk.
pub async fn copy(path: &Path, _to: &Path) -> Result<(), VolumeError> {
    Err(not_built(path))
}
