//! The agent: probes and sends when it is time, or when [`crate::wake`] says so.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use onedock_common::engine::NoAnswer;
use onedock_common::state::paths::Paths;
use thiserror::Error;

use crate::config::Config;
use crate::datastores::Prober;
use crate::engine::{Engine, EngineError};
use crate::exit;
use crate::http::HttpError;
use crate::monitord::{Monitord, SendError, unix_time};
use crate::observation::{Locks, Observation};
use crate::probe::host::Host;
use crate::probe::monitor::Meter;
use crate::probe::{Proc, numa, system};
use crate::program;
use crate::sizes::Sizer;
use crate::tracker::{Report, Tracker};
use crate::wake::{self, Events, Wake};
use crate::wire::{First, Kind};

/// Between two observations of which the second confirms the first; also the time over which the use
/// of processors is measured at the start.
const CONFIRM: Duration = Duration::from_millis(300);
/// Between observations while the engine's events cannot be followed, and while an action runs on
/// a VM.
const POLL: Duration = Duration::from_secs(1);
/// Events closer together than this lead to one observation.
const TOGETHER: Duration = Duration::from_millis(100);
/// Between tries to reach `monitord`, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// How many VMs' exits are looked into for one report; hundreds end at once with their host.
const EXITS: usize = 50;

/// Why monitoring does not start. What heals by itself, as an engine that is being restarted,
/// is no such reason.
#[derive(Debug, Error)]
pub enum AgentError {
    /// This user will never be answered.
    #[error(transparent)]
    Engine(EngineError),
    /// `monitord` cannot be found.
    #[error(transparent)]
    Send(#[from] SendError),
    /// A probe of the host failed.
    #[error("the host cannot be measured ({0})")]
    Host(#[from] std::io::Error),
}

/// The node that is monitored.
#[derive(Debug)]
pub struct NodeContext {
    pub engine: Engine,
    /// The drivers' state: locks and boot specs.
    pub paths: Paths,
    /// The kernel's files.
    pub proc: Proc,
    /// The synchronised tree, for its VERSION.
    pub remotes: PathBuf,
}

/// The agent's memory.
#[derive(Debug)]
pub struct Agent {
    config: Config,
    node: NodeContext,
    stores: Prober,
    sizes: Sizer,
    monitord: Monitord,
    host: Host,
    meter: Meter,
    tracker: Tracker,
    /// `None` while the engine does not answer.
    observed: Option<Observation>,
    /// Why the engine did not answer the last time, when it did not.
    engine_problem: Option<String>,
    unsent: u32,
    events: Events,
}

impl Agent {
    /// An agent that has observed nothing.
    pub fn new(config: Config, node: NodeContext) -> Self {
        Self {
            stores: Prober::new(config.datastores.clone()),
            sizes: Sizer::new(node.engine.clone(), config.datastores.clone()),
            monitord: Monitord::new(config.clone()),
            host: Host::default(),
            meter: Meter::default(),
            tracker: Tracker::new(config.periods.state, config.periods.sync),
            observed: None,
            engine_problem: None,
            unsent: 0,
            events: Events::default(),
            config,
            node,
        }
    }

    /// Runs every probe, those that compare two moments twice, and gives what the start of
    /// monitoring answers.
    pub fn first(&mut self) -> Result<First, AgentError> {
        self.monitord.resolve()?;
        self.host.probe(&self.node.proc)?;
        match self.observe() {
            Err(error) if is_forbidden(&error) => return Err(AgentError::Engine(error)),
            Err(error) => self.engine_problem = Some(error.to_string()),
            Ok(_) => drop(self.vm_records()),
        }
        onedock_common::wait::pause(CONFIRM);
        let monitor_host = self.monitor_host()?;
        let mut first = First {
            system_host: self.system()?,
            monitor_host,
            ..First::default()
        };
        if self.observed.is_some()
            && let Ok(report) = self.observe()
        {
            first.state_vm = report.lines.join("\n");
            // `monitord` merges what one message says of a VM into the first of it, and an attribute
            // is taken back only there (`MonitorDriverProtocol::_monitor_vm`).
            let mut records = self.exits(&report);
            records.extend(self.vm_records());
            first.monitor_vm = records.join("\n");
        }
        Ok(first)
    }

    fn monitor_host(&mut self) -> std::io::Result<String> {
        let records = self.host.probe(&self.node.proc)?;
        Ok(records + &numa::usage(Path::new(numa::NODES)))
    }

    fn system(&self) -> std::io::Result<String> {
        let node = &self.node;
        let stores = self.stores.probe();
        let records = system::probe(&node.proc, &node.engine, &node.remotes, &stores)?;
        Ok(records + &numa::host(Path::new(numa::NODES)))
    }

    fn observe(&mut self) -> Result<Report, EngineError> {
        let locks = match self.tracker.sync_due(Instant::now()) {
            true => Locks::All,
            false => Locks::Known,
        };
        let (engine, paths) = (&self.node.engine, &self.node.paths);
        match Observation::make(engine, paths, self.tracker.known(), locks) {
            Ok(observed) => {
                let report = self.tracker.update(&observed, Instant::now());
                self.observed = Some(observed);
                Ok(report)
            }
            Err(error) => {
                self.tracker.engine_unreachable();
                self.observed = None;
                Err(error)
            }
        }
    }

    fn vm_records(&mut self) -> Vec<String> {
        let Some(observed) = &self.observed else {
            return Vec::new();
        };
        self.meter
            .probe(&self.node.proc, &self.node.engine, observed.running())
    }

    /// How VMs ended, and that those which run again have not.
    fn exits(&self, report: &Report) -> Vec<String> {
        let mut records: Vec<String> = report.revived.iter().map(|vm| exit::revived(*vm)).collect();
        for vm in report.ended.iter().take(EXITS) {
            let Some(id) = self.observed.as_ref().and_then(|o| o.containers.get(vm)) else {
                continue;
            };
            match exit::ended(&self.node.engine, *vm, id) {
                Ok(record) => records.push(record),
                Err(error) => tracing::warn!(vm = vm.get(), %error, "how it ended is not known"),
            }
        }
        records
    }

    /// Observes, reports what is new, and gives the time until the next observation.
    fn report_states(&mut self) -> Duration {
        let report = match self.observe() {
            Ok(report) => report,
            Err(error) => {
                self.note_engine(Some(error.to_string()));
                return POLL;
            }
        };
        self.note_engine(None);
        if !report.lines.is_empty() && !self.send_states(&report) {
            return (RETRY.0 * 2u32.saturating_pow(self.unsent.min(8) - 1)).min(RETRY.1);
        }
        let in_action = self.observed.as_ref().is_some_and(|o| !o.busy.is_empty());
        if report.again_soon {
            CONFIRM
        } else if in_action || !self.events.is_reliable() {
            POLL.min(self.config.periods.state)
        } else {
            self.config.periods.state
        }
    }

    fn send_states(&mut self, report: &Report) -> bool {
        if let Err(error) = self.monitord.tcp(Kind::StateVm, &report.lines.join("\n")) {
            tracing::warn!(%error, "VM states were not reported; all are reported again");
            self.tracker.not_sent();
            self.unsent = self.unsent.saturating_add(1);
            return false;
        }
        self.unsent = 0;
        for line in report.lines.iter().filter(|l| !l.contains("RUNNING")) {
            tracing::info!(record = %line, "reported");
        }
        let exits = self.exits(report);
        self.udp(Kind::MonitorVm, &exits);
        true
    }

    fn udp(&mut self, kind: Kind, records: &[String]) {
        if let Err(error) = self.monitord.udp(kind, records) {
            tracing::warn!(%error, message = kind.name(), "not sent");
        }
    }

    /// A host's record says whether its engine answers, so it is sent when that changes.
    fn note_engine(&mut self, problem: Option<String>) {
        let changed = self.engine_problem.is_some() != problem.is_some();
        if changed {
            match &problem {
                Some(error) => {
                    tracing::warn!(%error, "nothing is reported of VMs until it answers")
                }
                None => tracing::info!("the engine answers again"),
            }
        }
        self.engine_problem = problem;
        if changed {
            self.send_system();
        }
    }

    fn send_system(&mut self) {
        match self.system() {
            Ok(records) => self.udp(Kind::SystemHost, &[records]),
            Err(error) => tracing::warn!(%error, "the host's facts are not reported"),
        }
    }

    fn send_host(&mut self) {
        match self.monitor_host() {
            Ok(records) => self.udp(Kind::MonitorHost, &[records]),
            Err(error) => tracing::warn!(%error, "the host's use is not reported"),
        }
    }

    /// Runs until the process is ended, or its program is replaced. [`Agent::first`] was called
    /// before, and what it gave was answered to OpenNebula.
    pub fn run(self) {
        let p = self.config.periods;
        let start = Instant::now();
        // The beacon was not among the first messages, the others wait their period.
        self.monitor(Due {
            beacon: start,
            system: start + p.system,
            host: start + p.host,
            vm: start + p.vm,
            states: start + POLL,
        });
    }

    /// The same, when what [`Agent::first`] gave was not answered to anybody.
    pub fn resume(mut self) {
        self.tracker.not_sent();
        let start = Instant::now();
        self.monitor(Due {
            beacon: start,
            system: start,
            host: start,
            vm: start,
            states: start,
        });
    }

    fn monitor(mut self, mut due: Due) {
        let wake = wake::listen(self.node.engine.clone(), self.events.clone());
        let mut program = program::Watch::default();
        let p = self.config.periods;
        let start = Instant::now();
        let mut observed = start;
        loop {
            let left = due.next().saturating_duration_since(Instant::now());
            match wake.recv_timeout(left) {
                Ok(Wake::Engine) => due.states = due.states.min(observed + TOGETHER),
                Ok(Wake::Refresh) => {
                    due.system = Instant::now();
                    due.host = due.system;
                    self.sizes.measure_soon();
                }
                Err(_) => {}
            }
            let now = Instant::now();
            if now >= due.beacon {
                self.udp(Kind::BeaconHost, &[unix_time().to_string()]);
                due.beacon = now + p.beacon;
                if program.is_replaced() {
                    tracing::info!("the program was replaced; its new version goes on");
                    return;
                }
            }
            if now >= due.states || now >= due.vm {
                let pause = self.report_states();
                observed = Instant::now();
                due.states = observed + pause;
            }
            if now >= due.vm {
                let mut records = self.vm_records();
                records.extend(self.sizes.poll(now));
                self.udp(Kind::MonitorVm, &records);
                due.vm = now + p.vm;
            }
            if now >= due.host {
                self.send_host();
                due.host = now + p.host;
            }
            if now >= due.system {
                self.send_system();
                due.system = now + p.system;
            }
        }
    }
}

struct Due {
    beacon: Instant,
    system: Instant,
    host: Instant,
    vm: Instant,
    states: Instant,
}

impl Due {
    fn next(&self) -> Instant {
        let all = [self.system, self.host, self.vm, self.states];
        all.into_iter().fold(self.beacon, Instant::min)
    }
}

/// Whether the user of this process is shut out, which waiting does not mend.
fn is_forbidden(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::Http(HttpError::Connect {
            reason: NoAnswer::Forbidden,
            ..
        })
    )
}
