//! Which state of which VM is told to `oned`, and when. Pure: what was seen goes in, records
//! come out; the reasons are in `docs/decisions/0004-state-reports.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use onedock_common::{ContainerName, VmId};

use crate::engine::State;
use crate::template::vector;

/// How many looks in a row must agree before anything but RUNNING is told (fault 39).
const CONFIRM: u32 = 2;
/// How long after an action on a VM nothing is said of it: `oned` is still taking notice.
const QUIET: Duration = Duration::from_secs(2);
/// When a state other than RUNNING is told again: `oned` ignores all reports in the first 30 s
/// after its own action (`test_and_trigger` in `src/im/InformationManager.cc`).
const AGAIN: [Duration; 2] = [Duration::from_secs(31), Duration::from_secs(62)];

/// A state as `oned` understands it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Runs.
    Running,
    /// Frozen.
    Suspended,
    /// Its process has ended, or its container is gone.
    Poweroff,
    /// The engine cannot handle it any more.
    Failure,
}

impl Told {
    fn of(state: State) -> Option<Self> {
        match state {
            State::Running => Some(Self::Running),
            State::Paused => Some(Self::Suspended),
            State::Exited => Some(Self::Poweroff),
            State::Dead => Some(Self::Failure),
            State::Created | State::Other => None,
        }
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

/// One look at the engine and at the locks.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// The VMs that have a container.
    pub vms: BTreeMap<VmId, State>,
    /// The VMs on which an action runs.
    pub busy: BTreeSet<VmId>,
    /// Whether a VM that is not in `vms` has no container.
    pub complete: bool,
}

/// What a look leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// STATE_VM lines; empty when there is nothing to say.
    pub lines: Vec<String>,
    /// VMs that are told now, or told again, to have ended while their container is there: the
    /// ones whose exit is worth telling too.
    pub ended: Vec<VmId>,
    /// VMs that run, and of which an earlier end may still be shown: by this agent, by one before
    /// it, or by another host's.
    pub revived: Vec<VmId>,
    /// Whether a second look is wanted soon, to confirm what was seen for the first time.
    pub again_soon: bool,
}

#[derive(Debug)]
struct Vm {
    /// What the last looks agree on, since when, and how many they are.
    seen: Option<(Told, Instant, u32)>,
    told: Option<Told>,
    /// When `told` is to be told again, soonest last.
    again: Vec<Instant>,
    quiet_until: Option<Instant>,
    missing: u32,
    /// Whether this VM's report as running has taken back how it ended before.
    end_is_withdrawn: bool,
}

/// Remembers what was seen and told.
#[derive(Debug)]
pub struct Tracker {
    vms: BTreeMap<VmId, Vm>,
    /// A frozen VM is told when it stays so for longer than this.
    freeze: Duration,
    sync_every: Duration,
    sync_at: Option<Instant>,
    looks: u32,
}

impl Tracker {
    /// Nothing seen yet; the first report will be a full one.
    pub fn new(freeze: Duration, sync_every: Duration) -> Self {
        Self {
            vms: BTreeMap::new(),
            freeze,
            sync_every,
            sync_at: None,
            looks: 0,
        }
    }

    /// The VMs that are remembered, whose locks are worth a look besides the listed ones'.
    pub fn known(&self) -> impl Iterator<Item = VmId> {
        self.vms.keys().copied()
    }

    /// Whether the next look may become a full list.
    pub fn sync_due(&self, now: Instant) -> bool {
        self.sync_at.is_none_or(|at| now >= at)
    }

    /// The last report did not arrive: everything is told once more.
    pub fn not_sent(&mut self) {
        self.sync_at = None;
        for vm in self.vms.values_mut() {
            vm.end_is_withdrawn = false;
        }
    }

    /// The engine did not answer: nothing is known, and what was seen before confirms nothing
    /// (faults 38 and 40). When it answers again all is told once more.
    pub fn blind(&mut self) {
        self.looks = 0;
        self.sync_at = None;
        for vm in self.vms.values_mut() {
            vm.seen = None;
            vm.missing = 0;
        }
    }

    /// Takes in a look and says what to tell.
    pub fn look(&mut self, look: &Look, now: Instant) -> Report {
        let mut report = Report::default();
        self.looks = if look.complete { self.looks + 1 } else { 0 };
        for &id in &look.busy {
            self.vm(id).hush(now);
        }
        for (&id, &state) in &look.vms {
            let freeze = self.freeze;
            let vm = self.vm(id);
            vm.missing = 0;
            if !vm.is_quiet(now) {
                vm.see(id, state, freeze, now, &mut report);
            }
        }
        self.notice_missing(look, now, &mut report);
        if self.sync_due(now) && look.complete {
            if self.looks >= CONFIRM {
                report.lines = self.full(look);
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
    /// VM ([`Vm::hush`]) may have been its start, and an agent that has just begun does not know
    /// what was told before it; so what was told here does not decide it.
    fn withdraw_ends(&mut self) -> Vec<VmId> {
        let running = self.vms.iter_mut().filter_map(|(&id, vm)| {
            let due = vm.told == Some(Told::Running) && !vm.end_is_withdrawn;
            vm.end_is_withdrawn |= due;
            due.then_some(id)
        });
        running.collect()
    }

    fn vm(&mut self, id: VmId) -> &mut Vm {
        self.vms.entry(id).or_insert(Vm {
            seen: None,
            told: None,
            again: Vec::new(),
            quiet_until: None,
            missing: 0,
            end_is_withdrawn: false,
        })
    }

    fn notice_missing(&mut self, look: &Look, now: Instant, report: &mut Report) {
        if !look.complete {
            return;
        }
        self.vms.retain(|&id, vm| {
            if look.vms.contains_key(&id) || look.busy.contains(&id) || vm.is_quiet(now) {
                return true;
            }
            vm.seen = None;
            vm.missing = vm.missing.saturating_add(1);
            if vm.missing < CONFIRM {
                report.again_soon = true;
                return true;
            }
            // Told once and forgotten: should `oned` ignore it, the next full list lacks it.
            if vm.told.is_some_and(|told| told != Told::Poweroff) {
                report.lines.push(record(id, Told::Poweroff.word()));
            }
            false
        });
    }

    /// Everything that is known. A VM that an action holds, and one whose state is not
    /// confirmed, is listed in a state that `oned` does not act upon, because one that is not
    /// listed would be taken for powered off (fault 59).
    fn full(&self, look: &Look) -> Vec<String> {
        let mut lines = vec![
            "SYNC_STATE=yes".to_owned(),
            "MISSING_STATE=POWEROFF".to_owned(),
        ];
        for (&id, vm) in &self.vms {
            let busy = look.busy.contains(&id) || vm.quiet_until.is_some();
            let confirmed = vm
                .told
                .filter(|told| vm.seen.is_some_and(|(s, ..)| s == *told));
            match confirmed {
                Some(told) if !busy => lines.push(record(id, told.word())),
                _ if busy || vm.seen.is_some() || (1..CONFIRM).contains(&vm.missing) => {
                    lines.push(record(id, "UNKNOWN"));
                }
                _ if look.vms.get(&id) == Some(&State::Other) => {
                    lines.push(record(id, "UNKNOWN"));
                }
                _ => {}
            }
        }
        lines
    }
}

impl Vm {
    fn hush(&mut self, now: Instant) {
        self.quiet_until = Some(now + QUIET);
        self.seen = None;
        self.told = None;
        self.again.clear();
        self.missing = 0;
        self.end_is_withdrawn = false;
    }

    fn is_quiet(&mut self, now: Instant) -> bool {
        if self.quiet_until.is_some_and(|until| now >= until) {
            self.quiet_until = None;
        }
        self.quiet_until.is_some()
    }

    fn see(&mut self, id: VmId, state: State, freeze: Duration, now: Instant, report: &mut Report) {
        let Some(want) = Told::of(state) else {
            self.seen = None;
            return;
        };
        let (since, looks) = match self.seen {
            Some((seen, since, looks)) if seen == want => (since, looks.saturating_add(1)),
            _ => (now, 1),
        };
        self.seen = Some((want, since, looks));
        let confirmed = match want {
            Told::Running => true,
            Told::Suspended => looks >= CONFIRM && now.duration_since(since) >= freeze,
            Told::Poweroff | Told::Failure => looks >= CONFIRM,
        };
        if self.told == Some(want) {
            if self.told_again(now) {
                report.lines.push(record(id, want.word()));
                report.ended.extend(ended(want).then_some(id));
            }
        } else if confirmed {
            self.tell(id, want, now, report);
            report.ended.extend(ended(want).then_some(id));
        } else if want != Told::Suspended {
            report.again_soon = true;
        }
    }

    fn tell(&mut self, id: VmId, told: Told, now: Instant, report: &mut Report) {
        self.told = Some(told);
        self.end_is_withdrawn &= !ended(told);
        self.again = match told {
            Told::Running => Vec::new(),
            _ => AGAIN.iter().rev().map(|after| now + *after).collect(),
        };
        report.lines.push(record(id, told.word()));
    }

    fn told_again(&mut self, now: Instant) -> bool {
        let due = self.again.last().is_some_and(|at| now >= *at);
        if due {
            self.again.pop();
        }
        due
    }
}

fn ended(told: Told) -> bool {
    matches!(told, Told::Poweroff | Told::Failure)
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
