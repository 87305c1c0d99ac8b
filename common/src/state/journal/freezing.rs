//! A VM that is frozen for the time of a copy (a live snapshot, a save-as). Who freezes it notes
//! it before, under the VM's lock, and takes the note away when the VM goes on. A note that is
//! found by who has the lock is of a call that has died: the VM has to go on.
//!
//! A VM that `save` froze has no such note: it stays so until `restore`.

use std::io;
use std::path::PathBuf;

use super::note;
use crate::state::files;
use crate::state::paths::Paths;
use crate::types::ids::VmId;

fn entry(paths: &Paths, vm: VmId) -> PathBuf {
    paths
        .journal(vm)
        .with_file_name(format!("{vm}-freezing.json"))
}

/// Notes that the VM is about to be frozen for a short time.
pub fn begin(paths: &Paths, vm: VmId) -> io::Result<()> {
    note(&entry(paths, vm), b"{}")
}

/// Notes that the VM goes on.
pub fn end(paths: &Paths, vm: VmId) -> io::Result<()> {
    files::remove(&entry(paths, vm))
}

/// Whether a call that froze the VM has not let it go on.
pub fn is_begun(paths: &Paths, vm: VmId) -> bool {
    entry(paths, vm).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_there_from_its_begin_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::at(dir.path());
        let vm = VmId::new(5);
        end(&paths, vm).unwrap();
        assert!(!is_begun(&paths, vm));
        begin(&paths, vm).unwrap();
        assert!(is_begun(&paths, vm));
        assert!(!is_begun(&paths, VmId::new(6)));
        end(&paths, vm).unwrap();
        assert!(!is_begun(&paths, vm));
    }
}
