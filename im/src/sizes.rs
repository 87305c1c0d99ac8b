//! DISK_SIZE and SNAPSHOT_SIZE of every VM on this host. What the layer of a container takes only
//! the engine can tell, by walking it; so this is measured seldom, on a thread of its own.
//! `monitord` merges records by attribute (`VirtualMachineMonitorInfo::from_template`): what is
//! reported once stays with the VM until it is reported again, and the list of a VM's disks has to
//! be reported as a whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use onedock_common::VmId;
use onedock_common::engine::LayerSize;
use onedock_common::state::disk_sizes::DiskSizes;

use crate::datastores;
use crate::engine::Engine;
use crate::probe::monitor::record;

/// Between two measurements, at least. Each makes the engine walk every VM's layer.
const EVERY: Duration = Duration::from_secs(600);
/// ... and so many times as long as the last one took: one part in twenty of a disk's time.
const SHARE: u32 = 20;

/// The records of every VM that has a container on this host.
fn measure(layers: &[LayerSize], location: &Path) -> Vec<String> {
    let mut all: BTreeMap<VmId, DiskSizes> = BTreeMap::new();
    for layer in layers {
        let sizes = all.entry(layer.vm).or_default();
        sizes.add_layer(layer.disk, layer.bytes);
    }
    let folders = datastores::folders(location);
    for (vm, sizes) in &mut all {
        for datastore in folders.values() {
            sizes.add_folder(&datastore.join(vm.to_string()));
        }
    }
    all.iter()
        .map(|(vm, sizes)| record(*vm, &sizes.to_string()))
        .collect()
}

/// Measures once, in this thread.
pub fn probe(engine: &Engine, datastores: &Path) -> Vec<String> {
    match engine.layer_sizes() {
        Ok(layers) => measure(&layers, datastores),
        Err(error) => {
            tracing::warn!(%error, "the sizes of disks are not reported");
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

    /// Makes the next measurement due now.
    pub fn measure_soon(&mut self) {
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
                tracing::warn!(%error, "the sizes of disks are not reported");
                self.due = now + EVERY;
            }
        }
    }
}

#[cfg(test)]
#[path = "sizes_tests.rs"]
mod tests;
