//! MONITOR_VM: what each running VM uses. A handful of small files a VM, one read for all
//! links, and a question to the engine only for a container that was not seen before.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use onedock_common::{ContainerId, ContainerName, VmId};

use super::Proc;
use crate::cgroup::{Files, IoUsage, Mounts};
use crate::engine::Engine;
use crate::links::{self, Traffic};

/// How long one round may ask the engine about containers that are new; the rest come with the
/// next round.
const DISCOVERY: Duration = Duration::from_secs(2);

/// A `VM` record whose MONITOR decodes to `lines` of template syntax.
pub fn record(vm: VmId, lines: &str) -> String {
    format!(
        "VM = [ ID=\"{vm}\", DEPLOY_ID=\"{}\", MONITOR=\"{}\" ]",
        ContainerName::of(vm),
        BASE64_STANDARD.encode(lines)
    )
}

/// A counter that goes on where it was when what it counts starts again from 0, because a
/// smaller value shows as a negative spike in graphs.
#[derive(Debug, Default)]
struct Counter {
    before: u64,
    last: u64,
}

impl Counter {
    fn next(&mut self, raw: u64) -> u64 {
        if raw < self.last {
            self.before = self.before.saturating_add(self.last);
        }
        self.last = raw;
        self.before.saturating_add(raw)
    }
}

#[derive(Debug, Default)]
struct Counters {
    rx: Counter,
    tx: Counter,
    read_bytes: Counter,
    write_bytes: Counter,
    reads: Counter,
    writes: Counter,
}

#[derive(Debug)]
struct Vm {
    container: ContainerId,
    files: Files,
    cpu: Option<(u64, Instant)>,
    counters: Counters,
    round: u64,
}

/// Remembers where each VM's control files are and what they said.
#[derive(Debug, Default)]
pub struct Meter {
    vms: BTreeMap<VmId, Vm>,
    round: u64,
    buffer: String,
}

impl Meter {
    /// Measures the running VMs; a VM about which nothing is known gives no record. The use of
    /// processors is known from a VM's second measurement on.
    pub fn probe<'a>(
        &mut self,
        proc: &Proc,
        engine: &Engine,
        running: impl Iterator<Item = (VmId, &'a ContainerId)>,
    ) -> Vec<String> {
        self.round += 1;
        let round = self.round;
        let traffic = links::by_vm(&proc.read("net/dev").unwrap_or_default());
        let mut finder = Finder::new(proc, engine);
        let mut records = Vec::new();
        for (id, container) in running {
            let vm = self.vms.entry(id).or_insert_with(|| Vm {
                container: container.clone(),
                files: Files::default(),
                cpu: None,
                counters: Counters::default(),
                round,
            });
            vm.round = round;
            if vm.container != *container {
                vm.container = container.clone();
                vm.files = Files::default();
            }
            let mut usage = vm.files.read(&mut self.buffer);
            if usage.is_none() {
                // Never found, or started anew elsewhere.
                vm.files = finder.find(container).unwrap_or_default();
                usage = vm.files.read(&mut self.buffer);
            }
            let usage = usage.unwrap_or_default();
            let mut out = String::new();
            if let Some(percent) = vm.percent(usage.cpu_ns, Instant::now()) {
                let _ = writeln!(out, "CPU=\"{percent:.2}\"");
            }
            if let Some(bytes) = usage.memory {
                let _ = writeln!(out, "MEMORY=\"{}\"", bytes / 1024);
            }
            vm.counters.write(traffic.get(&id), usage.io, &mut out);
            if !out.is_empty() {
                records.push(record(id, &out));
            }
        }
        self.forget(round);
        records
    }

    /// A VM that is stopped for an hour or two is still the same VM to a graph; one that has
    /// not run for a thousand rounds is none.
    fn forget(&mut self, round: u64) {
        self.vms.retain(|_, vm| vm.round + 1000 > round);
        for vm in self.vms.values_mut().filter(|vm| vm.round != round) {
            vm.cpu = None;
        }
    }
}

impl Vm {
    /// Percent of one processor since the last measurement. A restart counts from 0.
    fn percent(&mut self, now_ns: Option<u64>, now: Instant) -> Option<f64> {
        let last = std::mem::replace(&mut self.cpu, now_ns.map(|ns| (ns, now)));
        let ((then_ns, then), now_ns) = (last?, now_ns?);
        let used = Duration::from_nanos(now_ns.checked_sub(then_ns)?);
        let passed = now.duration_since(then);
        (!passed.is_zero()).then(|| 100.0 * used.as_secs_f64() / passed.as_secs_f64())
    }
}

impl Counters {
    fn write(&mut self, traffic: Option<&Traffic>, io: Option<IoUsage>, out: &mut String) {
        if let Some(traffic) = traffic {
            let (rx, tx) = (self.rx.next(traffic.rx), self.tx.next(traffic.tx));
            let _ = writeln!(out, "NETRX=\"{rx}\"\nNETTX=\"{tx}\"");
        }
        if let Some(io) = io {
            for (name, counter, raw) in [
                ("DISKRDBYTES", &mut self.read_bytes, io.read_bytes),
                ("DISKWRBYTES", &mut self.write_bytes, io.write_bytes),
                ("DISKRDIOPS", &mut self.reads, io.reads),
                ("DISKWRIOPS", &mut self.writes, io.writes),
            ] {
                let _ = writeln!(out, "{name}=\"{}\"", counter.next(raw));
            }
        }
    }
}

/// Finds cgroups by asking the engine for a process, within a bound of time for all.
struct Finder<'a> {
    proc: &'a Proc,
    engine: &'a Engine,
    mounts: Option<Mounts>,
    until: Instant,
}

impl<'a> Finder<'a> {
    fn new(proc: &'a Proc, engine: &'a Engine) -> Self {
        Self {
            proc,
            engine,
            mounts: None,
            until: Instant::now() + DISCOVERY,
        }
    }

    fn find(&mut self, container: &ContainerId) -> Option<Files> {
        if Instant::now() >= self.until {
            return None;
        }
        let pid = self.engine.inspect(container).ok()?.pid?;
        let cgroups = self.proc.read(format!("{pid}/cgroup")).ok()?;
        if self.mounts.is_none() {
            self.mounts = Some(Mounts::parse(&self.proc.read("self/mountinfo").ok()?));
        }
        Some(Files::find(self.mounts.as_ref()?, &cgroups, container))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_go_on_when_a_container_starts_again() {
        let mut counter = Counter::default();
        let reported: Vec<u64> = [5, 9, 2, 4, 1].map(|raw| counter.next(raw)).to_vec();
        assert_eq!(reported, [5, 9, 11, 13, 14]);
    }

    #[test]
    fn fault_20_the_use_of_processors_is_of_the_time_between_and_never_negative() {
        let mut vm = Vm {
            container: "ab".repeat(32).parse().unwrap(),
            files: Files::default(),
            cpu: None,
            counters: Counters::default(),
            round: 0,
        };
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(vm.percent(Some(1_000_000_000), at(0)), None);
        assert_eq!(vm.percent(Some(2_500_000_000), at(1000)), Some(150.0));
        assert_eq!(vm.percent(Some(1), at(2000)), None, "it has started again");
        assert_eq!(vm.percent(None, at(3000)), None);
        assert_eq!(vm.percent(Some(5), at(3000)), None);
    }

    #[test]
    fn fault_69_what_is_not_known_is_left_out() {
        let mut out = String::new();
        Counters::default().write(None, None, &mut out);
        assert_eq!(out, "");
        Counters::default().write(Some(&Traffic { rx: 1, tx: 2 }), None, &mut out);
        assert_eq!(out, "NETRX=\"1\"\nNETTX=\"2\"\n");
    }
}
