//! A Docker Engine of a test's own, in namespaces of its own: with its own network, `/run`,
//! `/etc` and `/var/lib`, so that it shares nothing with an engine of the machine, and the fixed
//! folders of the runtime (`/etc/onedock`, `/run/onedock`, `/var/lib/onedock`) are the test's.
//!
//! A thread makes the namespaces and stays in them; [`PrivateEngine::inside`] works there.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;

/// The longest that the engine may take to answer for the first time, and to end.
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
    namespaces: Namespaces,
    daemon: u32,
    end: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
    // Last: removed when nothing uses it any more.
    folder: TempDir,
}

#[derive(Debug)]
struct Namespaces {
    mount: File,
    network: File,
}

impl PrivateEngine {
    /// Starts an engine and waits until it answers.
    pub fn start(options: Options) -> Result<Self> {
        ensure!(
            geteuid().is_root(),
            "this test needs root: it makes namespaces and starts a Docker Engine of its own"
        );
        let folder = tempfile::Builder::new()
            .prefix("onedock-engine-")
            .tempdir()?;
        let (ready, started) = channel();
        let (end, ended) = channel();
        let place = folder.path().to_owned();
        let keeper = thread::Builder::new()
            .name("engine".into())
            .spawn(move || keep(&place, &options, &ready, &ended))?;
        let (namespaces, daemon) = started.recv().context("the engine's thread is gone")??;
        let engine = Self {
            socket: folder.path().join("docker.sock"),
            namespaces,
            daemon,
            end: Some(end),
            keeper: Some(keeper),
            folder,
        };
        engine.wait_ready()?;
        Ok(engine)
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
        self.folder.path()
    }

    /// What the daemon has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("dockerd.log")).unwrap_or_default()
    }

    /// Works in the namespaces of the engine; programs started there live there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // A mount namespace can be entered only by who shares its root with nobody.
                unshare(CloneFlags::CLONE_FS)?;
                setns(self.namespaces.mount.as_fd(), CloneFlags::CLONE_NEWNS)?;
                setns(self.namespaces.network.as_fd(), CloneFlags::CLONE_NEWNET)?;
                work()
            });
            thread
                .join()
                .map_err(|_| anyhow!("the work inside has panicked"))?
        })
    }

    /// Runs a program in the namespaces of the engine, with its socket as DOCKER_HOST.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        self.inside(|| {
            let mut command = Command::new(program);
            command
                .args(arguments)
                .env("DOCKER_HOST", self.docker_host())
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
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{program} {} failed: {}", arguments.join(" "), said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs the engine's command line, which must succeed.
    pub fn docker(&self, arguments: &[&str]) -> Result<String> {
        self.run("docker", arguments)
    }

    /// Makes an image of a static busybox with the given changes (`CMD …`, `VOLUME …`).
    pub fn busybox(&self, name: &str, changes: &[&str]) -> Result<()> {
        let root = tempfile::tempdir_in(self.folder.path())?;
        let bin = root.path().join("bin");
        fs::create_dir(&bin)?;
        let busybox = ["/bin/busybox", "/usr/bin/busybox"]
            .into_iter()
            .find(|p| fs::exists(p).is_ok_and(|it| it));
        fs::copy(
            busybox.context("busybox-static is not installed")?,
            bin.join("busybox"),
        )?;
        for applet in [
            "sh", "sleep", "cat", "ls", "ip", "httpd", "wget", "ps", "true", "false",
        ] {
            std::os::unix::fs::symlink("busybox", bin.join(applet))?;
        }
        self.import(name, root.path(), changes)
    }

    /// Makes an image of a root file system.
    pub fn import(&self, name: &str, root: &Path, changes: &[&str]) -> Result<()> {
        let archive = self.folder.path().join("image.tar");
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

    fn docker_host(&self) -> String {
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

    /// All processes in the engine's mount namespace and in its containers, whose mounts name the
    /// engine's folder.
    fn processes(&self) -> Vec<Pid> {
        let Ok(own) = self.namespaces.mount.metadata() else {
            return Vec::new();
        };
        let folder = self.folder.path().display().to_string();
        let this = std::process::id();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| *pid != this)
            .filter(|pid| {
                let meta = fs::metadata(format!("/proc/{pid}/ns/mnt"));
                meta.is_ok_and(|m| (m.dev(), m.ino()) == (own.dev(), own.ino()))
                    || fs::read_to_string(format!("/proc/{pid}/mountinfo"))
                        .is_ok_and(|mounts| mounts.lines().any(|line| is_root_in(line, &folder)))
            })
            .filter_map(|pid| i32::try_from(pid).ok().map(Pid::from_raw))
            .collect()
    }
}

/// Whether this mount is a root file system that an engine has laid in `folder`.
fn is_root_in(line: &str, folder: &str) -> bool {
    line.split(' ').nth(4) == Some("/") && line.contains(folder)
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        if let Ok(all) = self.docker(&["ps", "-aq"]) {
            let mut arguments = vec!["rm", "-f", "-v"];
            arguments.extend(all.lines());
            if arguments.len() > 3 {
                let _ = self.docker(&arguments);
            }
        }
        // The keeper ends the daemon.
        drop(self.end.take());
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
        let begin = Instant::now();
        while begin.elapsed() < LIMIT {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            for pid in left {
                let _ = kill(pid, Signal::SIGKILL);
            }
            pause();
        }
    }
}

type Started = Result<(Namespaces, u32)>;

/// Makes the namespaces, starts the daemon and ends it when the engine is dropped. The daemon
/// gets a signal also when this thread dies with the test.
fn keep(place: &Path, options: &Options, ready: &Sender<Started>, ended: &Receiver<()>) {
    let started = enter(place, options).and_then(|namespaces| {
        let daemon = start_daemon(place, options)?;
        Ok((namespaces, daemon))
    });
    match started {
        Ok((namespaces, mut daemon)) => {
            let _ = ready.send(Ok((namespaces, daemon.id())));
            let _ = ended.recv();
            stop(&mut daemon);
        }
        Err(e) => {
            let _ = ready.send(Err(e));
        }
    }
}

fn enter(place: &Path, options: &Options) -> Result<Namespaces> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).context("no namespaces")?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )?;
    let state = place.join("state");
    fs::create_dir(&state)?;
    tmpfs(&state)?;
    for (name, path) in [("etc", "/etc"), ("lib", "/var/lib")] {
        let (upper, work) = (state.join(name), state.join(format!("{name}.work")));
        fs::create_dir(&upper)?;
        fs::create_dir(&work)?;
        let data = format!(
            "lowerdir={path},upperdir={},workdir={}",
            upper.display(),
            work.display()
        );
        mount(
            Some("overlay"),
            path,
            Some("overlay"),
            MsFlags::empty(),
            Some(data.as_str()),
        )
        .with_context(|| format!("no overlay on {path}"))?;
    }
    tmpfs(Path::new("/run"))?;
    for path in ["/etc/onedock", "/var/lib/onedock"] {
        fs::create_dir_all(path)?;
        tmpfs(Path::new(path))?;
    }
    for path in [
        "/var/lib/onedock/boot",
        "/var/lib/onedock/lock",
        "/var/lib/onedock/journal",
    ] {
        fs::create_dir_all(path)?;
    }
    own_sysfs(&state.join("sys"))?;
    if let Some(behind) = &options.behind {
        fs::write("/etc/onedock/runtime", format!("{}\n", behind.display()))?;
    }
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()?;
    ensure!(status.success(), "ip link set lo up failed");
    Ok(Namespaces {
        mount: File::open("/proc/thread-self/ns/mnt")?,
        network: File::open("/proc/thread-self/ns/net")?,
    })
}

fn tmpfs(path: &Path) -> Result<()> {
    mount(
        Some("tmpfs"),
        path,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755"),
    )
    .with_context(|| format!("no tmpfs on {}", path.display()))
}

/// `/sys` shows the network in which it was mounted, so it is mounted anew. Where the machine
/// has cgroup v1 with a controller left in its v2 tree (hugetlb), crun refuses to run until that
/// is mounted in v1 too.
fn own_sysfs(new: &Path) -> Result<()> {
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    let none = None::<&str>;
    fs::create_dir(new)?;
    mount(Some("sysfs"), new, Some("sysfs"), MsFlags::empty(), none).context("no sysfs")?;
    let (old, cgroup) = (Path::new("/sys/fs/cgroup"), new.join("fs/cgroup"));
    if statfs(old)?.filesystem_type() == CGROUP2_SUPER_MAGIC {
        mount(Some(old), &cgroup, none, bind, none)?;
    } else {
        tmpfs(&cgroup)?;
        for entry in fs::read_dir(old)? {
            let entry = entry?;
            let target = cgroup.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                fs::create_dir(&target)?;
                mount(Some(&entry.path()), &target, none, bind, none)?;
            } else {
                std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?;
            }
        }
        let hugetlb = cgroup.join("hugetlb");
        if !fs::exists(&hugetlb)? || fs::read_dir(&hugetlb)?.next().is_none() {
            fs::create_dir_all(&hugetlb)?;
            let mounted = mount(
                Some("cgroup"),
                &hugetlb,
                Some("cgroup"),
                MsFlags::empty(),
                Some("hugetlb"),
            );
            if mounted.is_err() {
                fs::remove_dir(&hugetlb)?;
            }
        }
    }
    Ok(mount(Some(new), "/sys", none, bind, none)?)
}

fn start_daemon(place: &Path, options: &Options) -> Result<Child> {
    let config = place.join("daemon.json");
    fs::write(&config, "{}\n")?;
    let log = File::create(place.join("dockerd.log"))?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--", "dockerd"]);
    for (option, name) in [
        ("--config-file", "daemon.json"),
        ("--data-root", "data"),
        ("--exec-root", "exec"),
        ("--pidfile", "pid"),
    ] {
        command.arg(option).arg(place.join(name));
    }
    command
        .arg("-H")
        .arg(format!("unix://{}", place.join("docker.sock").display()));
    command.args(["--bridge=none", "--iptables=false", "--ip6tables=false"]);
    if let Some(runtime) = &options.runtime {
        command
            .arg("--add-runtime")
            .arg(format!("onedock={}", runtime.display()));
    }
    command.args(&options.arguments);
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    command
        .spawn()
        .context("setpriv (util-linux) cannot be run")
}

fn stop(daemon: &mut Child) {
    if let Ok(pid) = i32::try_from(daemon.id()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    let begin = Instant::now();
    while begin.elapsed() < LIMIT {
        if !matches!(daemon.try_wait(), Ok(None)) {
            return;
        }
        pause();
    }
    let _ = daemon.kill();
    let _ = daemon.wait();
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not text")
}

#[expect(
    clippy::disallowed_methods,
    reason = "a step of a wait that has a predicate and a limit"
)]
fn pause() {
    thread::sleep(Duration::from_millis(10));
}
