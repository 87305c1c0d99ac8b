//! The container's network namespace: which one it is, and work inside it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use onedock_common::process::{Handle, Stat};
use onedock_common::wait;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why there is no namespace to plug into.
#[derive(Debug, Error)]
pub enum NamespaceError {
    /// The first process is gone, or its number belongs to another by now.
    #[error("the container's first process {0} is gone")]
    Gone(i32),
    /// The container sits in the host's own network.
    #[error("the container runs in the host's network namespace")]
    Host,
    /// The container sees the host's own files.
    #[error("the container runs in the host's mount namespace")]
    HostMounts,
    /// The container has the host's own name.
    #[error("the container runs in the host's UTS namespace")]
    HostNames,
    /// `/proc` did not answer.
    #[error("the container's first process {pid} cannot be examined")]
    Examine {
        pid: i32,
        /// What the system answered.
        source: io::Error,
    },
    /// A thread could not enter.
    #[error("the container's namespace cannot be entered")]
    Enter(#[source] io::Error),
}

/// The first process of a container. A number alone can be another's a moment later: the start
/// time and the namespace tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pid: i32,
    /// Field 22 of `/proc/<pid>/stat`, in clock ticks since boot.
    started: u64,
    /// Device and inode of the network namespace.
    network: (u64, u64),
    /// Device and inode of the mount namespace; none in a record of an earlier version.
    #[serde(default)]
    mount: Option<(u64, u64)>,
}

impl Process {
    /// Reads the process whose number the real runtime has written into its pid file.
    pub fn from_pid_file(path: &Path) -> Result<Self, NamespaceError> {
        let examine = |source| NamespaceError::Examine { pid: -1, source };
        let text = fs::read_to_string(path).map_err(examine)?;
        let pid = text.trim().parse().map_err(|_| {
            examine(io::Error::other(format!(
                "{} has no process id",
                path.display()
            )))
        })?;
        Self::of(pid)
    }

    /// Reads a living process.
    pub fn of(pid: i32) -> Result<Self, NamespaceError> {
        let examine = |source| NamespaceError::Examine { pid, source };
        let space = |kind| {
            let meta = fs::metadata(format!("/proc/{pid}/ns/{kind}")).map_err(examine)?;
            Ok((meta.dev(), meta.ino()))
        };
        Ok(Self {
            pid,
            started: Stat::of(pid).map_err(examine)?.started,
            network: space("net")?,
            mount: Some(space("mnt")?),
        })
    }

    /// The number, to be shown or for `/proc` while a handle of a namespace is held.
    pub fn id(&self) -> i32 {
        self.pid
    }

    /// Whether it is still this very process and lives.
    pub fn lives(&self) -> bool {
        Handle::open(self.pid).is_ok_and(|handle| {
            Stat::of(self.pid).is_ok_and(|stat| stat.started == self.started)
                && handle.ends_within(Duration::ZERO).is_ok_and(|ended| !ended)
        })
    }

    /// Whether it is still the runtime's own, waiting for a `start` that never came to its end.
    pub fn waits(&self) -> bool {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        let program = fs::read_link(format!("/proc/{}/exe", self.pid)).unwrap_or_default();
        let program = program.to_string_lossy();
        let is_runtimes = |name: &str| name.starts_with("runc") || name.starts_with("crun");
        // Runtimes run from a copy of themselves that no path leads to.
        let copied = program == "/" || program.starts_with("/memfd:");
        let named = is_runtimes(program.rsplit('/').next().unwrap_or_default());
        is_runtimes(&name) && (copied || named) && self.lives()
    }

    /// Ends the process, if it is still this very one, and waits for its end.
    pub fn kill(&self, limit: Duration) -> Result<(), NamespaceError> {
        let handle = Handle::open(self.pid).map_err(|_| NamespaceError::Gone(self.pid))?;
        if !Stat::of(self.pid).is_ok_and(|stat| stat.started == self.started) {
            return Err(NamespaceError::Gone(self.pid));
        }
        let examine = |source| NamespaceError::Examine {
            pid: self.pid,
            source,
        };
        handle.kill().map_err(examine)?;
        handle.ends_within(limit).map(drop).map_err(examine)
    }

    /// Opens the network namespace, if this very process still lives in it (fault 53,
    /// attack 47).
    pub fn network(&self) -> Result<Network, NamespaceError> {
        self.enter_not_the_hosts("net", self.network, NamespaceError::Host)
            .map(Network)
    }

    /// Opens the namespace of the host name, if this very process still lives in one that is not the host's.
    pub fn names(&self) -> Result<OwnedFd, NamespaceError> {
        let examine = |source| NamespaceError::Examine {
            pid: self.pid,
            source,
        };
        let space = fs::metadata(format!("/proc/{}/ns/uts", self.pid)).map_err(examine)?;
        let expected = (space.dev(), space.ino());
        self.enter_not_the_hosts("uts", expected, NamespaceError::HostNames)
    }

    /// Opens the mount namespace, if this very process still lives in it.
    pub fn mounts(&self) -> Result<Mounts, NamespaceError> {
        let mount = self.mount.ok_or(NamespaceError::Gone(self.pid))?;
        let mount = self.enter_not_the_hosts("mnt", mount, NamespaceError::HostMounts)?;
        let examine = |source| NamespaceError::Examine {
            pid: self.pid,
            source,
        };
        let user = File::open(format!("/proc/{}/ns/user", self.pid)).map_err(examine)?;
        let own = fs::metadata("/proc/self/ns/user").map_err(examine)?;
        let found = user.metadata().map_err(examine)?;
        if !self.lives() {
            return Err(NamespaceError::Gone(self.pid));
        }
        let mapped = (own.dev(), own.ino()) != (found.dev(), found.ino());
        Ok(Mounts {
            mount,
            user: mapped.then(|| user.into()),
        })
    }

    /// The process is held by its own handle while the answers are compared, so that its number
    /// cannot change owners in between.
    fn enter_not_the_hosts(
        &self,
        kind: &str,
        expected: (u64, u64),
        of_the_host: NamespaceError,
    ) -> Result<OwnedFd, NamespaceError> {
        let examine = |source| NamespaceError::Examine {
            pid: self.pid,
            source,
        };
        let gone = |_| NamespaceError::Gone(self.pid);
        let handle = Handle::open(self.pid).map_err(gone)?;
        let namespace = File::open(format!("/proc/{}/ns/{kind}", self.pid)).map_err(gone)?;
        let meta = namespace.metadata().map_err(examine)?;
        let same = (meta.dev(), meta.ino()) == expected
            && Stat::of(self.pid).map_err(gone)?.started == self.started;
        if !same || handle.ends_within(Duration::ZERO).map_err(examine)? {
            return Err(NamespaceError::Gone(self.pid));
        }
        let own = fs::metadata(format!("/proc/thread-self/ns/{kind}")).map_err(examine)?;
        if (own.dev(), own.ino()) == expected {
            return Err(of_the_host);
        }
        Ok(namespace.into())
    }
}

/// An open network namespace.
#[derive(Debug)]
pub struct Network(OwnedFd);

impl Network {
    /// The descriptor, for the kernel's messages.
    pub fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// Waits until no other call holds this namespace, and holds it until the answer is dropped.
    /// `None`: another one did for the whole time.
    pub fn lock(&self, within: Duration) -> Result<Option<File>, NamespaceError> {
        let file: File = self.0.try_clone().map_err(NamespaceError::Enter)?.into();
        let locked = wait::until_ok(within, || match file.try_lock() {
            Ok(()) => Ok(Some(())),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(NamespaceError::Enter(e)),
        });
        Ok(locked?.map(|()| file))
    }

    /// Runs `work` on a thread of its own that lives in this namespace and ends with the work:
    /// nothing has to be restored, and nobody else is ever in the wrong place.
    pub fn within<T: Send, E: Send + From<NamespaceError>>(
        &self,
        work: impl FnOnce() -> Result<T, E> + Send,
    ) -> Result<T, E> {
        thread::scope(|scope| {
            let inside = thread::Builder::new().spawn_scoped(scope, || {
                setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET)
                    .map_err(|errno| NamespaceError::Enter(errno.into()))?;
                work()
            });
            match inside.map_err(NamespaceError::Enter)?.join() {
                Ok(answer) => answer,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

/// An open mount namespace, and the user namespace to which it belongs.
#[derive(Debug)]
pub struct Mounts {
    mount: OwnedFd,
    user: Option<OwnedFd>,
}

impl Mounts {
    /// The user namespace; none when it is the host's.
    pub fn user(&self) -> Option<&OwnedFd> {
        self.user.as_ref()
    }

    /// Runs `work` on a thread of its own that lives in this namespace, with its root as `/`,
    /// and ends with the work. `/proc` is the container's there.
    pub fn within<T: Send, E: Send + From<NamespaceError>>(
        &self,
        work: impl FnOnce() -> Result<T, E> + Send,
    ) -> Result<T, E> {
        thread::scope(|scope| {
            let inside = thread::Builder::new().spawn_scoped(scope, || {
                // A mount namespace can be entered only by who shares its root with nobody.
                unshare(CloneFlags::CLONE_FS)
                    .and_then(|()| setns(self.mount.as_fd(), CloneFlags::CLONE_NEWNS))
                    .map_err(|errno| NamespaceError::Enter(errno.into()))?;
                work()
            });
            match inside.map_err(NamespaceError::Enter)?.join() {
                Ok(answer) => answer,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn fault_53_and_attack_47_a_process_that_ended_or_shares_the_hosts_network_gives_no_namespace()
    {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(matches!(process.network(), Err(NamespaceError::Host)));
        let impostor = Process {
            started: process.started + 1,
            ..process
        };
        assert!(matches!(impostor.network(), Err(NamespaceError::Gone(_))));
        let moved = Process {
            network: (process.network.0, 1),
            ..process
        };
        assert!(matches!(moved.network(), Err(NamespaceError::Gone(_))));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(process.network(), Err(NamespaceError::Gone(_))));
    }
}
