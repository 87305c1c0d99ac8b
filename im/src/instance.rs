//! One agent for each host id: who it is, and how an earlier one is ended. Its files lie
//! where OpenNebula 7.x has its client's, outside the tree that a synchronisation replaces.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use onedock_common::HostId;
use onedock_common::process::Stat;
use onedock_common::state::boot;
use onedock_common::state::files;
use onedock_common::wait;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How long an agent may take to end, before and after it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// The largest pid file that is read.
const LIMIT: u64 = 4096;
/// The largest request: a configuration has 2 KB.
const REQUEST_LIMIT: u64 = 4 * 1024 * 1024;

/// Why the agent of a host could not be replaced.
#[derive(Debug, Error)]
pub enum InstanceError {
    /// The folder is not ours to trust.
    #[error("{0} is not a folder of this user; remove it, it is made anew")]
    Foreign(PathBuf),
    /// A file could not be read or written.
    #[error("{path} cannot be used ({problem}); it must belong to the user of the drivers")]
    File { path: PathBuf, problem: io::Error },
    /// It does not end.
    #[error("the earlier monitor agent (process {0}) does not end, not even when killed")]
    Lives(i32),
    /// Two starts at one time.
    #[error("another monitor agent for host {0} is being started at this moment")]
    Busy(HostId),
}

/// A process, distinct from a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    pid: i32,
    /// Clock ticks from boot to its start.
    start: u64,
    boot_id: String,
}

impl Identity {
    fn of(pid: i32) -> Option<Self> {
        let stat = Stat::of(pid).ok().filter(|stat| !stat.zombie)?;
        Some(Self {
            pid,
            start: stat.started,
            boot_id: boot::boot_id().ok()?,
        })
    }

    fn lives(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    fn signal(&self, signal: Signal) {
        if self.pid > 1 && self.lives() {
            match kill(Pid::from_raw(self.pid), signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => tracing::warn!(pid = self.pid, %error, "cannot be signalled"),
            }
        }
    }

    fn is_gone_within(&self, time: Duration) -> bool {
        wait::until(time, || (!self.lives()).then_some(())).is_some()
    }
}

/// Names one start of an agent. A standby of an earlier one does nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    fn new() -> io::Result<Self> {
        let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        Ok(Self(uuid.trim().to_owned()))
    }

    /// The token as a word, which `parse` reads again.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Token {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// What OpenNebula has asked for: that this host is monitored with this configuration, until it
/// asks for something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    token: Token,
    /// MONITOR_CONFIGURATION as it was received.
    pub configuration: String,
}

/// The files of the agent of one host id.
#[derive(Debug, Clone)]
pub struct Instance {
    dir: PathBuf,
    host: HostId,
}

/// Keeps a second agent of the same host out while it lives.
#[derive(Debug)]
pub struct Claim {
    _lock: File,
}

impl Instance {
    /// The agent of host `host` with its files in `dir`, which is made when it is not there.
    pub fn new(dir: impl Into<PathBuf>, host: HostId) -> Result<Self, InstanceError> {
        let dir = dir.into();
        match fs::create_dir(&dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(&dir, e));
            }
            _ => {}
        }
        // /var/tmp belongs to everybody: what another user laid there is not used (attack 45).
        let meta = fs::symlink_metadata(&dir).map_err(|e| failed(&dir, e))?;
        if !meta.is_dir() || meta.uid() != geteuid().as_raw() {
            return Err(InstanceError::Foreign(dir));
        }
        Ok(Self { dir, host })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the agent writes its log.
    pub fn log(&self) -> PathBuf {
        self.dir.join(format!("onedock-im-{}.log", self.host))
    }

    pub fn host(&self) -> HostId {
        self.host
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join(format!("onedock-im-{}.pid", self.host))
    }

    fn standby_file(&self) -> PathBuf {
        self.dir.join(format!("onedock-im-{}.standby", self.host))
    }

    fn request_file(&self) -> PathBuf {
        self.dir.join(format!("onedock-im-{}.request", self.host))
    }

    /// Notes what is asked for from now on, after [`Self::end_earlier`].
    pub fn keep_request(&self, configuration: &str) -> Result<Token, InstanceError> {
        let path = self.request_file();
        let token = Token::new().map_err(|e| failed(&path, e))?;
        let request = Request {
            token: token.clone(),
            configuration: configuration.to_owned(),
        };
        let bytes = serde_json::to_vec(&request).map_err(|e| failed(&path, e.into()))?;
        files::replace(&path, &bytes, 0o640).map_err(|e| failed(&path, e))?;
        Ok(token)
    }

    /// What is asked for, if it is still what this token was given for.
    pub fn request(&self, token: &Token) -> Option<Request> {
        let bytes = files::read_bounded(&self.request_file(), REQUEST_LIMIT).ok()?;
        let request: Request = serde_json::from_slice(&bytes).ok()?;
        (request.token == *token).then_some(request)
    }

    /// Nothing is asked for any more: no standby becomes an agent.
    pub fn withdraw_request(&self) -> Result<(), InstanceError> {
        let path = self.request_file();
        files::remove(&path).map_err(|e| failed(&path, e))
    }

    /// Notes the standby, so that [`Self::end_earlier`] finds it.
    pub fn note_standby(&self, pid: u32) -> Result<(), InstanceError> {
        let standby = i32::try_from(pid).ok().and_then(Identity::of);
        self.note(&self.standby_file(), standby.as_ref())
    }

    fn note(&self, path: &Path, process: Option<&Identity>) -> Result<(), InstanceError> {
        let bytes = process
            .and_then(|process| serde_json::to_vec(process).ok())
            .ok_or_else(|| failed(Path::new("/proc"), io::ErrorKind::NotFound.into()))?;
        self.write(path, &bytes)
    }

    /// The pid file of OpenNebula's own client, whose reader (`vmm/kvm/vgpu`) sends SIGUSR1.
    fn stock_pid_file(&self) -> PathBuf {
        self.dir.join(".monitor_client.pid")
    }

    /// Ends the agent and its standby, if the very processes that the files name still live. The
    /// request goes first: without it no standby takes the agent's place meanwhile.
    pub fn end_earlier(&self) -> Result<(), InstanceError> {
        self.withdraw_request()?;
        if let Some(agent) = self.end(&self.pid_file())? {
            let stock = self.stock_pid_file();
            let named = files::read_bounded(&stock, LIMIT).unwrap_or_default();
            if named == agent.pid.to_string().as_bytes() {
                files::remove(&stock).map_err(|e| failed(&stock, e))?;
            }
        }
        self.end(&self.standby_file()).map(drop)
    }

    /// Ends the process that a file names, and removes the file. A file that cannot be read names
    /// nobody; the claim still keeps two agents apart.
    fn end(&self, path: &Path) -> Result<Option<Identity>, InstanceError> {
        let bytes = match files::read_bounded(path, LIMIT) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(path, e)),
        };
        let named = serde_json::from_slice::<Identity>(&bytes).ok();
        if let Some(process) = &named {
            process.signal(Signal::SIGTERM);
            if !process.is_gone_within(GRACE) {
                process.signal(Signal::SIGKILL);
                if !process.is_gone_within(GRACE) {
                    return Err(InstanceError::Lives(process.pid));
                }
            }
        }
        files::remove(path).map_err(|e| failed(path, e))?;
        Ok(named)
    }

    /// Makes this process the agent; it stays so as long as the claim lives.
    pub fn claim(&self) -> Result<Claim, InstanceError> {
        let path = self.dir.join(format!("onedock-im-{}.lock", self.host));
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
            .open(&path)
            .map_err(|e| failed(&path, e))?;
        lock.try_lock()
            .map_err(|_| InstanceError::Busy(self.host))?;
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        self.note(&self.pid_file(), Identity::of(own).as_ref())?;
        let plain = std::process::id().to_string();
        self.write(&self.stock_pid_file(), plain.as_bytes())?;
        Ok(Claim { _lock: lock })
    }

    /// The copies of the configuration that 7.x keeps on the host for other probes.
    pub fn keep_config(&self, xml: &[u8], monitord: &str) -> Result<(), InstanceError> {
        self.write(&self.dir.join("config"), xml)?;
        let etc = self.dir.join("etc");
        fs::create_dir_all(&etc).map_err(|e| failed(&etc, e))?;
        self.write(&etc.join("monitord.conf"), monitord.as_bytes())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), InstanceError> {
        files::replace(path, bytes, 0o644).map_err(|e| failed(path, e))
    }
}

fn failed(path: &Path, problem: io::Error) -> InstanceError {
    InstanceError::File {
        path: path.to_owned(),
        problem,
    }
}

#[cfg(test)]
#[path = "instance_tests.rs"]
mod tests;
