//! Deploy until the address answers, against `docker run -d` until its address answers.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onedock_common::DiskId;
use onedock_common::engine::{CreateSpec, Docker, Engine as _, Limits};
use onedock_common::opennebula::oned::vm::Nic;
use onedock_common::state::boot::BootSpec;
use onedock_common::state::descriptor::{self, Descriptor};
use onedock_common::state::paths::Paths;
use onedock_common::state::vm_folder;
use onedock_common::types::reference::Source;
use onedock_common::types::system_datastore::SystemDatastore;
use onedock_common::{ContainerName, VmId};
use onedock_tests::engine_server::{Options, PrivateEngine};
use onedock_tests::registry_server::{RegistryServer, Setup};
use onedock_tests::test_host;

use crate::measure::{Times, versions};

/// Pairs that count, after one that does not.
const PAIRS: u32 = 20;
const IMAGE: &str = "bench/web";

struct Bench<'a> {
    engine: &'a PrivateEngine,
    programs: &'a Path,
    log: PathBuf,
    source: Source,
}

/// What one deploy took.
struct Deployed {
    answered: Duration,
    process: Duration,
    calls: usize,
    memory_kib: u64,
}

pub(crate) fn bench(programs: &Path, behind: &Path) -> Result<()> {
    let options = Options {
        runtime: Some(programs.join("onedock-runtime")),
        behind: Some(behind.to_owned()),
        // As Docker comes: with its rules, so that neither side is spared what users have.
        arguments: vec!["--iptables=true".into()],
    };
    let engine = PrivateEngine::start(options)?;
    let bench = Bench::prepare(&engine, programs)?;
    let (mut peer, mut ours, mut process, mut floor) = (
        Times::default(),
        Times::default(),
        Times::default(),
        Times::default(),
    );
    let (mut calls, mut memory) = (0, 0);
    for turn in 0..=PAIRS {
        let docker_run = bench.docker_run(turn)?;
        let deployed = bench.deploy(turn)?;
        let create_and_start = bench.create_and_start(turn)?;
        if turn == 0 {
            continue;
        }
        peer.add(docker_run);
        ours.add(deployed.answered);
        process.add(deployed.process);
        floor.add(create_and_start);
        calls = calls.max(deployed.calls);
        memory = memory.max(deployed.memory_kib);
    }
    let watch = 20.0;
    println!(
        "\ndeploy, one NIC, image staged, with {} ({PAIRS} pairs in turns)",
        versions(&engine, behind)?
    );
    println!(
        "  docker run -d on a bridge, until it answers   {}",
        peer.row()
    );
    println!(
        "  deploy, until its address answers             {}",
        ours.row()
    );
    println!(
        "  ratio of the medians                          {:7.2}",
        ours.median() / peer.median()
    );
    println!(
        "  the engine's create + start alone, same runtime {}",
        floor.row()
    );
    println!(
        "  the driver's process, its {watch} ms of watching included {}",
        process.row()
    );
    println!(
        "  what the driver adds to create + start        {:7.1} ms",
        process.median() - watch - floor.median()
    );
    println!("  the driver's calls of the engine              {calls:5}");
    println!(
        "  the driver's memory at its peak               {:7.1} MiB",
        memory as f64 / 1024.0
    );
    Ok(())
}

impl<'a> Bench<'a> {
    fn prepare(engine: &'a PrivateEngine, programs: &'a Path) -> Result<Self> {
        engine.busybox(IMAGE, &["CMD [\"/bin/httpd\", \"-f\", \"-p\", \"80\"]"])?;
        let name = "com.docker.network.bridge.name=peer0";
        engine.docker(&[
            "network",
            "create",
            "--subnet",
            "10.210.0.0/16",
            "-o",
            name,
            "peer",
        ])?;
        for words in [
            &["link", "add", "onebr0", "type", "bridge"][..],
            &["link", "set", "onebr0", "up"],
            &["addr", "add", "10.77.0.1/24", "dev", "onebr0"],
        ] {
            engine.run("ip", words)?;
        }
        // The kernel resolves an address that does not answer yet again only after a second; here
        // it does so every few milliseconds, for both sides.
        for bridge in ["peer0", "onebr0"] {
            let file = format!("net.ipv4.neigh.{bridge}.retrans_time_ms=2");
            engine.run("sysctl", &["-q", "-w", &file])?;
        }
        // The driver names images by digest, and only a registry gives an image one.
        let registry = engine.inside(|| RegistryServer::start(&Setup::default()))?;
        let name = format!("{}/{IMAGE}", registry.name());
        engine.docker(&["tag", IMAGE, &name])?;
        engine.docker(&["push", &name])?;
        let pinned = engine.docker(&[
            "image",
            "inspect",
            "--format",
            "{{index .RepoDigests 0}}",
            &name,
        ])?;
        let source = format!("docker://{pinned}").parse()?;
        fs::write(
            engine.folder().join("onedock.conf"),
            "# Every key has its default.\n",
        )?;
        Ok(Self {
            engine,
            programs,
            log: engine.folder().join("driver.log"),
            source,
        })
    }

    /// `docker run -d` with an address of its own, until port 80 answers; the container goes after.
    fn docker_run(&self, turn: u32) -> Result<Duration> {
        let address = Ipv4Addr::new(10, 210, 1, u8::try_from(turn)?.saturating_add(2));
        let begin = Instant::now();
        let id = self.engine.docker(&[
            "run",
            "-d",
            "--network",
            "peer",
            "--ip",
            &address.to_string(),
            IMAGE,
        ])?;
        self.answers(address)?;
        let took = begin.elapsed();
        self.engine.docker(&["rm", "-f", &id])?;
        Ok(took)
    }

    /// The engine's own part: a container made and started by the same runtime, without a NIC.
    fn create_and_start(&self, turn: u32) -> Result<Duration> {
        let spec = CreateSpec {
            name: ContainerName::of(VmId::new(900_000 + turn)),
            image: self.source.clone(),
            hostname: "floor".parse()?,
            labels: BTreeMap::new(),
            cmd: None,
            runtime: "onedock",
            terminal: false,
            no_volume_at: Vec::new(),
            limits: Limits {
                cpu_shares: 1024,
                cpu_quota_us: 0,
                memory: 64 << 20,
                swap: 0,
                pids: 0,
            },
            body: Default::default(),
            host: Default::default(),
            storage_mib: None,
        };
        let docker = Docker::at(self.engine.socket())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let begin = Instant::now();
            let id = docker.create(&spec).await?;
            let created = begin.elapsed();
            // With a boot spec the runtime spares the engine's network hook, as in a deploy.
            self.engine
                .inside(|| Ok(boot_spec(&spec)?.write(&Paths::system(), &id)?))?;
            let begin = Instant::now();
            docker.start(&id).await?;
            let took = created + begin.elapsed();
            docker.remove(&id).await?;
            self.engine
                .inside(|| Ok(BootSpec::remove(&Paths::system(), &id)?))?;
            Ok(took)
        })
    }

    fn deploy(&self, turn: u32) -> Result<Deployed> {
        let vm = 1000 + turn;
        let address = Ipv4Addr::new(10, 77, 0, u8::try_from(turn)?.saturating_add(2));
        let system_dir = self.engine.folder().join(format!("datastores/0/{vm}"));
        self.stage(vm, &system_dir)?;
        let document = document(vm, address)?;
        let _ = fs::remove_file(&self.log);

        let begin = Instant::now();
        let mut child = self.engine.inside(|| {
            let mut child = Command::new(std::env::current_exe()?)
                .arg("memory-of")
                .arg(self.programs.join("onedock-vmm"))
                .arg("deploy")
                .arg(system_dir.join("deployment.0"))
                .args(["localhost", &vm.to_string(), "localhost"])
                .env("DOCKER_HOST", self.engine.docker_host())
                .env("ONEDOCK_CONF", self.engine.folder().join("onedock.conf"))
                .env("ONEDOCK_LOGFILE", &self.log)
                .env("ONEDOCK_LOG", "onedock_common=debug")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            child
                .stdin
                .take()
                .context("no standard input")?
                .write_all(document.as_bytes())?;
            Ok(child)
        })?;
        let answered = self.answers(address).map(|()| begin.elapsed());
        let output = child_output(&mut child)?;
        let process = begin.elapsed();
        let answered = answered.with_context(|| format!("the driver wrote: {output}"))?;
        ensure!(
            output.starts_with(&format!("one-{vm}\n")),
            "deploy answered {output}"
        );
        let memory_kib = output
            .lines()
            .last()
            .and_then(|l| l.parse().ok())
            .context("no memory figure")?;
        let calls = fs::read_to_string(&self.log)?
            .lines()
            .filter(|l| l.contains("call="))
            .count();
        self.engine
            .docker(&["rm", "-f", "-v", &format!("one-{vm}")])?;
        fs::remove_dir_all(&system_dir)?;
        Ok(Deployed {
            answered,
            process,
            calls,
            memory_kib,
        })
    }

    /// What `clone` leaves.
    fn stage(&self, vm: u32, system_dir: &Path) -> Result<()> {
        vm_folder::prepare(system_dir, SystemDatastore::Onedock)?;
        let descriptor = Descriptor {
            version: descriptor::VERSION,
            vm: VmId::new(vm),
            disk: DiskId::new(0),
            image: self.source.clone(),
            source: self.source.clone(),
            image_config: None,
            persistent: false,
            dockerrun: None,
            container: None,
            snapshots: Vec::new(),
        };
        descriptor.write(&system_dir.join("disk.0"))?;
        Ok(())
    }

    fn answers(&self, address: Ipv4Addr) -> Result<()> {
        self.engine.inside(|| {
            let to = SocketAddr::from((address, 80));
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_secs(10) {
                if TcpStream::connect_timeout(&to, Duration::from_millis(5)).is_ok() {
                    return Ok(());
                }
                onedock_common::wait::pause(Duration::from_millis(1));
            }
            anyhow::bail!("{to} did not answer within 10 s")
        })
    }
}

/// A start without a NIC.
fn boot_spec(spec: &CreateSpec) -> Result<BootSpec> {
    Ok(BootSpec {
        hostname: spec.hostname.clone(),
        args: ["/bin/httpd", "-f", "-p", "80"].map(str::to_owned).to_vec(),
        ..test_host::boot_spec(spec.name.vm().get())?
    })
}

fn child_output(child: &mut std::process::Child) -> Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    if let Some(out) = &mut child.stdout {
        out.read_to_string(&mut text)?;
    }
    ensure!(child.wait()?.success(), "deploy failed: {text}");
    Ok(text)
}

/// A VM with one disk and one NIC.
fn document(vm: u32, address: Ipv4Addr) -> Result<String> {
    let nic = Nic {
        vm: VmId::new(vm),
        number: 0,
        bridge: &"onebr0".parse()?,
        ip: Some(address),
        mask: None,
        mac: None,
    };
    let source = "docker://localhost:5000/bench/web";
    Ok(crate::document::vm(
        vm,
        "64",
        source,
        vec![nic.attributes()],
    ))
}
