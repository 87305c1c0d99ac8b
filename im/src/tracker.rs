//! Which state of which VM is reported to `oned`, and when. Pure: observations go in, records come
//! out; the reasons are in `docs/decisions/0004-state-reports.md`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use onedock_common::{ContainerName, VmId};

use crate::engine::State;
use crate::observation::Observation;
use crate::template::vector;

/// How many observations in a row must agree before anything but RUNNING is reported (fault 39).
const CONFIRM: u32 = 2;
/// How long after an action on a VM nothing is reported of it: `oned` is still taking notice.
const SUPPRESSED: Duration = Duration::from_secs(2);
/// When a state other than RUNNING is reported again: `oned` ignores all reports in the first 30 s
/// after its own action (`test_and_trigger` in `src/im/InformationManager.cc`).
const AGAIN: [Duration; 2] = [Duration::from_secs(31), Duration::from_secs(62)];

/// A state as `oned` understands it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    Running,
    Suspended,
    /// Its process has ended, or its container is gone.
    Poweroff,
    /// The engine cannot handle it any more.
    Failure,
}

impl Reported {
    fn of(state: State) -> Option<Self> {
        match state {
            State::Running => Some(Self::Running),
            State::Paused => Some(Self::Suspended),
            State::Exited => Some(Self::Poweroff),
            State::Dead => Some(Self::Failure),
            State::Created | State::Other => None,
        }
    }

    fn is_end(self) -> bool {
        matches!(self, Self::Poweroff | Self::Failure)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Suspended => "SUSPENDED",
            Self::Poweroff => "POWEROFF",
            Self::Failure => "FAILURE",
        }
    }
}

/// What an observation leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// STATE_VM lines; empty when there is nothing to say.
    pub lines: Vec<String>,
    /// VMs that are reported, now or again, to have ended while their container is there: how they
    /// ended is worth a record too.
    pub ended: Vec<VmId>,
    /// VMs that run, and of which an earlier end may still be shown: by this agent, by one before
    /// it, or by another host's.
    pub revived: Vec<VmId>,
    /// Whether a second observation is wanted soon, to confirm what was observed for the first time.
    pub again_soon: bool,
}

#[derive(Debug)]
struct Vm {
    /// What the last observations agree on, since when, and how many they are.
    observed: Option<(Reported, Instant, u32)>,
    reported: Option<Reported>,
    /// When `reported` is to be reported again, soonest last.
    again: Vec<Instant>,
    suppressed_until: Option<Instant>,
    missing: u32,
    /// Whether this VM's report as running has taken back how it ended before.
    end_is_withdrawn: bool,
}

/// Remembers what was observed and reported.
#[derive(Debug)]
pub struct Tracker {
    vms: BTreeMap<VmId, Vm>,
    /// A frozen VM is reported when it stays so for longer than this.
    freeze: Duration,
    sync_every: Duration,
    sync_at: Option<Instant>,
    observations: u32,
}

impl Tracker {
    /// Nothing observed yet; the first report will be a full one.
    pub fn new(freeze: Duration, sync_every: Duration) -> Self {
        Self {
            vms: BTreeMap::new(),
            freeze,
            sync_every,
            sync_at: None,
            observations: 0,
        }
    }

    /// The VMs that are remembered, whose locks are read besides those of the listed ones.
    pub fn known(&self) -> impl Iterator<Item = VmId> {
        self.vms.keys().copied()
    }

    /// Whether the next report may be a full list.
    pub fn sync_due(&self, now: Instant) -> bool {
        self.sync_at.is_none_or(|at| now >= at)
    }

    /// The last report did not arrive: everything is reported once more.
    pub fn not_sent(&mut self) {
        self.sync_at = None;
        for vm in self.vms.values_mut() {
            vm.end_is_withdrawn = false;
        }
    }

    /// The engine did not answer: nothing is known, and what was observed before confirms nothing
    /// (faults 38 and 40). When it answers again all is reported once more.
    pub fn engine_unreachable(&mut self) {
        self.observations = 0;
        self.sync_at = None;
        for vm in self.vms.values_mut() {
            vm.observed = None;
            vm.missing = 0;
        }
    }

    /// Takes an observation in and says what to report.
    pub fn update(&mut self, observed: &Observation, now: Instant) -> Report {
        let mut report = Report::default();
        self.observations = if observed.complete {
            self.observations + 1
        } else {
            0
        };
        for &id in &observed.busy {
            self.vm(id).suppress(now);
        }
        for (&id, &state) in &observed.vms {
            let freeze = self.freeze;
            let vm = self.vm(id);
            vm.missing = 0;
            if !vm.is_suppressed(now) {
                vm.observe(id, state, freeze, now, &mut report);
            }
        }
        self.notice_missing(observed, now, &mut report);
        if self.sync_due(now) && observed.complete {
            if self.observations >= CONFIRM {
                report.lines = self.full_list(observed);
                self.sync_at = Some(now + self.sync_every);
            } else {
                report.lines.clear();
                report.again_soon = true;
            }
        }
        if !report.lines.is_empty() {
            report.revived = self.withdraw_ends();
        }
        report
    }

    /// The running VMs whose former end has to be taken back, once for each run. An action on the
    /// VM ([`Vm::suppress`]) may have been its start, and an agent that has just begun does not know
    /// what was reported before it; so what was reported here does not decide it.
    fn withdraw_ends(&mut self) -> Vec<VmId> {
        let running = self.vms.iter_mut().filter_map(|(&id, vm)| {
            let due = vm.reported == Some(Reported::Running) && !vm.end_is_withdrawn;
            vm.end_is_withdrawn |= due;
            due.then_some(id)
        });
        running.collect()
    }

    fn vm(&mut self, id: VmId) -> &mut Vm {
        self.vms.entry(id).or_insert(Vm {
            observed: None,
            reported: None,
            again: Vec::new(),
            suppressed_until: None,
            missing: 0,
            end_is_withdrawn: false,
        })
    }

    fn notice_missing(&mut self, observed: &Observation, now: Instant, report: &mut Report) {
        if !observed.complete {
            return;
        }
        self.vms.retain(|&id, vm| {
            let is_there = observed.vms.contains_key(&id) || observed.busy.contains(&id);
            if is_there || vm.is_suppressed(now) {
                return true;
            }
            vm.observed = None;
            vm.missing = vm.missing.saturating_add(1);
            if vm.missing < CONFIRM {
                report.again_soon = true;
                return true;
            }
            // Reported once and forgotten: should `oned` ignore it, the next full list lacks it.
            if vm.reported.is_some_and(|state| state != Reported::Poweroff) {
                report.lines.push(record(id, Reported::Poweroff.word()));
            }
            false
        });
    }

    /// Everything that is known. A VM that an action holds, and one whose state is not
    /// confirmed, is listed in a state that `oned` does not act upon, because one that is not
    /// listed would be taken for powered off (fault 59).
    fn full_list(&self, observed: &Observation) -> Vec<String> {
        let mut lines = vec![
            "SYNC_STATE=yes".to_owned(),
            "MISSING_STATE=POWEROFF".to_owned(),
        ];
        for (&id, vm) in &self.vms {
            let busy = observed.busy.contains(&id) || vm.suppressed_until.is_some();
            let confirmed = vm
                .reported
                .filter(|state| vm.observed.is_some_and(|(last, ..)| last == *state));
            match confirmed {
                // Of a VM that an action holds nothing counts as reported.
                Some(state) => lines.push(record(id, state.word())),
                _ if busy || vm.observed.is_some() || (1..CONFIRM).contains(&vm.missing) => {
                    lines.push(record(id, "UNKNOWN"));
                }
                _ if observed.vms.get(&id) == Some(&State::Other) => {
                    lines.push(record(id, "UNKNOWN"));
                }
                _ => {}
            }
        }
        lines
    }
}

impl Vm {
    /// Reports nothing of the VM for a while, and forgets what was reported.
    fn suppress(&mut self, now: Instant) {
        self.suppressed_until = Some(now + SUPPRESSED);
        self.observed = None;
        self.reported = None;
        self.again.clear();
        self.missing = 0;
        self.end_is_withdrawn = false;
    }

    fn is_suppressed(&mut self, now: Instant) -> bool {
        if self.suppressed_until.is_some_and(|until| now >= until) {
            self.suppressed_until = None;
        }
        self.suppressed_until.is_some()
    }

    fn observe(
        &mut self,
        id: VmId,
        state: State,
        freeze: Duration,
        now: Instant,
        report: &mut Report,
    ) {
        let Some(state) = Reported::of(state) else {
            self.observed = None;
            return;
        };
        let (since, times) = match self.observed {
            Some((last, since, times)) if last == state => (since, times.saturating_add(1)),
            _ => (now, 1),
        };
        self.observed = Some((state, since, times));
        let confirmed = match state {
            Reported::Running => true,
            Reported::Suspended => times >= CONFIRM && now.duration_since(since) >= freeze,
            Reported::Poweroff | Reported::Failure => times >= CONFIRM,
        };
        if self.reported == Some(state) {
            if self.is_due_again(now) {
                report.lines.push(record(id, state.word()));
                report.ended.extend(state.is_end().then_some(id));
            }
        } else if confirmed {
            self.report(id, state, now, report);
            report.ended.extend(state.is_end().then_some(id));
        } else if state != Reported::Suspended {
            report.again_soon = true;
        }
    }

    fn report(&mut self, id: VmId, state: Reported, now: Instant, report: &mut Report) {
        self.reported = Some(state);
        self.end_is_withdrawn &= !state.is_end();
        self.again = match state {
            Reported::Running => Vec::new(),
            _ => AGAIN.iter().rev().map(|after| now + *after).collect(),
        };
        report.lines.push(record(id, state.word()));
    }

    fn is_due_again(&mut self, now: Instant) -> bool {
        let due = self.again.last().is_some_and(|at| now >= *at);
        if due {
            self.again.pop();
        }
        due
    }
}

fn record(id: VmId, state: &str) -> String {
    let name = ContainerName::of(id);
    vector(
        "VM",
        &[("ID", &id), ("DEPLOY_ID", &name), ("STATE", &state)],
    )
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
