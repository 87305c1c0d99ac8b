//! Changes of a VM's limits through the real engine and both runtimes, as `resize` and a resume
//! ask for them.
#![allow(clippy::unwrap_used, reason = "fixed values of a test")]

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use onedock_common::ContainerId;
use onedock_common::engine::{Docker, Engine, Limits};
use onedock_tests::test_host::{CRUN, IMAGE, RUNC, TestHost, boot_spec};
use onedock_tests::wait::wait_until;

const FREE: Limits = Limits {
    cpu_shares: 512,
    cpu_quota_us: 0,
    memory: 64 << 20,
    swap: 0,
    pids: 0,
};

fn bounded(cpu_quota_us: i64) -> Limits {
    Limits {
        cpu_quota_us,
        memory: 96 << 20,
        pids: 100,
        ..FREE
    }
}

struct Vm {
    host: TestHost,
    id: ContainerId,
}

impl Vm {
    fn behind(runtime: &str) -> Result<Self> {
        let host = TestHost::start(env!("CARGO_BIN_EXE_onedock-runtime"), runtime, &[])?;
        let limits = ["--cpu-shares=512", "--memory=64m", "--memory-swap=64m"];
        let id = host.create(&limits, IMAGE)?;
        host.write_boot_spec(&id, &boot_spec(1)?)?;
        host.start_container(&id)?;
        Ok(Self { host, id })
    }

    fn start(&self) -> Result<()> {
        self.host.start_container(&self.id)
    }

    fn stop(&self) -> Result<()> {
        self.host
            .engine
            .docker(&["stop", "-t", "0", self.id.as_str()])
            .map(drop)
    }

    fn change(&self, before: Limits, limits: Limits) -> Result<()> {
        let docker = Docker::at(self.host.engine.socket())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            docker.limit(&self.id, before, limits).await?;
            let now = docker.container(&self.id).await?.context("it is gone")?;
            ensure!(now.limits == limits, "{:?}", now.limits);
            Ok(())
        })
    }

    /// The processors that the kernel grants its first process: none is no bound.
    fn granted(&self) -> Result<Option<f64>> {
        let pid =
            self.host
                .engine
                .docker(&["inspect", "-f", "{{.State.Pid}}", self.id.as_str()])?;
        self.host.engine.inside(move || {
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
            let of = |controller: &str| -> Option<PathBuf> {
                let path = groups.lines().find_map(|line| {
                    let (names, path) = line.split_once(':')?.1.split_once(':')?;
                    names.split(',').any(|n| n == controller).then_some(path)
                })?;
                Some(path.trim_start_matches('/').into())
            };
            let text =
                |file: &Path| -> Result<String> { Ok(fs::read_to_string(file)?.trim().to_owned()) };
            let v1 = Path::new("/sys/fs/cgroup/cpu");
            let (quota, period) = if v1.is_dir() {
                let folder = v1.join(of("cpu").context("no cpu controller")?);
                (
                    text(&folder.join("cpu.cfs_quota_us"))?,
                    text(&folder.join("cpu.cfs_period_us"))?,
                )
            } else {
                let folder = Path::new("/sys/fs/cgroup").join(of("").context("no cgroup")?);
                let both = text(&folder.join("cpu.max"))?;
                let (quota, period) = both.split_once(' ').context("cpu.max")?;
                (quota.to_owned(), period.to_owned())
            };
            if quota == "-1" || quota == "max" {
                return Ok(None);
            }
            Ok(Some(quota.parse::<f64>()? / period.parse::<f64>()?))
        })
    }
}

fn is_resized(runtime: &str) -> Result<()> {
    let vm = Vm::behind(runtime)?;
    let free = |vm: &Vm| -> Result<bool> {
        // More than any host has is no bound either.
        Ok(vm.granted()?.is_none_or(|processors| processors >= 1024.0))
    };
    // Without VCPU before and after, running, and once more after a stop.
    let more = Limits {
        cpu_shares: 2048,
        memory: 80 << 20,
        ..FREE
    };
    vm.change(FREE, more)?;
    ensure!(free(&vm)?, "bounded: {:?}", vm.granted()?);
    vm.stop()?;
    vm.start().context("after a resize without VCPU")?;

    vm.change(more, bounded(150_000))?;
    ensure!(vm.granted()? == Some(1.5), "{:?}", vm.granted()?);
    vm.change(bounded(150_000), bounded(50_000))?;
    ensure!(vm.granted()? == Some(0.5), "{:?}", vm.granted()?);

    // Lifted while it runs, and while it does not; each of them starts again.
    vm.change(bounded(50_000), more)?;
    ensure!(free(&vm)?, "still bounded: {:?}", vm.granted()?);
    vm.stop()?;
    vm.start().context("after a quota was lifted")?;
    ensure!(free(&vm)?, "bounded again: {:?}", vm.granted()?);
    vm.change(more, bounded(50_000))?;
    vm.stop()?;
    vm.change(bounded(50_000), more)?;
    vm.start()
        .context("after a quota was lifted from a stopped VM")?;
    ensure!(free(&vm)?, "bounded after a stop: {:?}", vm.granted()?);
    vm.host
        .engine
        .docker(&["rm", "-f", vm.id.as_str()])
        .map(drop)
}

#[test]
fn a_vm_with_and_without_vcpu_is_resized_behind_runc() -> Result<()> {
    is_resized(RUNC)
}

#[test]
fn a_vm_with_and_without_vcpu_is_resized_behind_crun() -> Result<()> {
    is_resized(CRUN)
}

/// As a program that makes processes without end would, with an end.
#[test]
fn attack_35_a_fork_bomb_ends_at_the_bound_of_its_vm() -> Result<()> {
    let vm = Vm::behind(RUNC)?;
    vm.change(FREE, bounded(100_000))?;
    let bomb = "i=0; while [ $i -lt 300 ]; do busybox sleep 600 & i=$((i + 1)); done";
    let words = ["exec", "-d", vm.id.as_str(), "sh", "-c", bomb];
    vm.host.engine.docker(&words)?;
    let id = vm.id.to_string();
    let processes = || {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let own = entries.filter(|entry| {
            let groups = fs::read_to_string(entry.path().join("cgroup"));
            groups.is_ok_and(|groups| groups.contains(&id))
        });
        own.count()
    };
    let most = usize::try_from(bounded(0).pids)?;
    wait_until("the bomb does not come to its bound", || {
        Ok(processes() + 5 >= most)
    })?;
    ensure!(processes() <= most, "{} processes", processes());
    vm.stop()?;
    vm.host
        .engine
        .docker(&["rm", "-f", vm.id.as_str()])
        .map(drop)
}
