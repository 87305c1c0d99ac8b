//! What is remembered of the disks that a container has, in `/run/onedock/disks/<container>/`.
//!
//! One file a disk, written before the container is touched, so that a call that was ended in the
//! middle leaves nothing that is not known. The folder itself is the lock.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use onedock_common::state::boot::Disk;
use onedock_common::state::files;
use onedock_common::wait;
use onedock_common::{ContainerId, DiskId};
use serde::{Deserialize, Serialize};

use crate::disks::loop_device::Loop;
use crate::state_folder::{self, RUN};

const LIMIT: u64 = 256 * 1024;
/// The longest that a call waits for another one.
const WAIT: Duration = Duration::from_secs(60);

/// A disk in a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PluggedDisk {
    /// As it was asked for.
    pub(super) disk: Disk,
    /// Whether the call that shows it came to its end.
    pub(super) complete: bool,
    /// How it is shown; none: not yet.
    pub(super) form: Option<Form>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Form {
    Mounted(Mounted),
    Device(Device),
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Mounted {
    /// The loop device below it.
    pub(super) looped: Option<Loop>,
    /// The type of the file system, for those on loop devices.
    pub(super) kind: String,
    /// The kernel's id of the mount.
    pub(super) mount_id: u64,
    /// The file system's device as `/proc/<pid>/mountinfo` writes it (`major:minor`).
    pub(super) device: String,
    /// The device as `stat` answers it, which is another for btrfs.
    pub(super) stat_device: u64,
}

/// Device nodes; the first is the whole disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Device {
    pub(super) nodes: Vec<Node>,
    /// Links in `/dev/disk`, as `by-uuid/…`, with what they name.
    pub(super) links: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Node {
    /// Its name in `/dev`.
    pub(super) name: String,
    pub(super) looped: Loop,
}

/// The folder of one container, locked.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Keeps the lock.
    _lock: File,
}

/// What opening a container's folder has come to.
#[derive(Debug)]
pub(super) enum Access {
    /// It is locked for this call.
    Opened(Folder),
    /// There is none: nothing is remembered of the container's disks.
    Absent,
    /// Another call had it for as long as this one waited.
    Locked,
}

fn all() -> PathBuf {
    Path::new(RUN).join("disks")
}

impl Folder {
    /// Opens the folder, which is made when it is not there. `Locked`: another call has it.
    pub(super) fn open(container: &ContainerId) -> io::Result<Access> {
        let path = all().join(container.as_str());
        let opened = wait::until_ok(WAIT, || -> io::Result<_> {
            state_folder::make(&path)?;
            let lock = match File::open(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened?,
            };
            if let Err(fs::TryLockError::WouldBlock) = lock.try_lock() {
                return Ok(None);
            }
            // Who had it before may have removed it.
            let ours = fs::metadata(&path).is_ok_and(|meta| Some(meta.ino()) == ino(&lock));
            Ok(ours.then_some(lock))
        })?;
        Ok(match opened {
            Some(lock) => Access::Opened(Self { path, _lock: lock }),
            None => Access::Locked,
        })
    }

    /// As [`Self::open`], but a folder that is not there stays absent.
    pub(super) fn open_existing(container: &ContainerId) -> io::Result<Access> {
        if all().join(container.as_str()).exists() {
            Self::open(container)
        } else {
            Ok(Access::Absent)
        }
    }

    /// The container's id.
    pub(super) fn container(&self) -> std::path::Display<'_> {
        Path::new(self.path.file_name().unwrap_or_default()).display()
    }

    /// A file of the disk beside what is remembered.
    pub(super) fn file(&self, disk: DiskId, kind: &str) -> PathBuf {
        self.path.join(format!("{disk}.{kind}"))
    }

    pub(super) fn read(&self, disk: DiskId) -> io::Result<Option<PluggedDisk>> {
        match files::read_bounded(&self.file(disk, "json"), LIMIT) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub(super) fn write(&self, shown: &PluggedDisk) -> io::Result<()> {
        let bytes = serde_json::to_vec(shown)?;
        files::replace(&self.file(shown.disk.id, "json"), &bytes, 0o600)
    }

    pub(super) fn forget(&self, disk: DiskId) -> io::Result<()> {
        files::remove_with_leftovers(&self.file(disk, "json"))
    }

    /// Those of which something is remembered, in the order of their ids.
    pub(super) fn list(&self) -> io::Result<Vec<DiskId>> {
        let mut list = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|name| name.split('.').next());
            list.extend(id.and_then(|id| id.parse::<DiskId>().ok()));
        }
        list.sort();
        list.dedup();
        Ok(list)
    }

    /// Removes the folder and all in it.
    pub(super) fn remove(self) -> io::Result<()> {
        fs::remove_dir_all(&self.path)
    }
}

fn ino(file: &File) -> Option<u64> {
    file.metadata().ok().map(|meta| meta.ino())
}
