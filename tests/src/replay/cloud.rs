//! The machines of a replay: a front-end and two nodes that share a network, each with its own
//! mount namespace, host name, ssh daemon and, on the nodes, engine; with the drivers installed as
//! an administrator installs them, at the paths of the recording.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};

use super::installation;
use super::programs;
use super::recording::Recording;
use super::ssh::Keys;
use crate::engine_server::{Options, PrivateEngine};
use crate::machine::{Machine, Setting};
use crate::registry_server::{RegistryServer, Setup};

/// The bridge of the recorded networks, and its address.
pub const BRIDGE: &str = "onebr0";
const BRIDGE_ADDRESS: &str = "10.77.0.1/24";

/// The hosts of the recording.
pub const NODES: [&str; 2] = ["node1", "node2"];

/// The user that drivers run as.
#[derive(Debug, Clone, Copy)]
pub struct Oneadmin {
    pub uid: u32,
    /// Its own group.
    pub gid: u32,
}

/// A host of the cloud.
#[derive(Debug)]
pub struct Node {
    /// Its name in the recordings.
    pub name: &'static str,
    /// The folder of its datastores lies in it.
    pub var: PathBuf,
    /// Its engine, with the machine.
    pub engine: PrivateEngine,
}

/// All machines. Dropping it ends everything on them.
#[derive(Debug)]
pub struct Cloud {
    /// What is replayed.
    pub recording: Recording,
    /// The front-end's state folder.
    pub var: PathBuf,
    /// Who the drivers run as.
    pub oneadmin: Oneadmin,
    /// The private registry.
    pub registry: RegistryServer,
    /// Stands for Docker Hub.
    pub hub: RegistryServer,
    /// The hosts, as in [`NODES`].
    pub nodes: [Node; 2],
    /// The front-end; last, because the registries run there and all share its network.
    pub front: Machine,
}

impl Cloud {
    /// Makes everything for one release, with containers run by the runtime at `behind`.
    pub fn start(release: &str, behind: &str) -> Result<Self> {
        let recording = Recording::read(release)?;
        let var = recording.var()?;
        let programs = programs::folder()?;
        let front = Machine::start(Setting {
            name: Some("vm".into()),
            network: None,
        })?;
        let nodes = start_nodes(&front, behind, &var)?;
        run(&front, "ip", &["link", "add", BRIDGE, "type", "bridge"])?;
        run(&front, "ip", &["link", "set", BRIDGE, "mtu", "1450", "up"])?;
        run(
            &front,
            "ip",
            &["address", "add", BRIDGE_ADDRESS, "dev", BRIDGE],
        )?;
        // Docker's own policy, which hides what a bridge would do without it.
        run(&front, "iptables", &["-P", "FORWARD", "DROP"])?;
        let keys = Keys::make(&front.folder().join("keys"))?;
        let remotes = front.folder().join("remotes");
        fs::create_dir(&remotes)?;
        let (registry, hub, oneadmin) = front.inside(|| {
            installation::own_folders()?;
            let registry = RegistryServer::start(&Setup::closed())?;
            let hub = RegistryServer::start(&Setup::default())?;
            let oneadmin = installation::accounts(&var)?;
            installation::state(oneadmin)?;
            installation::bind(&remotes, &var.join("remotes"))?;
            std::os::unix::fs::chown(&remotes, Some(oneadmin.uid), Some(oneadmin.gid))?;
            installation::trust(&registry, oneadmin)?;
            installation::storage(&registry)?;
            installation::front_end(&recording, &var, oneadmin)?;
            Ok((registry, hub, oneadmin))
        })?;
        keys.bring(&front, "vm", oneadmin)?;
        for node in &nodes {
            node.engine.inside(|| {
                installation::own_folders()?;
                installation::accounts(&var)?;
                installation::node(programs, oneadmin)?;
                installation::trust(&registry, oneadmin)?;
                // The same files at both places; a copy would only cost memory.
                fs::create_dir("/var/tmp/one")?;
                installation::bind(&remotes, Path::new("/var/tmp/one"))
            })?;
            keys.bring(node.engine.machine(), node.name, oneadmin)?;
        }
        let cloud = Self {
            recording,
            var,
            oneadmin,
            registry,
            hub,
            nodes,
            front,
        };
        cloud.install(programs)?;
        cloud.fill_hub()?;
        Ok(cloud)
    }

    /// The host of this name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        let found = self.nodes.iter().find(|node| node.name == name);
        found.with_context(|| format!("no host {name}"))
    }

    /// The machine of this name, `vm` being the front-end.
    pub fn machine(&self, name: &str) -> Result<&Machine> {
        if name == "vm" {
            return Ok(&self.front);
        }
        Ok(self.node(name)?.engine.machine())
    }

    /// `onedock setup frontend`, then what an administrator adds to `onedock.conf`.
    fn install(&self, programs: &Path) -> Result<()> {
        let program = programs.join("onedock");
        let (program, from) = (text(&program)?, text(programs)?);
        let address = self.registry.address();
        let mut words = vec![
            "setup",
            "frontend",
            "--from",
            from,
            "--registry",
            address.as_str(),
        ];
        let location = self.recording.one_location();
        if let Some(location) = &location {
            words.extend(["--one-location", text(location)?]);
        }
        run(&self.front, program, &words)?;
        let path = self.front.folder().join("remotes/onedock.conf");
        let mut conf = fs::read_to_string(&path)
            .with_context(|| format!("setup frontend made no {}", path.display()))?;
        conf += &format!(
            "\nONEDOCK_REGISTRY_MIRRORS=\"docker.io=http://{}\"\n",
            self.hub.address()
        );
        Ok(fs::write(&path, conf)?)
    }
}

/// Both at once: most of it is waiting for the engines.
fn start_nodes(front: &Machine, behind: &str, var: &Path) -> Result<[Node; 2]> {
    let start = |name: &'static str| -> Result<Node> {
        let setting = Setting {
            name: Some(name.to_owned()),
            network: Some(Arc::clone(&front.network())),
        };
        let engine = PrivateEngine::start_on(
            setting,
            Options {
                runtime: Some(Path::new(installation::ROOT_FOLDER).join("onedock-runtime")),
                behind: Some(behind.into()),
                arguments: ["-H", "unix:///var/run/docker.sock"]
                    .map(str::to_owned)
                    .to_vec(),
            },
        )?;
        Ok(Node {
            name,
            var: var.to_owned(),
            engine,
        })
    };
    thread::scope(|scope| {
        let [first, second] = NODES.map(|name| scope.spawn(move || start(name)));
        let got = |thread: thread::ScopedJoinHandle<'_, Result<Node>>| {
            thread.join().map_err(|_| anyhow!("a start has panicked"))?
        };
        Ok([got(first)?, got(second)?])
    })
}

/// Runs a program on a machine; it must succeed. Returns its standard output.
pub fn run(machine: &Machine, program: &str, words: &[&str]) -> Result<String> {
    let output = machine.inside(|| {
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null());
        command
            .output()
            .with_context(|| format!("{program} cannot be run"))
    })?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {} failed: {}",
        words.join(" "),
        stderr.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not text")
}
