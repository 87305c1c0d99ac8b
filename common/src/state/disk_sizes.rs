//! DISK_SIZE and SNAPSHOT_SIZE of a VM, as OpenNebula's own drivers measure and write them
//! (`src/tm_mad/ssh/monitor_ds`): what the files take, links followed, in MiB rounded up. Holes
//! take nothing, and data that a disk shares with a copy is counted in both.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::state::descriptor::{Descriptor, DiskKind};
use crate::state::vm_folder;
use crate::types::ids::{DiskId, SnapshotId};

/// The sizes of one VM's disks, in bytes. A disk whose size is not known is not among them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DiskSizes {
    disks: BTreeMap<DiskId, u64>,
    snapshots: BTreeMap<(DiskId, SnapshotId), u64>,
    has_container: bool,
}

impl DiskSizes {
    /// Adds the disks in a VM's folder. One that goes meanwhile, or cannot be read, is left out. The
    /// size of a disk that is a container is the engine's to tell ([`Self::add_layer`]); before its
    /// container is made it takes nothing.
    pub fn add_folder(&mut self, folder: &Path) {
        for disk in vm_folder::disks(folder).unwrap_or_default() {
            let path = vm_folder::disk(folder, disk);
            match Descriptor::find(&path) {
                Ok(Some(DiskKind::Container(descriptor))) => {
                    self.has_container = true;
                    if descriptor.container.is_none() {
                        self.disks.entry(disk).or_insert(0);
                    }
                    for snapshot in descriptor.snapshots {
                        self.snapshots.insert((disk, snapshot.id), snapshot.bytes);
                    }
                }
                Ok(Some(DiskKind::File)) => {
                    self.disks
                        .extend(allocated(&path).map(|bytes| (disk, bytes)));
                    for id in vm_folder::snapshots(&path).unwrap_or_default() {
                        let bytes = allocated(&vm_folder::snapshot(&path, id));
                        self.snapshots
                            .extend(bytes.map(|bytes| ((disk, id), bytes)));
                    }
                }
                // The few kilobytes of a context, or nothing.
                _ => {}
            }
        }
    }

    /// Adds what the layer of a disk takes that is a container.
    pub fn add_layer(&mut self, disk: DiskId, bytes: u64) {
        self.disks.insert(disk, bytes);
    }

    /// Whether the folder has a disk that is a container, whose size the engine knows.
    pub fn has_container(&self) -> bool {
        self.has_container
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.disks.is_empty() && self.snapshots.is_empty()
    }
}

/// In template syntax, a line for each disk and each snapshot.
impl fmt::Display for DiskSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: &u64| bytes.div_ceil(1 << 20);
        for (disk, bytes) in &self.disks {
            writeln!(f, "DISK_SIZE = [ ID={disk}, SIZE={}]", mib(bytes))?;
        }
        for ((disk, id), bytes) in &self.snapshots {
            let size = mib(bytes);
            writeln!(f, "SNAPSHOT_SIZE = [ ID={id}, DISK_ID={disk}, SIZE={size}]")?;
        }
        Ok(())
    }
}

/// What a file takes, not how long it is.
fn allocated(path: &Path) -> Option<u64> {
    let meta = fs::metadata(path).ok().filter(Metadata::is_file)?;
    Some(meta.blocks().saturating_mul(512))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::state::descriptor::{Snapshot, VERSION};
    use crate::types::ids::VmId;
    use crate::types::reference::Source;

    fn container(folder: &Path, disk: u32, snapshots: &[(u32, u64)]) {
        let hex = "ab".repeat(32);
        let image: Source = format!("docker://front:5000/onedock/img-6@sha256:{hex}")
            .parse()
            .unwrap();
        let snapshots = snapshots.iter().map(|(id, bytes)| Snapshot {
            id: SnapshotId::new(*id),
            image: image.clone(),
            bytes: *bytes,
        });
        let disk = DiskId::new(disk);
        let descriptor = Descriptor {
            version: VERSION,
            vm: VmId::new(5),
            disk,
            source: image.clone(),
            snapshots: snapshots.collect(),
            image,
            image_config: None,
            persistent: false,
            dockerrun: None,
            container: None,
        };
        descriptor.write(&vm_folder::disk(folder, disk)).unwrap();
    }

    #[test]
    fn layers_files_and_snapshots_are_written_as_the_stock_scripts_write_them() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        fs::create_dir(folder.join("disk.2")).unwrap();
        container(folder, 0, &[(0, 1), (3, 5 << 20)]);
        // A disk in a file: 2 MiB written of 64.
        let file = fs::File::create(folder.join("disk.1")).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&vec![1; 2 << 20], 1 << 20).unwrap();
        fs::create_dir(folder.join("disk.1.snap")).unwrap();
        for name in ["12", ".12.part", "base"] {
            fs::write(folder.join("disk.1.snap").join(name), vec![1; 1 << 20]).unwrap();
        }
        container(folder, 4, &[]);
        let mut sizes = DiskSizes::default();
        assert!(sizes.is_empty());
        sizes.add_layer(DiskId::new(0), (2 << 20) + 1);
        assert!(!sizes.has_container() && !sizes.is_empty());
        sizes.add_folder(folder);
        assert!(sizes.has_container());
        assert_eq!(
            sizes.to_string(),
            "DISK_SIZE = [ ID=0, SIZE=3]\n\
             DISK_SIZE = [ ID=1, SIZE=2]\n\
             DISK_SIZE = [ ID=4, SIZE=0]\n\
             SNAPSHOT_SIZE = [ ID=0, DISK_ID=0, SIZE=1]\n\
             SNAPSHOT_SIZE = [ ID=3, DISK_ID=0, SIZE=5]\n\
             SNAPSHOT_SIZE = [ ID=12, DISK_ID=1, SIZE=1]\n"
        );
    }

    #[test]
    fn a_snapshot_alone_is_something_to_tell() {
        let mut sizes = DiskSizes::default();
        let snapshot = (DiskId::new(1), SnapshotId::new(0));
        sizes.snapshots.insert(snapshot, 1);
        assert!(!sizes.is_empty());
    }

    #[test]
    fn a_damaged_descriptor_or_a_link_to_nowhere_hides_no_other_disk() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        fs::write(folder.join("disk.0"), "{\"version\":").unwrap();
        std::os::unix::fs::symlink("/nowhere/image", folder.join("disk.1")).unwrap();
        fs::write(folder.join("disk.2"), vec![1; 4096]).unwrap();
        let mut sizes = DiskSizes::default();
        sizes.add_folder(folder);
        assert_eq!(sizes.to_string(), "DISK_SIZE = [ ID=2, SIZE=1]\n");
    }
}
