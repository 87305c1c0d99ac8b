//! Two hosts with an engine each, on one network, that reach one another over ssh, and a registry.
//! The first is the front-end as well.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use onedock_common::state::descriptor::Descriptor;
use onedock_common::state::paths::Paths;
use onedock_tests::engine_server::{Options, PrivateEngine};
use onedock_tests::machine::Setting;
use onedock_tests::registry_server::{RegistryServer, Setup};
use onedock_tests::test_host::{CRUN, boot_spec};

use crate::PROGRAM;
use crate::sshd::{self, Server};

/// Where the VMs' folders are.
pub(crate) const DATASTORE: &str = "/var/lib/one/datastores/101";

/// The hosts. Dropping it ends all of it.
pub(crate) struct Hosts {
    pub(crate) registry: RegistryServer,
    pub(crate) node1: PrivateEngine,
    pub(crate) node2: PrivateEngine,
    /// Two cores are for one bed at a time.
    _alone: MutexGuard<'static, ()>,
}

impl Hosts {
    pub(crate) fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same with further arguments for the first host's engine.
    pub(crate) fn start_with(arguments: &[&str]) -> Result<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let helper = helper()?;
        let setting = Setting {
            name: Some("node1".to_owned()),
            network: None,
        };
        let options = |arguments: &[&str]| Options {
            runtime: Some(helper.with_file_name("onedock-runtime")),
            behind: Some(CRUN.into()),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        };
        let node1 = PrivateEngine::start_on(setting, options(arguments))?;
        let setting = Setting {
            name: Some("node2".to_owned()),
            network: Some(node1.machine().network()),
        };
        let node2 = PrivateEngine::start_on(setting, options(&[]))?;
        let registry = node1.inside(|| RegistryServer::start(&Setup::default()))?;
        let key = sshd::key(node1.folder())?;
        for (host, address) in [(&node1, "127.0.0.3"), (&node2, "127.0.0.2")] {
            prepare(host, address, &key, &helper)?;
        }
        let hosts = Self {
            registry,
            node1,
            node2,
            _alone: alone,
        };
        hosts.listening()?;
        Ok(hosts)
    }

    fn listening(&self) -> Result<()> {
        for _ in 0..600 {
            let both = ["node2", "other-name"].iter().all(|name| {
                self.node1
                    .output("ssh", &[name, "true"])
                    .is_ok_and(|o| o.status.success())
            });
            if both {
                return Ok(());
            }
            onedock_common::wait::pause(std::time::Duration::from_millis(50));
        }
        bail!("sshd does not answer")
    }

    /// A script of the transfer manager, as `one_tm` runs it on the front-end.
    pub(crate) fn tm(&self, words: &str) -> Result<String> {
        let output = self.node1.inside(|| {
            let mut command = Command::new(PROGRAM);
            command.args(words.split(' ')).stdin(Stdio::null());
            for (name, value) in environment(&self.node1) {
                command.env(name, value);
            }
            Ok(command.output()?)
        })?;
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        ensure!(output.status.success(), "{stderr}");
        ensure!(stderr.is_empty(), "{words} wrote: {stderr}");
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// What a script that must fail says, which is one line.
    pub(crate) fn refused(&self, words: &str) -> Result<String> {
        match self.tm(words) {
            Ok(_) => bail!("{words} did not fail"),
            Err(e) => {
                let line = e.to_string();
                ensure!(line.lines().count() == 1, "{line}");
                Ok(line)
            }
        }
    }

    /// An image in the registry; its SOURCE.
    pub(crate) fn image(&self, id: u32) -> Result<String> {
        self.image_at(&self.registry.address(), id)
    }

    /// The same by another name of the registry.
    pub(crate) fn image_at(&self, registry: &str, id: u32) -> Result<String> {
        let name = format!("{registry}/onedock/img-{id}:latest");
        self.node1.busybox(&name, &["CMD [\"sleep\", \"1000\"]"])?;
        self.node1.docker(&["push", "--quiet", &name])?;
        let words = ["inspect", "-f", "{{index .RepoDigests 0}}", &name];
        let source = format!("docker://{}", self.node1.docker(&words)?);
        self.node1.docker(&["rmi", &name])?;
        Ok(source)
    }

    /// The tags of an image.
    pub(crate) fn tags(&self, id: u32) -> Vec<String> {
        let folder = self
            .registry
            .storage()
            .join(format!("repositories/onedock/img-{id}/_manifests/tags"));
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut tags: Vec<String> = entries
            .filter(|e| e.path().join("current/link").exists())
            .filter_map(|e| e.file_name().into_string().ok())
            .collect();
        tags.sort();
        tags
    }
}

/// Where a VM's disk or folder is.
pub(crate) fn folder(vm: u32) -> PathBuf {
    Path::new(DATASTORE).join(vm.to_string())
}

/// A descriptor on a host.
pub(crate) fn descriptor(host: &PrivateEngine, vm: u32) -> Result<Descriptor> {
    let path = folder(vm).join("disk.0");
    host.inside(|| Ok(Descriptor::read(&path)?))
}

/// What `deploy` does of it: makes the container that the descriptor lacks, and starts it.
pub(crate) fn deploy(host: &PrivateEngine, vm: u32) -> Result<()> {
    let path = folder(vm).join("disk.0");
    let mut found = descriptor(host, vm)?;
    if found.container.is_none() {
        let image = found.image.reference().to_string();
        let name = format!("one-{vm}");
        let labels = [
            "org.opennebula.driver=onedock".to_owned(),
            format!("org.opennebula.vm={vm}"),
            "org.opennebula.disk=0".to_owned(),
            format!("org.opennebula.source={}", found.image),
        ];
        let mut words = vec![
            "create",
            "--network",
            "none",
            "--runtime",
            "onedock",
            "--pull",
            "never",
            "--name",
            &name,
        ];
        for label in &labels {
            words.extend(["--label", label]);
        }
        words.push(&image);
        found.container = Some(host.docker(&words)?.parse()?);
        host.inside(|| Ok(found.write(&path)?))?;
    }
    if let Some(container) = &found.container {
        let spec = boot_spec(vm)?;
        host.inside(|| Ok(spec.write(&Paths::system(), container)?))?;
    }
    host.docker(&["start", &format!("one-{vm}")]).map(drop)
}

/// Runs a shell line in the VM.
pub(crate) fn exec(host: &PrivateEngine, vm: u32, line: &str) -> Result<String> {
    host.docker(&["exec", &format!("one-{vm}"), "sh", "-c", line])
}

/// Powers it off.
pub(crate) fn stop(host: &PrivateEngine, vm: u32) -> Result<()> {
    host.docker(&["kill", &format!("one-{vm}")]).map(drop)
}

/// Whether the host has a container of the VM.
pub(crate) fn has_container(host: &PrivateEngine, vm: u32) -> Result<bool> {
    let filter = format!("label=org.opennebula.vm={vm}");
    Ok(!host.docker(&["ps", "-aq", "--filter", &filter])?.is_empty())
}

/// The environment of the programs of a host.
fn environment(host: &PrivateEngine) -> [(&'static str, String); 2] {
    [
        ("DOCKER_HOST", format!("unix://{}", host.socket().display())),
        ("ONEDOCK_CONF", "/etc/onedock/onedock.conf".to_owned()),
    ]
}

fn prepare(host: &PrivateEngine, address: &str, key: &Path, helper: &Path) -> Result<()> {
    host.inside(|| {
        fs::create_dir_all("/usr/lib/onedock")?;
        fs::copy(helper, "/usr/lib/onedock/onedock-node")?;

        let log = "ONEDOCK_REGISTRY_AUTH=/none\n";
        fs::write("/etc/onedock/onedock.conf", log)?;
        fs::create_dir_all(DATASTORE)?;
        sshd::lay_drivers(PROGRAM)?;

        let names = "127.0.0.1 localhost node1\n127.0.0.2 node2\n127.0.0.3 other-name\n";
        fs::write("/etc/hosts", names)?;
        Ok(())
    })?;
    let server = Server {
        address,
        key,
        max_startups: "100",
        log: None,
    };
    server.start(host.machine(), &environment(host))
}

/// The program that root runs on hosts, beside the runtime; cargo builds no programs of other crates for a
/// test.
fn helper() -> Result<PathBuf> {
    let folder = Path::new(PROGRAM).parent().context("no target folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--locked",
            "-p",
            "onedock-node",
            "--bins",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env(
            "CARGO_TARGET_DIR",
            folder.parent().context("no target folder")?,
        )
        .stdin(Stdio::null())
        .output()?;
    ensure!(
        output.status.success(),
        "onedock-node does not build: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(folder.join("onedock-node"))
}
