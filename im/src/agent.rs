//! The agent: one thread that probes and sends when it is time, one that waits for the engine's
//! events, one that waits for SIGUSR1.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use onedock_common::engine::NoAnswer;
use onedock_common::state::paths::Paths;
use thiserror::Error;

use crate::config::Config;
use crate::datastores::Prober;
use crate::engine::{Engine, EngineError};
use crate::exit;
use crate::http::HttpError;
use crate::look::{self, Seen};
use crate::monitord::{Monitord, SendError, unix_time};
use crate::probe::host::Host;
use crate::probe::monitor::Meter;
use crate::probe::{Proc, system};
use crate::program;
use crate::sizes::Sizer;
use crate::tracker::{Report, Tracker};
use crate::wire::{First, Kind};

/// Between two looks of which the second confirms the first; also the time over which the use
/// of processors is measured at the start.
const CONFIRM: Duration = Duration::from_millis(300);
/// Between looks while the engine's events cannot be followed, and while a VM is in action.
const POLL: Duration = Duration::from_secs(1);
/// Events closer together than this lead to one look.
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

/// What woke the agent before its time.
#[derive(Debug)]
enum Wake {
    Engine,
    Refresh,
}

/// Where the agent finds what it looks at.
#[derive(Debug)]
pub struct Place {
    /// The engine.
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
    place: Place,
    stores: Prober,
    sizes: Sizer,
    monitord: Monitord,
    host: Host,
    meter: Meter,
    tracker: Tracker,
    seen: Option<Seen>,
    /// Why the engine did not answer the last time, when it did not.
    silent: Option<String>,
    unsent: u32,
    events: Followed,
}

impl Agent {
    /// An agent that has not looked at anything.
    pub fn new(config: Config, place: Place) -> Self {
        Self {
            stores: Prober::new(config.datastores.clone()),
            sizes: Sizer::new(place.engine.clone(), config.datastores.clone()),
            monitord: Monitord::new(config.clone()),
            host: Host::default(),
            meter: Meter::default(),
            tracker: Tracker::new(config.periods.state, config.periods.sync),
            seen: None,
            silent: None,
            unsent: 0,
            events: Followed::default(),
            config,
            place,
        }
    }

    /// Runs every probe, those that compare two moments twice, and gives what the start of
    /// monitoring answers.
    pub fn first(&mut self) -> Result<First, AgentError> {
        self.monitord.resolve()?;
        self.host.probe(&self.place.proc)?;
        match self.look() {
            Err(error) if is_forbidden(&error) => return Err(AgentError::Engine(error)),
            Err(error) => self.silent = Some(error.to_string()),
            Ok(_) => drop(self.vm_records()),
        }
        onedock_common::wait::pause(CONFIRM);
        let monitor_host = self.host.probe(&self.place.proc)?;
        let mut first = First {
            system_host: self.system()?,
            monitor_host,
            ..First::default()
        };
        if self.seen.is_some()
            && let Ok(report) = self.look()
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

    fn system(&self) -> std::io::Result<String> {
        let place = &self.place;
        system::probe(
            &place.proc,
            &place.engine,
            &place.remotes,
            &self.stores.probe(),
        )
    }

    fn look(&mut self) -> Result<Report, EngineError> {
        let all = self.tracker.sync_due(Instant::now());
        let known: Vec<_> = self.tracker.known().collect();
        match look::look(
            &self.place.engine,
            &self.place.paths,
            known.into_iter(),
            all,
        ) {
            Ok(seen) => {
                let report = self.tracker.look(&seen.look, Instant::now());
                self.seen = Some(seen);
                Ok(report)
            }
            Err(error) => {
                self.tracker.blind();
                self.seen = None;
                Err(error)
            }
        }
    }

    fn vm_records(&mut self) -> Vec<String> {
        let Some(seen) = &self.seen else {
            return Vec::new();
        };
        self.meter
            .probe(&self.place.proc, &self.place.engine, seen.running())
    }

    /// What is worth telling of VMs that ended or run again.
    fn exits(&self, report: &Report) -> Vec<String> {
        let mut records: Vec<String> = report.revived.iter().map(|vm| exit::revived(*vm)).collect();
        for vm in report.ended.iter().take(EXITS) {
            let Some(id) = self.seen.as_ref().and_then(|s| s.containers.get(vm)) else {
                continue;
            };
            match exit::ended(&self.place.engine, *vm, id) {
                Ok(record) => records.push(record),
                Err(error) => tracing::warn!(vm = vm.get(), %error, "how it ended is not known"),
            }
        }
        records
    }

    /// Looks, tells what is new, and says when to look again.
    fn look_and_tell(&mut self) -> Duration {
        let report = match self.look() {
            Ok(report) => report,
            Err(error) => {
                self.note_engine(Some(error.to_string()));
                return POLL;
            }
        };
        self.note_engine(None);
        if !report.lines.is_empty() && !self.tell(&report) {
            return (RETRY.0 * 2u32.saturating_pow(self.unsent.min(8) - 1)).min(RETRY.1);
        }
        let in_action = self.seen.as_ref().is_some_and(|s| !s.look.busy.is_empty());
        if report.again_soon {
            CONFIRM
        } else if in_action || !self.events.surely() {
            POLL.min(self.config.periods.state)
        } else {
            self.config.periods.state
        }
    }

    fn tell(&mut self, report: &Report) -> bool {
        if let Err(error) = self.monitord.tcp(Kind::StateVm, &report.lines.join("\n")) {
            tracing::warn!(%error, "VM states were not told; all are told again");
            self.tracker.not_sent();
            self.unsent = self.unsent.saturating_add(1);
            return false;
        }
        self.unsent = 0;
        for line in report.lines.iter().filter(|l| !l.contains("RUNNING")) {
            tracing::info!(record = %line, "told");
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

    /// A host's record tells whether its engine answers, so it is sent when that changes.
    fn note_engine(&mut self, problem: Option<String>) {
        let changed = self.silent.is_some() != problem.is_some();
        if changed {
            match &problem {
                Some(error) => tracing::warn!(%error, "nothing is told of VMs until it answers"),
                None => tracing::info!("the engine answers again"),
            }
        }
        self.silent = problem;
        if changed {
            self.tell_system();
        }
    }

    fn tell_system(&mut self) {
        match self.system() {
            Ok(records) => self.udp(Kind::SystemHost, &[records]),
            Err(error) => tracing::warn!(%error, "the host's facts are not told"),
        }
    }

    fn tell_host(&mut self) {
        match self.host.probe(&self.place.proc) {
            Ok(records) => self.udp(Kind::MonitorHost, &[records]),
            Err(error) => tracing::warn!(%error, "the host's use is not told"),
        }
    }

    /// Runs until the process is ended, or its program is replaced. [`Agent::first`] was called before, and what it gave was
    /// answered to OpenNebula.
    pub fn run(self) {
        let p = self.config.periods;
        let start = Instant::now();
        // The beacon was not among the first messages, the others wait their period.
        self.monitor(Due {
            beacon: start,
            system: start + p.system,
            host: start + p.host,
            vm: start + p.vm,
            look: start + POLL,
        });
    }

    /// The same, when nobody was told what [`Agent::first`] gave.
    pub fn resume(mut self) {
        self.tracker.not_sent();
        let start = Instant::now();
        self.monitor(Due {
            beacon: start,
            system: start,
            host: start,
            vm: start,
            look: start,
        });
    }

    fn monitor(mut self, mut due: Due) {
        let wake = self.listen();
        let mut program = program::Watch::default();
        let p = self.config.periods;
        let start = Instant::now();
        let mut looked = start;
        loop {
            let left = due.next().saturating_duration_since(Instant::now());
            match wake.recv_timeout(left) {
                Ok(Wake::Engine) => due.look = due.look.min(looked + TOGETHER),
                Ok(Wake::Refresh) => {
                    due.system = Instant::now();
                    due.host = due.system;
                    self.sizes.hurry();
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
            if now >= due.look || now >= due.vm {
                let pause = self.look_and_tell();
                looked = Instant::now();
                due.look = looked + pause;
            }
            if now >= due.vm {
                let mut records = self.vm_records();
                records.extend(self.sizes.poll(now));
                self.udp(Kind::MonitorVm, &records);
                due.vm = now + p.vm;
            }
            if now >= due.host {
                self.tell_host();
                due.host = now + p.host;
            }
            if now >= due.system {
                self.tell_system();
                due.system = now + p.system;
            }
        }
    }

    /// Starts the two threads that only wait. Both wake the agent through a channel of a few
    /// places: one wake-up is as good as a hundred.
    fn listen(&self) -> Receiver<Wake> {
        let (give, take) = sync_channel(4);
        let (engine, followed) = (self.place.engine.clone(), self.events.clone());
        let events = give.clone();
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new()
                .name(name.into())
                .stack_size(256 * 1024);
            if let Err(error) = thread.spawn(body) {
                tracing::warn!(%error, name, "thread cannot be started; states are polled");
            }
        };
        spawn(
            "events",
            Box::new(move || follow(&engine, &followed, &events)),
        );
        spawn("refresh", Box::new(move || wait_for_refresh(&give)));
        take
    }
}

struct Due {
    beacon: Instant,
    system: Instant,
    host: Instant,
    vm: Instant,
    look: Instant,
}

impl Due {
    fn next(&self) -> Instant {
        let all = [self.system, self.host, self.vm, self.look];
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

/// Since when the engine's events are followed. The engine answers the request for them before it
/// takes note of who asks, so that what happens in between is no event for anybody: it is relied
/// upon only after a while, and until then the agent looks as if there were none.
#[derive(Debug, Clone, Default)]
struct Followed(Arc<Mutex<Option<Instant>>>);

impl Followed {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn surely(&self) -> bool {
        let since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() > POLL * 2)
    }
}

/// Wakes the agent at each event of a VM's container. What the event says is not read: the list
/// that follows is the truth (fault 44).
fn follow(engine: &Engine, followed: &Followed, wake: &SyncSender<Wake>) {
    use std::io::Read;
    let mut buffer = vec![0; 4096];
    loop {
        if let Ok(mut stream) = engine.events() {
            followed.set(Some(Instant::now()));
            let _ = wake.try_send(Wake::Engine);
            while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
                let _ = wake.try_send(Wake::Engine);
            }
        }
        followed.set(None);
        let _ = wake.try_send(Wake::Engine);
        onedock_common::wait::pause(POLL);
    }
}

/// The signals that a thread other than this one must not get; to be called before any thread
/// is started.
pub fn hold_refresh_signal() -> nix::Result<()> {
    refresh_signal().thread_block()
}

fn refresh_signal() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGUSR1);
    set
}

/// SIGUSR1 asks for the host's probes at once, as with OpenNebula's own client.
fn wait_for_refresh(wake: &SyncSender<Wake>) {
    while refresh_signal().wait().is_ok() {
        let _ = wake.send(Wake::Refresh);
    }
}
