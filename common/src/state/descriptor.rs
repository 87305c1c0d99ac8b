//! The disk descriptor: `disk.<n>` of a VM's folder when the disk is a container. A small JSON
//! file, so that every per-disk call of `oned` (mv, mvds, cpds, snap_*, delete) has something
//! real to act upon.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::state::files;
use crate::types::ids::{ContainerId, DiskId, SnapshotId, VmId};
use crate::types::image_config::ImageConfig;
use crate::types::reference::{ImageTag, Source};

/// The version that this build writes. It reads the first one too, which had no snapshots, and the
/// second, which had no configuration of the image: VMs outlive an upgrade of the drivers.
pub const VERSION: u32 = 3;
const OLDEST: u32 = 1;

/// The largest descriptor that is read, in bytes: less than the smallest disk, whose content is a
/// tenant's and must never be taken for a descriptor (a raw disk has 1 MiB and more).
const LIMIT: u64 = 512 * 1024;

/// Why a descriptor could not be read or written.
#[derive(Debug, Error)]
pub enum DescriptorError {
    /// There is none.
    #[error("{path} is not there; the image was not staged on this host")]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// Not one of ours.
    #[error(
        "{path} is damaged: it does not describe the disk of a container; put the file back from a copy, or terminate the VM"
    )]
    Foreign {
        path: PathBuf,
        /// Where and what.
        source: serde_json::Error,
    },
    /// Written by another version.
    #[error(
        "{path} has version {found}, this driver reads {VERSION}; synchronise the host (onehost sync)"
    )]
    Version {
        path: PathBuf,
        /// The version in it.
        found: u32,
    },
    /// The system refused.
    #[error("{path} cannot be read or written")]
    Io {
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A disk that is a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    /// [`VERSION`].
    pub version: u32,
    pub vm: VmId,
    /// DISK_ID.
    pub disk: DiskId,
    /// The image as it is staged on this host.
    pub image: Source,
    /// The image's SOURCE as `oned` knows it; it differs from `image` once a persistent image
    /// has been saved.
    pub source: Source,
    /// What the image asks for. Read when it is staged, so that a VM starts without its image too;
    /// absent in a descriptor that an earlier version wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_config: Option<ImageConfig>,
    /// Whether changes go back to the image (`ln` staged it).
    pub persistent: bool,
    /// The image's DOCKERRUN when it was staged; the VM's own DISK/DOCKERRUN stands before it.
    pub dockerrun: Option<String>,
    /// The container; absent until the first `deploy`, and after the disk has left a host.
    pub container: Option<ContainerId>,
    /// The disk's snapshots, oldest first.
    #[serde(default)]
    pub snapshots: Vec<Snapshot>,
}

/// A snapshot of the disk: an image in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// SNAPSHOT/ID, as `oned` counts them.
    pub id: SnapshotId,
    pub image: Source,
    /// What it takes in the registry beyond the image that it stands on, in bytes.
    pub bytes: u64,
}

/// What a disk is on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskKind {
    /// A container: the root disk, or the tree of a further image.
    Container(Box<Descriptor>),
    /// A disk image in a file, or a link to one: raw, qcow2 or ISO 9660.
    File,
    /// A folder of context files.
    Folder,
}

impl Descriptor {
    /// The tag of one of the disk's snapshots: of a persistent image it stays with the image.
    pub fn snapshot_tag(&self, id: SnapshotId) -> ImageTag {
        if self.persistent {
            ImageTag::Snapshot(id)
        } else {
            ImageTag::Disk {
                vm: self.vm,
                disk: self.disk,
                snapshot: Some(id),
            }
        }
    }

    /// Reads the descriptor at `path`.
    pub fn read(path: &Path) -> Result<Self, DescriptorError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let bytes = match files::read_bounded(path, LIMIT) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(DescriptorError::Missing {
                    path: path.to_owned(),
                });
            }
            // A disk image of a stock datastore is larger than any descriptor.
            Err(source) => {
                return Err(DescriptorError::Io {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let foreign = |source| DescriptorError::Foreign {
            path: path.to_owned(),
            source,
        };
        let Version { version } = serde_json::from_slice(&bytes).map_err(foreign)?;
        if !(OLDEST..=VERSION).contains(&version) {
            return Err(DescriptorError::Version {
                path: path.to_owned(),
                found: version,
            });
        }
        let descriptor: Self = serde_json::from_slice(&bytes).map_err(foreign)?;
        Ok(Self {
            version: VERSION,
            ..descriptor
        })
    }

    /// What lies at `path`, `disk.N` of a VM's folder; `None` for nothing. A descriptor that is
    /// damaged is an error, never a disk in a file.
    pub fn find(path: &Path) -> Result<Option<DiskKind>, DescriptorError> {
        let io = |source| DescriptorError::Io {
            path: path.to_owned(),
            source,
        };
        let meta = match fs::symlink_metadata(path) {
            Ok(meta) => meta,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(e)),
        };
        if meta.is_dir() {
            return Ok(Some(DiskKind::Folder));
        }
        if !meta.is_file() || meta.len() > LIMIT {
            return Ok(Some(DiskKind::File));
        }
        let bytes = files::read_bounded(path, LIMIT).map_err(io)?;
        match bytes.first() {
            Some(b'{') | None => Self::read(path).map(|d| Some(DiskKind::Container(Box::new(d)))),
            Some(_) => Ok(Some(DiskKind::File)),
        }
    }

    /// Writes the descriptor, replacing an earlier one in one step. Every field can be read by a
    /// person: this is what an administrator looks at.
    pub fn write(&self, path: &Path) -> Result<(), DescriptorError> {
        let io = |source| DescriptorError::Io {
            path: path.to_owned(),
            source,
        };
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|e| io(e.into()))?;
        bytes.push(b'\n');
        files::replace(path, &bytes, 0o640).map_err(io)
    }

    /// Removes the descriptor; one that is gone is removed.
    pub fn remove(path: &Path) -> Result<(), DescriptorError> {
        files::remove(path).map_err(|source| DescriptorError::Io {
            path: path.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::vm_folder;

    fn descriptor() -> Descriptor {
        let hex = "ab".repeat(32);
        let source: Source = format!("docker://front:5000/onedock/img-6@sha256:{hex}")
            .parse()
            .unwrap();
        Descriptor {
            version: VERSION,
            vm: VmId::new(5),
            disk: DiskId::new(0),
            image: source.clone(),
            source,
            image_config: Some(ImageConfig {
                entrypoint: vec!["/entry".into()],
                cmd: vec!["nginx".into(), "-g".into(), "daemon off;".into()],
                volumes: vec!["/data".into()],
            }),
            persistent: false,
            dockerrun: Some("nginx -g 'daemon off;'".into()),
            container: None,
            snapshots: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = vm_folder::disk(dir.path(), DiskId::new(0));
        descriptor().write(&path).unwrap();
        assert_eq!(Descriptor::read(&path).unwrap(), descriptor());
        Descriptor::remove(&path).unwrap();
        Descriptor::remove(&path).unwrap();
        assert!(matches!(
            Descriptor::read(&path),
            Err(DescriptorError::Missing { .. })
        ));
    }

    #[test]
    fn what_earlier_versions_wrote_is_read_without_what_they_did_not_know() {
        let dir = tempfile::tempdir().unwrap();
        let path = vm_folder::disk(dir.path(), DiskId::new(0));
        let read = Descriptor {
            image_config: None,
            ..descriptor()
        };
        let mut former = serde_json::to_value(&read).unwrap();
        for version in [2, 1] {
            former["version"] = version.into();
            fs::write(&path, former.to_string()).unwrap();
            assert_eq!(Descriptor::read(&path).unwrap(), read);
            former.as_object_mut().unwrap().remove("snapshots");
        }
    }

    #[test]
    fn a_disk_of_a_stock_datastore_and_a_damaged_file_are_refused_with_their_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.0");
        for bytes in [
            &b"QFI\xfb\0\0\0\x03"[..],
            b"{\"version\":1}",
            b"{\"version\":7}",
            b"",
        ] {
            fs::write(&path, bytes).unwrap();
            let error = Descriptor::read(&path).unwrap_err().to_string();
            assert!(error.contains("disk.0"), "{error}");
        }
    }

    #[test]
    fn a_disk_with_many_snapshots_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = vm_folder::disk(dir.path(), DiskId::new(0));
        let mut many = descriptor();
        many.snapshots = (0..60)
            .map(|id| Snapshot {
                id: SnapshotId::new(id),
                image: many.image.clone(),
                bytes: 1,
            })
            .collect();
        many.write(&path).unwrap();
        assert_eq!(Descriptor::read(&path).unwrap(), many);
    }

    #[test]
    fn what_lies_at_a_disk_is_found_and_what_cannot_be_read_is_never_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = vm_folder::disk(dir.path(), DiskId::new(0));
        assert_eq!(Descriptor::find(&path).unwrap(), None);
        descriptor().write(&path).unwrap();
        let found = Descriptor::find(&path).unwrap();
        assert_eq!(found, Some(DiskKind::Container(Box::new(descriptor()))));
        // Its parent is no folder.
        assert!(Descriptor::find(&path.join("disk.1")).is_err());
        let unreadable = Descriptor::read(dir.path()).unwrap_err();
        assert!(
            matches!(unreadable, DescriptorError::Io { .. }),
            "{unreadable}"
        );
        let folder = vm_folder::disk(dir.path(), DiskId::new(1));
        fs::create_dir(&folder).unwrap();
        assert_eq!(Descriptor::find(&folder).unwrap(), Some(DiskKind::Folder));
        // The largest descriptor is damaged, one byte more is a disk that begins so.
        let large = "{".to_owned() + &" ".repeat(usize::try_from(LIMIT).unwrap() - 1);
        fs::write(&path, &large).unwrap();
        assert!(Descriptor::find(&path).is_err());
        fs::write(&path, large + " ").unwrap();
        assert_eq!(Descriptor::find(&path).unwrap(), Some(DiskKind::File));
    }
}
