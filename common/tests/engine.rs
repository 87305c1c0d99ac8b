//! Containers as the drivers have them made, with a real engine; needs root.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use onedock_common::engine::{CreateSpec, Docker, Engine as _, Limits, labels, own};
use onedock_common::{ContainerId, ContainerName, VmId};
use onedock_tests::engine_server::{Options, PrivateEngine};
use onedock_tests::registry_server::{RegistryServer, Setup};

const MIB: i64 = 1 << 20;

const LIMITS: Limits = Limits {
    cpu_shares: 512,
    cpu_quota_us: 0,
    memory: 64 * MIB,
    swap: 0,
    pids: 512,
};

struct Host {
    engine: PrivateEngine,
    docker: Docker,
    runtime: tokio::runtime::Runtime,
    image: String,
    _registry: RegistryServer,
}

impl Host {
    fn start() -> Result<Self> {
        let engine = PrivateEngine::start(Options::default())?;
        let registry = engine.inside(|| RegistryServer::start(&Setup::default()))?;
        let name = format!("{}/box:1", registry.address());
        engine.busybox(&name, &["CMD [\"sleep\", \"1000\"]"])?;
        engine.docker(&["push", "--quiet", &name])?;
        let digest = engine.docker(&["inspect", "-f", "{{index .RepoDigests 0}}", &name])?;
        Ok(Self {
            docker: Docker::at(engine.socket())?,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            image: format!("docker://{digest}"),
            engine,
            _registry: registry,
        })
    }

    /// A container that runs.
    fn vm(&self, vm: u32, cmd: &[&str], limits: Limits) -> Result<ContainerId> {
        let spec = CreateSpec {
            name: ContainerName::of(VmId::new(vm)),
            image: self.image.parse()?,
            hostname: "web".parse()?,
            labels: BTreeMap::new(),
            cmd: Some(cmd.iter().map(|word| (*word).to_owned()).collect()),
            runtime: "runc",
            terminal: false,
            no_volume_at: Vec::new(),
            limits,
            body: Default::default(),
            host: Default::default(),
            storage_mib: None,
        };
        let id = self.runtime.block_on(self.docker.create(&spec))?;
        self.runtime.block_on(self.docker.start(&id))?;
        Ok(id)
    }

    fn inspected(&self, id: &ContainerId, what: &str) -> Result<String> {
        let format = format!("{{{{{what}}}}}");
        self.engine.docker(&["inspect", "-f", &format, id.as_str()])
    }

    fn is_running(&self, id: &ContainerId) -> Result<bool> {
        Ok(self.inspected(id, ".State.Running")? == "true")
    }

    /// Memory and swap together, as the kernel bounds them; `None` on a kernel that bounds no swap.
    fn memory_and_swap(&self, id: &ContainerId) -> Result<Option<i64>> {
        let pid = self.inspected(id, ".State.Pid")?;
        self.engine.inside(move || {
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
            let of = |names: &str| {
                let line = groups.lines().find(|line| {
                    let mut parts = line.split(':').skip(1);
                    parts
                        .next()
                        .is_some_and(|n| n.split(',').any(|n| n == names))
                });
                line.and_then(|line| line.splitn(3, ':').nth(2))
            };
            let value = |path: String| -> Result<Option<i64>> {
                match fs::read_to_string(path) {
                    Err(_) => Ok(None),
                    Ok(text) => Ok(Some(text.trim().parse()?)),
                }
            };
            match of("memory") {
                Some(path) => value(format!(
                    "/sys/fs/cgroup/memory{path}/memory.memsw.limit_in_bytes"
                )),
                None => {
                    let folder = format!("/sys/fs/cgroup{}", of("").context("no cgroup")?);
                    let memory = value(format!("{folder}/memory.max"))?;
                    let swap = value(format!("{folder}/memory.swap.max"))?;
                    Ok(memory.zip(swap).map(|(memory, swap)| memory + swap))
                }
            }
        })
    }
}

/// A question that has to be answered with yes in the end.
fn soon(what: &str, mut question: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !question()? {
        ensure!(begin.elapsed() < Duration::from_secs(20), "{what}");
        onedock_common::wait::pause(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn fault_48_a_renamed_container_is_found_by_its_labels_and_no_other_vm_s() -> Result<()> {
    let host = Host::start()?;
    let make = |name: &str, driver: &str, vm: &str| {
        let (driver, vm) = (
            format!("{}={driver}", labels::DRIVER),
            format!("{}={vm}", labels::VM),
        );
        let image = host.image.trim_start_matches("docker://");
        let words = [
            "create", "--name", name, "--label", &driver, "--label", &vm, image,
        ];
        host.engine.docker(&words)
    };
    let id = make("renamed", labels::ONEDOCK, "5")?;
    make("one-6", labels::ONEDOCK, "6")?;
    make("another", "docker", "5")?;
    make("one-5", "docker", "5")?;
    let found = |vm| host.runtime.block_on(own(&host.docker, VmId::new(vm)));
    let found_id = |vm| anyhow::Ok(found(vm)?.map(|container| container.id.to_string()));
    ensure!(found_id(5)? == Some(id), "{:?}", found_id(5)?);
    ensure!(found_id(55)?.is_none(), "{:?}", found_id(55)?);
    Ok(())
}

#[test]
fn a_vm_has_no_more_swap_than_its_swap_disks_when_it_is_made_and_when_it_is_resized() -> Result<()>
{
    let host = Host::start()?;
    let bounds = |id: &ContainerId| -> Result<(String, Option<i64>)> {
        let of_the_engine = host.inspected(id, ".HostConfig.MemorySwap")?;
        Ok((of_the_engine, host.memory_and_swap(id)?))
    };
    for (vm, swap) in [(1, 0), (2, 32 * MIB)] {
        let limits = Limits { swap, ..LIMITS };
        let id = host.vm(vm, &["sleep", "1000"], limits)?;
        let together = limits.memory + swap;
        let (engine, kernel) = bounds(&id)?;
        ensure!(engine == together.to_string(), "{engine}");
        ensure!(kernel.is_none_or(|bytes| bytes == together), "{kernel:?}");
        for memory in [128 * MIB, 48 * MIB] {
            let more = Limits { memory, ..limits };
            let resized = host.docker.limit(&id, limits, more);
            host.runtime.block_on(resized)?;
            let (engine, kernel) = bounds(&id)?;
            ensure!(engine == (memory + swap).to_string(), "{engine}");
            ensure!(
                kernel.is_none_or(|bytes| bytes == memory + swap),
                "{kernel:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_vm_has_no_network_of_the_engine_s_and_is_revived_by_nobody() -> Result<()> {
    let host = Host::start()?;
    let id = host.vm(1, &["sleep", "1000"], LIMITS)?;
    let links = host.engine.docker(&["exec", id.as_str(), "ip", "link"])?;
    let others = links
        .lines()
        .filter(|line| line.contains(": <") && !line.contains(" lo:"));
    let others: Vec<_> = others.collect();
    ensure!(others.is_empty(), "{others:?}");
    // The engine of this test has no network that it could be on instead.
    let network = host.inspected(&id, ".HostConfig.NetworkMode")?;
    ensure!(network == "none", "{network}");
    let pid = host.inspected(&id, ".State.Pid")?;
    host.engine.run("kill", &["-KILL", &pid])?;
    soon("it still runs", || Ok(!host.is_running(&id)?))?;
    ensure!(
        host.inspected(&id, ".RestartCount")? == "0"
            && host.inspected(&id, ".HostConfig.RestartPolicy.Name")? == "no",
        "it was started again"
    );
    Ok(())
}

/// A tenant's output must not fill the host's disk.
#[test]
fn of_a_vm_s_output_the_engine_keeps_20_mb_at_most() -> Result<()> {
    let host = Host::start()?;
    let write = "busybox head -c 45000000 /dev/zero | busybox tr '\\0' x";
    let id = host.vm(1, &["sh", "-c", write], LIMITS)?;
    soon("it does not end", || Ok(!host.is_running(&id)?))?;
    let log = host.inspected(&id, ".LogPath")?;
    let folder = std::path::Path::new(&log).parent().context("no folder")?;
    let kept = host.engine.inside(|| {
        let mut bytes = 0;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().contains("-json.log") {
                bytes += entry.metadata()?.len();
            }
        }
        Ok(bytes)
    })?;
    ensure!((1_000_000..=21_000_000).contains(&kept), "{kept} bytes");
    Ok(())
}
