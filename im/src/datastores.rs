//! Free space of the datastores on this host, as OpenNebula's `monitor_ds.rb` reports it (6.10
//! and 7.x alike): the datastore location itself, and every datastore in it that is marked to be
//! measured on each host.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use onedock_common::DatastoreId;
use onedock_common::state::{files, vm_folder};

use crate::template::vector;

/// How long a file system may take to answer; a dead NFS server never answers.
const DEADLINE: Duration = Duration::from_secs(3);

/// Sizes in MB, rounded up as `df -B1M` does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Space {
    used: u64,
    total: u64,
    free: u64,
}

impl Space {
    /// A location that cannot be measured has no space, which is what the stock probe reports.
    fn of(path: &Path) -> Self {
        let Ok(stat) = statvfs(path) else {
            return Self::default();
        };
        let mb = |blocks: u64| {
            let bytes = u128::from(blocks) * u128::from(stat.fragment_size());
            u64::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u64::MAX)
        };
        Self {
            used: mb(stat.blocks().saturating_sub(stat.blocks_free())),
            total: mb(stat.blocks()),
            free: mb(stat.blocks_available()),
        }
    }
}

/// The records of everything below `location`, which is made when it is not there.
pub fn probe(location: &Path) -> String {
    let _ = fs::create_dir_all(location);
    let all = Space::of(location);
    let mut out = format!(
        "DS_LOCATION_USED_MB={}\nDS_LOCATION_TOTAL_MB={}\nDS_LOCATION_FREE_MB={}\n",
        all.used, all.total, all.free
    );
    for (id, folder) in folders(location) {
        if !vm_folder::is_local_datastore(&folder) {
            continue;
        }
        let space = Space::of(&folder);
        out += &vector(
            "DS",
            &[
                ("ID", &id),
                ("USED_MB", &space.used),
                ("TOTAL_MB", &space.total),
                ("FREE_MB", &space.free),
            ],
        );
        out.push('\n');
    }
    out
}

/// The folders of all datastores below `location`.
pub(crate) fn folders(location: &Path) -> BTreeMap<DatastoreId, PathBuf> {
    let names = files::names(location).unwrap_or_default();
    let folder = |name: &String| Some((name.parse().ok()?, location.join(name)));
    names.iter().filter_map(folder).collect()
}

/// Asks file systems on a thread of its own, so that one that hangs does not stop the agent.
#[derive(Debug, Clone)]
pub struct Prober {
    location: PathBuf,
    running: Arc<AtomicBool>,
}

impl Prober {
    /// For the datastores below `location`.
    pub fn new(location: PathBuf) -> Self {
        Self {
            location,
            running: Arc::default(),
        }
    }

    /// The records; nothing when a file system did not answer in time, or has not yet answered
    /// an earlier call.
    pub fn probe(&self) -> String {
        if self.running.swap(true, Ordering::AcqRel) {
            tracing::warn!(location = %self.location.display(), "a file system still has not answered with its size");
            return String::new();
        }
        let (give, take) = mpsc::channel();
        let (location, running) = (self.location.clone(), Arc::clone(&self.running));
        let started = thread::Builder::new().spawn(move || {
            let _ = give.send(probe(&location));
            running.store(false, Ordering::Release);
        });
        if started.is_err() {
            self.running.store(false, Ordering::Release);
        }
        take.recv_timeout(DEADLINE).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbered_folders_with_the_marker_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let location = dir.path().join("datastores");
        for (name, marked) in [
            ("101", true),
            ("7", true),
            ("100", false),
            ("x1", true),
            (".isofiles", true),
        ] {
            fs::create_dir_all(location.join(name)).unwrap();
            if marked {
                fs::write(location.join(name).join(".monitor"), "onedock\n").unwrap();
            }
        }
        let out = probe(&location);
        let stores: Vec<&str> = out.lines().filter(|l| l.starts_with("DS = [")).collect();
        assert_eq!(stores.len(), 2);
        assert!(stores[0].starts_with("DS = [ ID=\"7\", USED_MB=\""));
        assert!(stores[1].starts_with("DS = [ ID=\"101\", USED_MB=\""));
        let total = out
            .lines()
            .find_map(|l| l.strip_prefix("DS_LOCATION_TOTAL_MB="));
        assert!(total.unwrap().parse::<u64>().unwrap() > 0);
    }

    #[test]
    fn a_location_that_is_missing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let prober = Prober::new(dir.path().join("a/b"));
        assert!(prober.probe().contains("DS_LOCATION_FREE_MB="));
        assert!(dir.path().join("a/b").is_dir());
    }
}
