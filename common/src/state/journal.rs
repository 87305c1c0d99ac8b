//! What a driver has asked of the engine and has no answer to yet. The engine goes on working on
//! the request of a driver that was ended, and takes a name some time before the container can
//! be seen: who deletes the VM meanwhile would find nothing, and the container would stay.
//!
//! Nothing is synchronised to the disk: a host that goes down takes the engine's work with it.

pub mod freezing;
pub mod tree;

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::state::files;
use crate::state::paths::Paths;
use crate::types::ids::{DiskId, VmId};

/// How long the engine may take to make a container: until then one that was asked for may come.
pub const MAKING: Duration = Duration::from_secs(30);

/// The largest entry that is read, in bytes.
const LIMIT: u64 = 4096;

/// The entry of one VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Entry {
    /// A container is being made of this disk.
    Creating { disk: DiskId },
}

/// Notes that a container is about to be asked for.
pub fn creating(paths: &Paths, vm: VmId, disk: DiskId) -> io::Result<()> {
    let entry = serde_json::to_vec(&Entry::Creating { disk })?;
    note(&paths.journal(vm), &entry)
}

fn note(path: &Path, entry: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, entry)
}

/// Notes that nothing of the VM is on its way any more.
pub fn settled(paths: &Paths, vm: VmId) -> io::Result<()> {
    files::remove(&paths.journal(vm))
}

/// How much longer a container of this disk may still be on its way, at most [`MAKING`]; `None`
/// when none is. A caller takes it as a bound for its whole waiting and does not ask again: with
/// a clock that was set back it never ends.
pub fn on_its_way(paths: &Paths, vm: VmId, disk: DiskId) -> Option<Duration> {
    let path = paths.journal(vm);
    let bytes = files::read_bounded(&path, LIMIT).ok()?;
    // An entry cut off while it was written is one all the same.
    let of_this = match serde_json::from_slice(&bytes) {
        Ok(Entry::Creating { disk: noted }) => noted == disk,
        Err(_) => true,
    };
    of_this.then(|| left_of(&path)).flatten()
}

/// How much longer what the entry at `path` notes may be on its way; `None` without an entry.
fn left_of(path: &Path) -> Option<Duration> {
    path.exists().then(|| MAKING.saturating_sub(age(path)))
}

fn age(path: &Path) -> Duration {
    let noted = fs::metadata(path).and_then(|meta| meta.modified());
    noted
        .ok()
        .and_then(|then| SystemTime::now().duration_since(then).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_on_its_way_from_the_note_to_the_answer_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::at(dir.path());
        let (vm, disk) = (VmId::new(5), DiskId::new(0));
        assert_eq!(on_its_way(&paths, vm, disk), None);
        settled(&paths, vm).unwrap();
        creating(&paths, vm, disk).unwrap();
        assert!(on_its_way(&paths, vm, disk).unwrap() > Duration::from_secs(1));
        assert_eq!(on_its_way(&paths, vm, DiskId::new(1)), None);
        let file = fs::File::options()
            .write(true)
            .open(paths.journal(vm))
            .unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600))
            .unwrap();
        assert_eq!(on_its_way(&paths, vm, disk), Some(Duration::ZERO));
        // Fault 20: the clock was set back.
        file.set_modified(SystemTime::now() + Duration::from_secs(3600))
            .unwrap();
        assert_eq!(on_its_way(&paths, vm, disk), Some(MAKING));
        file.set_len(3).unwrap();
        assert!(on_its_way(&paths, vm, disk).is_some());
        settled(&paths, vm).unwrap();
        assert_eq!(on_its_way(&paths, vm, disk), None);
    }
}
