//! One probe, once, for a person or for OpenNebula's own client.

use std::io;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::datastores;
use crate::engine::{Engine, EngineError};
use crate::observation::{Locks, Observation};
use crate::probe::host::Host;
use crate::probe::monitor::Meter;
use crate::probe::{Proc, numa, system};
use crate::sizes;
use crate::start::{datastores as location, paths, remotes};
use crate::tracker::Tracker;

const BETWEEN: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// MONITOR_HOST.
    Host,
    /// SYSTEM_HOST.
    System,
    /// MONITOR_VM.
    Vm,
    /// STATE_VM, always the full list.
    State,
}

impl FromStr for Probe {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "host" => Ok(Self::Host),
            "system" => Ok(Self::System),
            "vm" => Ok(Self::Vm),
            "state" => Ok(Self::State),
            _ => Err(format!(
                "there is no probe \"{text}\" (host, system, vm or state)"
            )),
        }
    }
}

/// Why there are no records.
#[derive(Debug, Error)]
pub enum ProbeError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the host cannot be measured ({0})")]
    Host(#[from] io::Error),
}

/// Runs the probe and gives its records. What compares two moments takes 0.3 s.
pub fn run(probe: Probe) -> Result<String, ProbeError> {
    let (proc, engine) = (Proc::system(), Engine::local());
    let observe = |locks| Observation::make(&engine, &paths(), std::iter::empty(), locks);
    Ok(match probe {
        Probe::System => {
            let stores = datastores::probe(&location());
            system::probe(&proc, &engine, &remotes(), &stores)?
                + &numa::host(Path::new(numa::NODES))
        }
        Probe::Host => {
            let mut host = Host::default();
            host.probe(&proc)?;
            onedock_common::wait::pause(BETWEEN);
            host.probe(&proc)? + &numa::usage(Path::new(numa::NODES))
        }
        Probe::Vm => {
            let mut meter = Meter::default();
            let observed = observe(Locks::Known)?;
            meter.probe(&proc, &engine, observed.running());
            onedock_common::wait::pause(BETWEEN);
            let mut records = meter.probe(&proc, &engine, observed.running());
            records.extend(sizes::probe(&engine, &location()));
            lines(&records)
        }
        Probe::State => {
            let mut tracker = Tracker::new(Duration::ZERO, Duration::ZERO);
            tracker.update(&observe(Locks::All)?, Instant::now());
            onedock_common::wait::pause(BETWEEN);
            lines(&tracker.update(&observe(Locks::All)?, Instant::now()).lines)
        }
    })
}

fn lines(records: &[String]) -> String {
    records.iter().map(|r| format!("{r}\n")).collect()
}
