//! A machine of a test's own: mount, network and host name in namespaces, with its own `/run`,
//! `/etc`, `/usr/lib` and `/var/lib`, so that it shares nothing with the real one, and the fixed
//! folders of the drivers (`/etc/onedock`, `/run/onedock`, `/usr/lib/onedock`, `/var/lib/onedock`)
//! are the test's. What a set-up has made on the real machine is not on it.
//!
//! A thread makes the namespaces and stays in them; [`Machine::inside`] works there. Several
//! machines may share one network.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{Pid, geteuid, sethostname};
use tempfile::TempDir;

/// The longest that a program may take to end.
const LIMIT: Duration = Duration::from_secs(30);

/// The folders that a machine has for itself: a name, the path, and what a set-up or an engine of the
/// real machine may have put there, which the test's machine does not show.
const OWN_FOLDERS: [(&str, &str, &[&str]); 3] = [
    ("etc", "/etc", &["onedock", "docker"]),
    ("usr-lib", "/usr/lib", &["onedock"]),
    (
        "lib",
        "/var/lib",
        &["onedock", "onedock-registry", "onedock-sandbox", "one"],
    ),
];

/// What a machine is like.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// Its host name; without one, that of the real machine.
    pub name: Option<String>,
    /// A network to live in ([`Machine::network`]); without one, its own.
    pub network: Option<Arc<File>>,
}

/// The machine. Dropping it ends all that runs in its namespaces and removes its folder.
#[derive(Debug)]
pub struct Machine {
    namespaces: Namespaces,
    jobs: Option<Sender<Job>>,
    keeper: Option<JoinHandle<()>>,
    // Last: removed when nothing uses it any more.
    folder: TempDir,
}

#[derive(Debug)]
struct Namespaces {
    mount: File,
    names: File,
    network: Arc<File>,
}

/// Something that starts a program which lives as long as the machine.
type Job = Box<dyn FnOnce(&mut Vec<Child>) + Send>;

impl Machine {
    /// Makes the namespaces.
    pub fn start(setting: Setting) -> Result<Self> {
        ensure!(
            geteuid().is_root(),
            "this test needs root: it makes namespaces and starts a Docker Engine of its own"
        );
        let folder = tempfile::Builder::new()
            .prefix("onedock-engine-")
            .tempdir()?;
        let (ready, started) = channel();
        let (jobs, queue) = channel();
        let path = folder.path().to_owned();
        let keeper = thread::Builder::new()
            .name("machine".into())
            .spawn(move || stay(&path, &setting, &ready, &queue))?;
        let namespaces = started.recv().context("the machine's thread is gone")??;
        Ok(Self {
            namespaces,
            jobs: Some(jobs),
            keeper: Some(keeper),
            folder,
        })
    }

    /// A folder of the test's own, removed with the machine.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its network, for a further machine.
    pub fn network(&self) -> Arc<File> {
        Arc::clone(&self.namespaces.network)
    }

    /// Works in the machine's namespaces; programs started there live there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // A mount namespace can be entered only by who shares its root with nobody.
                unshare(CloneFlags::CLONE_FS)?;
                setns(self.namespaces.mount.as_fd(), CloneFlags::CLONE_NEWNS)?;
                setns(self.namespaces.names.as_fd(), CloneFlags::CLONE_NEWUTS)?;
                setns(self.namespaces.network.as_fd(), CloneFlags::CLONE_NEWNET)?;
                work()
            });
            thread
                .join()
                .map_err(|_| anyhow!("the work inside has panicked"))?
        })
    }

    /// Starts a program ([`tied`]) that is ended with the machine. Returns its process.
    pub fn keep(&self, command: impl FnOnce() -> Result<Command> + Send + 'static) -> Result<u32> {
        let (reply, answer) = channel();
        let job: Job = Box::new(move |children| {
            let started = command().and_then(|mut command| {
                let name = command.get_program().to_owned();
                let child = command.spawn();
                child.with_context(|| format!("{} cannot be run", name.display()))
            });
            let _ = reply.send(started.map(|child| {
                let pid = child.id();
                children.push(child);
                pid
            }));
        });
        let jobs = self.jobs.as_ref().context("the machine has ended")?;
        jobs.send(job)
            .map_err(|_| anyhow!("the machine's thread is gone"))?;
        answer.recv().context("the machine's thread is gone")?
    }

    /// All processes in the machine's mount namespace and in the containers of its engine, whose
    /// mounts name its folder.
    pub fn processes(&self) -> Vec<Pid> {
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

impl Drop for Machine {
    fn drop(&mut self) {
        // The keeper ends the programs.
        drop(self.jobs.take());
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

/// A program that gets a signal when the thread that has started it dies with the test.
pub fn tied(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--", program]);
    command
}

/// Makes the namespaces, starts the programs of the queue, and ends them when the machine is dropped.
fn stay(
    folder: &Path,
    setting: &Setting,
    ready: &Sender<Result<Namespaces>>,
    queue: &Receiver<Job>,
) {
    let entered = enter(folder, setting);
    let failed = entered.is_err();
    let _ = ready.send(entered);
    if failed {
        return;
    }
    let mut children = Vec::new();
    while let Ok(job) = queue.recv() {
        job(&mut children);
    }
    for child in children.iter_mut().rev() {
        stop(child);
    }
}

fn enter(folder: &Path, setting: &Setting) -> Result<Namespaces> {
    if let Some(network) = &setting.network {
        setns(network.as_fd(), CloneFlags::CLONE_NEWNET).context("no such network")?;
    } else {
        unshare(CloneFlags::CLONE_NEWNET).context("no namespaces")?;
    }
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS).context("no namespaces")?;
    if let Some(name) = &setting.name {
        sethostname(name)?;
    }
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )?;
    let state = folder.join("state");
    fs::create_dir(&state)?;
    tmpfs(&state)?;
    for (name, path, hidden) in OWN_FOLDERS {
        own_folder(&state, name, path, hidden)?;
    }
    tmpfs(Path::new("/run"))?;
    for path in [
        "/etc/onedock",
        "/var/lib/onedock",
        "/var/lib/onedock-layers",
    ] {
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
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()?;
    ensure!(status.success(), "ip link set lo up failed");
    Ok(Namespaces {
        mount: File::open("/proc/thread-self/ns/mnt")?,
        names: File::open("/proc/thread-self/ns/uts")?,
        network: Arc::new(File::open("/proc/thread-self/ns/net")?),
    })
}

/// Lays an overlay over a folder of the machine, without the entries to be hidden.
fn own_folder(state: &Path, name: &str, path: &str, hidden: &[&str]) -> Result<()> {
    let (upper, work) = (state.join(name), state.join(format!("{name}.work")));
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    for entry in hidden {
        // An overlay's mark for "removed" (Documentation/filesystems/overlayfs.rst, whiteouts).
        let mark = upper.join(entry);
        mknod(&mark, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0))
            .with_context(|| format!("no mark at {}", mark.display()))?;
    }
    let data = format!(
        "lowerdir={path},upperdir={},workdir={}",
        upper.display(),
        work.display()
    );
    let overlay = Some("overlay");
    mount(
        overlay,
        path,
        overlay,
        MsFlags::empty(),
        Some(data.as_str()),
    )
    .with_context(|| format!("no overlay on {path}"))
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

pub(crate) fn pause() {
    onedock_common::wait::pause(Duration::from_millis(10));
}
