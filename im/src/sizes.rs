//! DISK_SIZE and SNAPSHOT_SIZE: what each VM's disks take on this host, in MB as OpenNebula's
//! `monitor_ds` tells them. A disk that is a container takes what its own layer does, which only
//! the engine can tell, by walking it; so this is asked seldom, on a thread of its own.
//! `monitord` merges records by attribute (`VirtualMachineMonitorInfo::from_template`): what is
//! told once stays with the VM until it is told again, and the list of a VM's disks has to be
//! told as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use onedock_common::state::descriptor::{Descriptor, Found, disk_path};
use onedock_common::{DatastoreId, DiskId, SnapshotId, VmId};

use crate::engine::{Engine, Taken};
use crate::probe::monitor::record;
use crate::template::vector;

/// Between two measurements, at least. Each makes the engine look at every file of every VM's
/// layer.
const EVERY: Duration = Duration::from_secs(600);
/// ... and so many times as long as the last one took: one part in twenty of a disk's time.
const SHARE: u32 = 20;

/// The sizes of one VM's disks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Disks {
    bytes: BTreeMap<DiskId, u64>,
    snapshots: BTreeMap<(DiskId, SnapshotId), u64>,
}

impl Disks {
    fn record(&self, vm: VmId) -> String {
        let mb = |bytes: &u64| bytes.div_ceil(1 << 20);
        let mut lines = String::new();
        for (disk, bytes) in &self.bytes {
            lines += &vector("DISK_SIZE", &[("ID", disk), ("SIZE", &mb(bytes))]);
            lines.push('\n');
        }
        for ((disk, id), bytes) in &self.snapshots {
            let fields: [(&str, &dyn std::fmt::Display); 3] =
                [("ID", id), ("DISK_ID", disk), ("SIZE", &mb(bytes))];
            lines += &vector("SNAPSHOT_SIZE", &fields);
            lines.push('\n');
        }
        record(vm, &lines)
    }

    /// The disks that lie in the VM's folder of a datastore. One that goes meanwhile, or cannot
    /// be read, is left out.
    fn look(&mut self, folder: &Path) {
        for name in names(folder) {
            let Some(disk) = numbered::<DiskId>(&name, "disk.") else {
                continue;
            };
            match Descriptor::find(&disk_path(folder, disk)) {
                Ok(Found::Container(descriptor)) => {
                    for one in descriptor.snapshots {
                        self.snapshots.insert((disk, one.id), one.bytes);
                    }
                }
                Ok(Found::File) => {
                    let path = disk_path(folder, disk);
                    if let Some(bytes) = allocated(&path) {
                        self.bytes.insert(disk, bytes);
                    }
                    let kept = folder.join(format!("disk.{disk}.snap"));
                    for name in names(&kept) {
                        if let Some(id) = numbered::<SnapshotId>(&name, "")
                            && let Some(bytes) = allocated(&kept.join(&name))
                        {
                            self.snapshots.insert((disk, id), bytes);
                        }
                    }
                }
                // The few kilobytes of a context, or nothing.
                _ => {}
            }
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn numbered<T: std::str::FromStr>(name: &str, before: &str) -> Option<T> {
    name.strip_prefix(before)?.parse().ok()
}

/// What a file takes, not how long it is; a link's is its target's, as with `du -L`.
fn allocated(path: &Path) -> Option<u64> {
    let meta = fs::metadata(path).ok().filter(Metadata::is_file)?;
    Some(meta.blocks().saturating_mul(512))
}

/// The records of every VM that has a container on this host.
fn measure(taken: &[Taken], datastores: &Path) -> Vec<String> {
    let mut all: BTreeMap<VmId, Disks> = BTreeMap::new();
    for one in taken {
        let disks = all.entry(one.vm).or_default();
        disks.bytes.insert(one.disk, one.bytes);
    }
    let stores: BTreeSet<DatastoreId> = names(datastores)
        .iter()
        .filter_map(|name| numbered(name, ""))
        .collect();
    for (vm, disks) in &mut all {
        for store in &stores {
            disks.look(&datastores.join(format!("{store}/{vm}")));
        }
    }
    all.iter().map(|(vm, disks)| disks.record(*vm)).collect()
}

/// Measures once, in this thread.
pub fn probe(engine: &Engine, datastores: &Path) -> Vec<String> {
    match engine.taken() {
        Ok(taken) => measure(&taken, datastores),
        Err(error) => {
            tracing::warn!(%error, "the sizes of disks are not told");
            Vec::new()
        }
    }
}

/// Measures from time to time, and never makes its caller wait.
#[derive(Debug)]
pub struct Sizer {
    engine: Engine,
    datastores: PathBuf,
    due: Instant,
    pending: Option<Receiver<(Vec<String>, Duration)>>,
}

impl Sizer {
    /// For VMs on this engine with their folders below `datastores`; nothing is measured yet.
    pub fn new(engine: Engine, datastores: PathBuf) -> Self {
        Self {
            engine,
            datastores,
            due: Instant::now(),
            pending: None,
        }
    }

    /// Somebody wants to know now.
    pub fn hurry(&mut self) {
        self.due = Instant::now();
    }

    /// The records of a measurement that has ended since the last call; none for most calls.
    /// Begins the next one when it is due and none is under way.
    pub fn poll(&mut self, now: Instant) -> Vec<String> {
        if let Some(pending) = &self.pending {
            match pending.try_recv() {
                Ok((records, took)) => {
                    self.pending = None;
                    self.due = now + EVERY.max(took * SHARE);
                    return records;
                }
                Err(TryRecvError::Empty) => return Vec::new(),
                Err(TryRecvError::Disconnected) => {
                    self.pending = None;
                    self.due = now + EVERY;
                }
            }
        }
        if now >= self.due {
            self.begin(now);
        }
        Vec::new()
    }

    fn begin(&mut self, now: Instant) {
        let (give, take) = channel();
        let (engine, datastores) = (self.engine.clone(), self.datastores.clone());
        let thread = thread::Builder::new().name("sizes".into());
        let started = thread.spawn(move || {
            let begun = Instant::now();
            let records = probe(&engine, &datastores);
            let took = begun.elapsed();
            tracing::debug!(vms = records.len(), ms = took.as_millis(), "disks measured");
            let _ = give.send((records, took));
        });
        match started {
            Ok(_) => self.pending = Some(take),
            Err(error) => {
                tracing::warn!(%error, "the sizes of disks are not told");
                self.due = now + EVERY;
            }
        }
    }
}

#[cfg(test)]
#[path = "sizes_tests.rs"]
mod tests;
