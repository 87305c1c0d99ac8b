//! A Docker Engine on a machine of a test's own ([`crate::machine`]).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::machine::{Machine, Setting, pause, tied};

/// The longest that the engine may take to answer for the first time.
const LIMIT: Duration = Duration::from_secs(30);

/// How the engine is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The `onedock-runtime` to register as `onedock`.
    pub runtime: Option<PathBuf>,
    /// The real runtime behind it, written to `/etc/onedock/runtime`.
    pub behind: Option<PathBuf>,
    /// Further arguments of `dockerd`.
    pub arguments: Vec<String>,
}

/// A running engine. Dropping it ends the engine, its containers and all that still runs in its
/// namespaces, and removes its folders.
#[derive(Debug)]
pub struct PrivateEngine {
    socket: PathBuf,
    daemon: u32,
    machine: Machine,
}

impl PrivateEngine {
    /// Starts an engine and waits until it answers.
    pub fn start(options: Options) -> Result<Self> {
        Self::start_on(Setting::default(), options)
    }

    /// The same on a machine of a given kind.
    pub fn start_on(setting: Setting, options: Options) -> Result<Self> {
        let machine = Machine::start(setting)?;
        let folder = machine.folder().to_owned();
        let daemon = machine.keep(move || daemon(&folder, &options))?;
        let engine = Self {
            socket: machine.folder().join("docker.sock"),
            daemon,
            machine,
        };
        engine.wait_ready()?;
        Ok(engine)
    }

    /// The machine that it runs on.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The engine's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The daemon's process, by which other programs may enter its namespaces.
    pub fn daemon(&self) -> u32 {
        self.daemon
    }

    /// A folder of the test's own, removed with the engine.
    pub fn folder(&self) -> &Path {
        self.machine.folder()
    }

    /// The daemon's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.machine.folder().join("dockerd.log")).unwrap_or_default()
    }

    /// Works in the namespaces of the engine; programs started there live there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.machine.inside(work)
    }

    /// Runs a program in the namespaces of the engine, with its socket as DOCKER_HOST.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        self.inside(|| {
            let mut command = Command::new(program);
            command
                .args(arguments)
                .env("DOCKER_HOST", self.docker_host())
                // A login of a test is not the user's.
                .env("DOCKER_CONFIG", self.machine.folder().join("docker-config"))
                .stdin(Stdio::null());
            command
                .output()
                .with_context(|| format!("{program} cannot be run"))
        })
    }

    /// Runs a program that must succeed; answers its trimmed output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.output(program, arguments)?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!(
                "{program} {} failed: {}",
                arguments.join(" "),
                stderr.trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs the engine's command line, which must succeed.
    pub fn docker(&self, arguments: &[&str]) -> Result<String> {
        self.run("docker", arguments)
    }

    /// Makes an image of a static busybox with the given changes (`CMD …`, `VOLUME …`).
    pub fn busybox(&self, name: &str, changes: &[&str]) -> Result<()> {
        let applets = [
            "sh", "sleep", "cat", "ls", "ip", "httpd", "wget", "ps", "true", "false",
        ];
        let root = self.busybox_root(&applets)?;
        self.import(name, root.path(), changes)
    }

    /// A root file system with `/bin/busybox` and links to it.
    pub fn busybox_root(&self, applets: &[&str]) -> Result<TempDir> {
        let root = tempfile::tempdir_in(self.machine.folder())?;
        let bin = root.path().join("bin");
        fs::create_dir(&bin)?;
        let busybox = ["/bin/busybox", "/usr/bin/busybox"]
            .into_iter()
            .find(|p| fs::exists(p).is_ok_and(|it| it));
        fs::copy(
            busybox.context("busybox-static is not installed")?,
            bin.join("busybox"),
        )?;
        for applet in applets {
            std::os::unix::fs::symlink("busybox", bin.join(applet))?;
        }
        Ok(root)
    }

    /// Makes an image of a root file system.
    pub fn import(&self, name: &str, root: &Path, changes: &[&str]) -> Result<()> {
        let archive = self.machine.folder().join("image.tar");
        let (archive, root) = (text(&archive)?, text(root)?);
        self.run("tar", &["-C", root, "-cf", archive, "."])?;
        let mut arguments = vec!["import"];
        for change in changes {
            arguments.extend(["--change", change]);
        }
        arguments.extend([archive, name]);
        self.docker(&arguments)?;
        Ok(fs::remove_file(archive)?)
    }

    /// The socket as DOCKER_HOST names it.
    pub fn docker_host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    fn wait_ready(&self) -> Result<()> {
        let begin = Instant::now();
        while !self.output("docker", &["version"])?.status.success() {
            ensure!(
                begin.elapsed() < LIMIT,
                "the engine does not answer:\n{}",
                self.log()
            );
            pause();
        }
        Ok(())
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        if let Ok(all) = self.docker(&["ps", "-aq"]) {
            // An engine that has locked itself up in many removals at once must not hold the test.
            let mut arguments = vec!["30", "docker", "rm", "-f", "-v"];
            arguments.extend(all.lines());
            if !all.is_empty() {
                let _ = self.run("timeout", &arguments);
            }
        }
        end_leftovers(self.folder());
    }
}

/// Ends what a failed test leaves of disks in this folder: daemons that serve a file, and loop
/// devices, which stay until they are detached.
fn end_leftovers(folder: &Path) {
    let folder = folder.display().to_string();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let pid = entry.file_name().to_string_lossy().parse();
        if let (Ok(pid), "qemu-storage-da") = (pid, read("comm").trim())
            && read("mountinfo").contains(&folder)
        {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let file = fs::read_to_string(entry.path().join("loop/backing_file"));
        if file.is_ok_and(|file| file.starts_with(&folder)) {
            let device = Path::new("/dev").join(entry.file_name());
            let _ = Command::new("losetup").arg("-d").arg(device).status();
        }
    }
}

/// Whether the engines of the tests keep their images in containerd (`tests/engines/run.sh`).
pub fn uses_containerd() -> bool {
    std::env::var("ONEDOCK_TEST_IMAGE_STORE").is_ok_and(|store| store == "containerd")
}

fn daemon(folder: &Path, options: &Options) -> Result<Command> {
    if let Some(behind) = &options.behind {
        fs::write("/etc/onedock/runtime", format!("{}\n", behind.display()))?;
        // The loop driver of the tests' kernel need not have a bound.
        fs::write("/etc/onedock/unbounded-loops", "")?;
    }
    let config = folder.join("daemon.json");
    fs::write(&config, "{}\n")?;
    let log = File::create(folder.join("dockerd.log"))?;
    let mut command = tied("dockerd");
    for (option, name) in [
        ("--config-file", "daemon.json"),
        ("--data-root", "data"),
        ("--exec-root", "exec"),
        ("--pidfile", "pid"),
    ] {
        command.arg(option).arg(folder.join(name));
    }
    command
        .arg("-H")
        .arg(format!("unix://{}", folder.join("docker.sock").display()));
    command.args(["--bridge=none", "--iptables=false", "--ip6tables=false"]);
    if let Some(runtime) = &options.runtime {
        command
            .arg("--add-runtime")
            .arg(format!("onedock={}", runtime.display()));
    }
    // Where the engine can choose (from 28 on); 29 has containerd's without being asked. It refuses it
    // together with user-namespace remapping, and 28 loses set-id bits by it (docs/engines.md).
    let remaps = options
        .arguments
        .iter()
        .any(|a| a.starts_with("--userns-remap"));
    if uses_containerd() && !remaps {
        command.args(["--feature", "containerd-snapshotter=true"]);
    }
    command.args(&options.arguments);
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(command)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not text")
}
