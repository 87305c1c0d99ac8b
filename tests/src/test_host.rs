//! A host of a test's own: an engine that runs containers by the `onedock-runtime` under test, in
//! front of runc or crun.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use onedock_common::state::boot::{BootSpec, FirstProcess, Nic, VERSION, boot_id};
use onedock_common::state::paths::Paths;
use onedock_common::types::nic::{Autoconf, BridgeKind};
use onedock_common::{ContainerId, NicId, VmId};
use serde::Serialize;
use serde_json::Value;

use crate::engine_server::{Options, PrivateEngine};

/// The runtimes that `onedock-runtime` may stand in front of.
pub const RUNC: &str = "/usr/sbin/runc";
/// The other one.
pub const CRUN: &str = "/usr/bin/crun";
/// Both.
pub const RUNTIMES: [&str; 2] = [RUNC, CRUN];

/// The image that every host has: busybox, which sleeps.
pub const IMAGE: &str = "box:1";
/// The bridge of [`TestHost::add_bridge`].
pub const BRIDGE: &str = "onebr0";

/// The host; all that runs on it ends with it.
#[derive(Debug)]
pub struct TestHost {
    /// Its engine, with the machine.
    pub engine: PrivateEngine,
}

impl TestHost {
    /// Starts an engine with this `onedock-runtime` in front of `behind`, and further arguments of
    /// `dockerd`.
    pub fn start(runtime: impl Into<PathBuf>, behind: &str, arguments: &[&str]) -> Result<Self> {
        let engine = PrivateEngine::start(Options {
            runtime: Some(runtime.into()),
            behind: Some(behind.into()),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
        })?;
        engine.busybox(IMAGE, &["CMD [\"/bin/sleep\", \"1000\"]"])?;
        Ok(Self { engine })
    }

    /// Makes [`BRIDGE`], with an MTU of 1450 and the addresses 10.77.0.1/24 and fd77::1/64.
    pub fn add_bridge(&self) -> Result<()> {
        for command in [
            format!("link add {BRIDGE} type bridge"),
            format!("link set {BRIDGE} mtu 1450 up"),
            format!("address add 10.77.0.1/24 dev {BRIDGE}"),
            format!("address add fd77::1/64 dev {BRIDGE} nodad"),
        ] {
            let words: Vec<&str> = command.split(' ').collect();
            self.engine.run("ip", &words)?;
        }
        Ok(())
    }

    /// Creates a container as `deploy` does: without a network, by the runtime under test. A command
    /// may follow the image, behind a blank.
    pub fn create(&self, options: &[&str], image: &str) -> Result<ContainerId> {
        let fixed = ["create", "--network=none", "--runtime=onedock"];
        let image: Vec<&str> = image.split(' ').collect();
        let arguments = [&fixed, options, &image].concat();
        Ok(self.engine.docker(&arguments)?.parse()?)
    }

    /// Writes the boot spec of a container's next start.
    pub fn write_boot_spec(&self, id: &ContainerId, spec: &BootSpec) -> Result<()> {
        self.engine.inside(|| Ok(spec.write(&Paths::system(), id)?))
    }

    /// Creates and starts a VM of [`IMAGE`].
    pub fn start_vm(&self, spec: &BootSpec) -> Result<ContainerId> {
        let name = format!("one-{}", spec.vm);
        let id = self.create(&["--name", &name], IMAGE)?;
        self.write_boot_spec(&id, spec)?;
        self.start_container(&id)?;
        Ok(id)
    }

    /// Starts a container.
    pub fn start_container(&self, id: &ContainerId) -> Result<()> {
        self.engine.docker(&["start", id.as_str()]).map(drop)
    }

    /// Starts a container, and kills the runtime's own call `start` so long after its beginning.
    pub fn start_killed(&self, id: &ContainerId, after: Duration) -> Result<()> {
        let own = format!("start {id}").replace(' ', "\0");
        self.engine.inside(|| {
            let mut child = Command::new("docker")
                .args(["start", id.as_str()])
                .env("DOCKER_HOST", self.engine.docker_host())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            let begin = Instant::now();
            let mut killed = false;
            while !killed
                && child.try_wait()?.is_none()
                && begin.elapsed() < Duration::from_secs(10)
            {
                for entry in fs::read_dir("/proc")?.flatten() {
                    let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    let command = String::from_utf8_lossy(&command);
                    let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
                        continue;
                    };
                    if command.contains("onedock-runtime\0") && command.contains(&own) {
                        let seen = Instant::now();
                        while seen.elapsed() < after {
                            std::thread::yield_now();
                        }
                        let pid = nix::unistd::Pid::from_raw(pid);
                        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
                        killed = true;
                    }
                }
            }
            child.wait()?;
            Ok(())
        })
    }

    /// Gives the privileged helper `program` a request; its error is its one line.
    pub fn request(&self, program: &str, request: &impl Serialize) -> Result<()> {
        let text = serde_json::to_vec(request)?;
        self.engine.inside(|| {
            let mut child = Command::new(program)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            let mut stdin = child.stdin.take().context("no standard input")?;
            stdin.write_all(&text)?;
            drop(stdin);
            let output = child.wait_with_output()?;
            let error = String::from_utf8_lossy(&output.stderr);
            if !output.status.success() {
                ensure!(error.lines().count() == 1, "{error}");
                bail!("{}", error.trim());
            }
            ensure!(output.stdout.starts_with(b"{\"done\":true"), "{output:?}");
            Ok(())
        })
    }

    /// The error of a start that has to fail, as the user reads it.
    pub fn refused_start(&self, id: &ContainerId) -> Result<String> {
        let output = self.engine.output("docker", &["start", id.as_str()])?;
        ensure!(!output.status.success(), "the start was not refused");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Lets the runtime record the layers of a container that never runs.
    pub fn record(&self, id: &ContainerId) -> Result<()> {
        let mut spec = boot_spec(1)?;
        spec.first = FirstProcess::Never;
        spec.args.clear();
        self.write_boot_spec(id, &spec)?;
        let refused = self.refused_start(id)?;
        ensure!(
            refused.contains("the container is a disk of VM 1, and runs nothing"),
            "{refused}"
        );
        Ok(())
    }

    /// The folder with what the container has changed, as the runtime has recorded it.
    pub fn upper(&self, id: &ContainerId) -> Result<PathBuf> {
        let record = self.document(&Paths::system().layer_record(id))?;
        Ok(record["upper"].as_str().context("no layer")?.into())
    }

    /// Where the engine has mounted the root of a running VM.
    pub fn root(&self, id: &ContainerId) -> Result<PathBuf> {
        let record = Path::new("/run/onedock/containers").join(format!("{id}.json"));
        let record = self.document(&record)?;
        Ok(record["vm"]["root"].as_str().context("no root")?.into())
    }

    fn document(&self, path: &Path) -> Result<Value> {
        let bytes = self.engine.inside(|| Ok(fs::read(path)?))?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Whether the container's first process runs.
    pub fn is_running(&self, id: &ContainerId) -> Result<bool> {
        let arguments = ["inspect", "-f", "{{.State.Running}}", id.as_str()];
        Ok(self.engine.docker(&arguments)? == "true")
    }

    /// Runs words in the container.
    pub fn exec(&self, id: &ContainerId, words: &str) -> Result<String> {
        let mut arguments = vec!["exec", id.as_str()];
        arguments.extend(words.split(' '));
        self.engine.docker(&arguments)
    }

    /// Runs a shell script in the container.
    pub fn sh(&self, id: &ContainerId, script: &str) -> Result<String> {
        self.engine
            .docker(&["exec", id.as_str(), "/bin/busybox", "sh", "-c", script])
    }
}

/// The least that a VM starts with: `/bin/sleep` under the name `web<vm>`.
pub fn boot_spec(vm: u32) -> Result<BootSpec> {
    Ok(BootSpec {
        version: VERSION,
        vm: VmId::new(vm),
        boot_id: boot_id()?,
        hostname: format!("web{vm}").parse()?,
        args: vec!["/bin/sleep".into(), "1000".into()],
        first: FirstProcess::Command,
        give_way: false,
        nics: Vec::new(),
        dns: Vec::new(),
        search: Vec::new(),
        dns_options: Vec::new(),
        hosts: Vec::new(),
        domain: None,
        cpus: None,
        memory_nodes: None,
        drop_capabilities: Vec::new(),
        environment: Vec::new(),
        context: None,
        volumes: Vec::new(),
        disks: Vec::new(),
    })
}

/// A NIC of a VM on [`BRIDGE`], with one address.
pub fn nic(vm: u32, id: u32, address: &str) -> Result<Nic> {
    let mut nic = Nic {
        id: NicId::new(id),
        host: format!("one-{vm}-{id}").parse()?,
        bridge: BRIDGE.parse()?,
        mac: format!("02:00:0a:4d:{id:02x}:{vm:02x}").parse()?,
        mtu: None,
        addresses: vec![address.parse()?],
        gateway: None,
        gateway6: None,
        metric: None,
        metric6: None,
        bridge_kind: BridgeKind::Linux,
        vlan: None,
        routes: Vec::new(),
        autoconf: Autoconf::Kernel,
        leases: Vec::new(),
        inbound: None,
        outbound: None,
    };
    nic.leases = nic.addresses.iter().map(|own| own.ip()).collect();
    Ok(nic)
}
