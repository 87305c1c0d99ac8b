//! Five hundred VMs: one observation of the engine with what it leads to, and one round of metrics,
//! with the processor time of this process. The engine is a fake, so its own time is not in the
//! figures; the control files are real files of a v2 tree. What is timed is checked.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench fails by panicking and answers on its output"
)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nix::sys::resource::{UsageWho, getrusage};
use onedock_common::VmId;
use onedock_common::state::paths::Paths;
use onedock_im::engine;
use onedock_im::http::Socket;
use onedock_im::observation::{Locks, Observation};
use onedock_im::probe::Proc;
use onedock_im::probe::monitor::Meter;
use onedock_im::tracker::Tracker;

#[path = "fake_engine/mod.rs"]
mod fake_engine;

const VMS: u32 = 500;
const ROUNDS: u32 = 20;

fn main() {
    let dir = tempfile::tempdir().expect("a folder");
    let proc = tree(dir.path());
    let engine = engine::Engine::at(Socket::at(fake_engine::start(dir.path(), VMS)));
    let paths = Paths::at(dir.path().join("state"));
    let mut tracker = Tracker::new(Duration::from_secs(5), Duration::from_secs(180));
    let mut meter = Meter::default();
    let observe = |known: &[VmId], locks| {
        Observation::make(&engine, &paths, known.iter().copied(), locks).expect("a list")
    };
    let mut observed = observe(&[], Locks::All);
    let first = Instant::now();
    assert_eq!(meter.probe(&proc, &engine, observed.running()).len(), 500);
    report("first metrics, with 500 inspections", first.elapsed(), None);

    let (start, cpu) = (Instant::now(), cpu());
    for _ in 0..ROUNDS {
        let known: Vec<_> = tracker.known().collect();
        observed = observe(&known, Locks::Known);
        tracker.update(&observed, Instant::now());
        assert_eq!(observed.running().count(), 500);
    }
    report(
        "one observation",
        start.elapsed() / ROUNDS,
        Some((self::cpu() - cpu) / ROUNDS),
    );

    let (start, cpu) = (Instant::now(), self::cpu());
    for _ in 0..ROUNDS {
        let records = meter.probe(&proc, &engine, observed.running());
        assert_eq!(records.len(), 500);
        assert!(records.iter().all(|r| whole(r)), "every value is there");
    }
    report(
        "one round of metrics",
        start.elapsed() / ROUNDS,
        Some((self::cpu() - cpu) / ROUNDS),
    );
}

fn whole(record: &str) -> bool {
    let b64 = record
        .split("MONITOR=\"")
        .nth(1)
        .and_then(|r| r.split('"').next());
    let plain = BASE64_STANDARD
        .decode(b64.unwrap_or(""))
        .unwrap_or_default();
    // CPU, MEMORY, two of the network and four of disks.
    plain.iter().filter(|b| **b == b'\n').count() == 8
}

fn report(what: &str, time: Duration, cpu: Option<Duration>) {
    let cpu = cpu.map_or(String::new(), |cpu| {
        let each = cpu.as_secs_f64() * 1e6 / f64::from(VMS);
        format!(
            ", processor {:.2} ms, {each:.1} us a VM",
            cpu.as_secs_f64() * 1e3
        )
    });
    println!("{VMS} VMs: {what}: {:.2} ms{cpu}", time.as_secs_f64() * 1e3);
}

/// The processor time of this thread, so that the fake engine's does not count.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("its own use");
    let micros = |t: nix::sys::time::TimeVal| {
        u64::try_from(t.tv_sec() * 1_000_000 + t.tv_usec()).unwrap_or(0)
    };
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

/// `/proc` and a v2 tree with 500 containers.
fn tree(dir: &Path) -> Proc {
    let put = |file: String, text: &str| {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    let mut dev = String::new();
    for vm in 0..VMS {
        let id = fake_engine::container(vm);
        let place = format!("cgroup/docker/{id}");
        put(
            format!("{place}/cpu.stat"),
            "usage_usec 1500\nuser_usec 1\nsystem_usec 2\n",
        );
        put(format!("{place}/memory.current"), "4096000\n");
        let stat: String = (0..40).map(|n| format!("field_{n} 123456\n")).collect();
        put(
            format!("{place}/memory.stat"),
            &format!("anon 1\n{stat}inactive_file 96\n"),
        );
        put(
            format!("{place}/io.stat"),
            "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n",
        );
        put(
            format!("proc/{}/cgroup", vm + 1),
            &format!("0::/docker/{id}\n"),
        );
        dev += &format!("one-{vm}-0: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n");
    }
    put("proc/net/dev".into(), &dev);
    let mount = format!(
        "30 23 0:26 / {}/cgroup rw - cgroup2 cgroup2 rw\n",
        dir.display()
    );
    put("proc/self/mountinfo".into(), &mount);
    Proc::at(dir.join("proc"))
}
