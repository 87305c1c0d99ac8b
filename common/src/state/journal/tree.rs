//! The same for the trees of further disks: an entry of its own for each, so that one that was
//! cut off stays noted while another is made.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{left_of, note};
use crate::state::files;
use crate::state::paths::Paths;
use crate::types::ids::{DiskId, VmId};

fn entry(paths: &Paths, vm: VmId, disk: DiskId) -> PathBuf {
    let journal = paths.journal(vm);
    journal.with_file_name(format!("{vm}-tree-{disk}.json"))
}

/// Notes that the tree of this disk is about to be asked for.
pub fn creating(paths: &Paths, vm: VmId, disk: DiskId) -> io::Result<()> {
    note(&entry(paths, vm, disk), b"{}")
}

/// Notes that the tree of this disk is not on its way any more.
pub fn settled(paths: &Paths, vm: VmId, disk: DiskId) -> io::Result<()> {
    files::remove(&entry(paths, vm, disk))
}

/// As [`super::on_its_way`], of the container [`crate::ContainerName::of_tree`].
pub fn on_its_way(paths: &Paths, vm: VmId, disk: DiskId) -> Option<Duration> {
    left_of(&entry(paths, vm, disk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tree_has_an_entry_of_its_own_beside_that_of_the_root_disk() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::at(dir.path());
        let vm = VmId::new(5);
        let [one, two] = [DiskId::new(1), DiskId::new(2)];
        creating(&paths, vm, one).unwrap();
        creating(&paths, vm, two).unwrap();
        crate::state::journal::creating(&paths, vm, DiskId::new(0)).unwrap();
        crate::state::journal::settled(&paths, vm).unwrap();
        settled(&paths, vm, one).unwrap();
        settled(&paths, vm, one).unwrap();
        assert_eq!(on_its_way(&paths, vm, one), None);
        assert!(on_its_way(&paths, vm, two).is_some());
        assert_eq!(on_its_way(&paths, VmId::new(6), two), None);
    }
}
