//! The file of this program. A synchronisation (`onehost sync`) replaces it while the agent runs;
//! nobody else would start the new version, because `monitord` hears the old one.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// This very program, also when its file has been replaced.
const RUNNING: &str = "/proc/self/exe";
/// What the kernel adds to the path of a file that is gone.
const DELETED: &str = " (deleted)";

/// One state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
}

impl State {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        Some(Self {
            file: (meta.dev(), meta.ino()),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        })
    }
}

/// What to run for this program: the file that has its path now, else the one that runs.
pub fn newest() -> PathBuf {
    path()
        .filter(|path| path.is_file())
        .unwrap_or_else(|| RUNNING.into())
}

fn path() -> Option<PathBuf> {
    let link = fs::read_link(RUNNING).ok()?;
    let text = link.to_str()?;
    Some(text.strip_suffix(DELETED).unwrap_or(text).into())
}

/// Watches for another version of this program.
#[derive(Debug, Default)]
pub struct Watch {
    other: Option<State>,
}

impl Watch {
    /// Whether another file has the program's path and did not change since the last call: a copy
    /// may be under way.
    pub fn is_replaced(&mut self) -> bool {
        let Some(path) = path() else { return false };
        self.compare(State::of(Path::new(RUNNING)), State::of(&path))
    }

    fn compare(&mut self, running: Option<State>, present: Option<State>) -> bool {
        let other = present.filter(|present| running.is_some_and(|own| own.file != present.file));
        let is_settled = other.is_some() && other == self.other;
        self.other = other;
        is_settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_counts_as_the_new_version_when_it_stays_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let state = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            State::of(&path)
        };
        let mut watch = Watch::default();
        let own = state("own", "1");
        assert!(!watch.compare(own, own) && !watch.compare(own, own));
        assert!(!watch.compare(own, None) && !watch.compare(own, None));
        assert!(!watch.compare(own, state("new", "hal")));
        assert!(!watch.compare(own, state("new", "half and half")));
        let whole = State::of(&dir.path().join("new"));
        assert!(watch.compare(own, whole));
        assert!(!watch.compare(None, whole));
    }

    #[test]
    fn this_program_is_found_by_its_path() {
        assert_eq!(newest(), std::env::current_exe().unwrap());
        assert!(!Watch::default().is_replaced());
    }
}
