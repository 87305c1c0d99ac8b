//! Confinement of programs that read what tenants wrote: file systems, partition tables, qcow2. Whoever
//! takes such a program over by its input has nothing but that input (docs/decisions/0039).
//!
//! Root confines to a [`PrivateRoot`]: another user, no capabilities, namespaces of its own (mounts, processes,
//! network, IPC, host name) with a root in which there are the host's programs and one disk. The drivers'
//! user, who may make no namespaces on every host, confines to paths, by Landlock where the kernel has it.
//! Both end with a filter of system calls and a bound on memory.
//!
//! A thread confines itself and then starts the program: what it gives up, it gives up for itself and for
//! what it starts.

mod filter;
#[cfg(feature = "disks")]
mod paths;
pub mod private_root;

use std::io;
#[cfg(feature = "disks")]
use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::thread;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use filter::Sockets;
pub use private_root::{PrivateRoot, User};

/// The memory that a program may have for its data, in bytes: `e2fsck` of a disk of 16 TiB has 1 GiB.
const MEMORY: u64 = 2 << 30;

/// How a program is confined.
#[derive(Debug)]
pub struct Confinement {
    reach: Reach,
    sockets: Sockets,
    memory: u64,
}

#[derive(Debug)]
enum Reach {
    Root(PrivateRoot),
    #[cfg(feature = "disks")]
    Paths(Vec<PathBuf>),
}

impl Confinement {
    /// To a root file system of its own; by root alone.
    pub fn to_root(root: PrivateRoot) -> Self {
        Self::new(Reach::Root(root))
    }

    /// To programs, and to what lies beneath these folders, as the user who asks.
    #[cfg(feature = "disks")]
    pub fn beneath(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        Self::new(Reach::Paths(folders.into_iter().collect()))
    }

    fn new(reach: Reach) -> Self {
        Self {
            reach,
            sockets: Sockets::None,
            memory: MEMORY,
        }
    }

    /// A program that listens on a socket in its root.
    #[must_use]
    pub fn listening(self) -> Self {
        Self {
            sockets: Sockets::Listening,
            ..self
        }
    }

    /// Another bound on its memory, in bytes.
    #[must_use]
    pub fn with_memory(self, memory: u64) -> Self {
        Self { memory, ..self }
    }

    /// Starts a program in it. A program that dies with the thread that started it lives as long as
    /// what is answered beside it.
    ///
    /// # Errors
    ///
    /// It cannot be confined or started; then nothing runs.
    pub fn start<C: Started>(
        self,
        start: impl FnOnce() -> io::Result<C> + Send + 'static,
    ) -> io::Result<(C, Starter)> {
        let (has_own_processes, memory) = (self.has_own_processes(), self.memory);
        let (answer, answered) = mpsc::channel();
        let (starter, ended) = mpsc::channel::<()>();
        let thread = thread::Builder::new().name("confined".to_owned());
        thread.spawn(move || {
            let _ = answer.send(self.apply_and(start));
            // Until the other end is dropped.
            let _ = ended.recv();
        })?;
        let mut child = answered.recv().map_err(io::Error::other)??;
        if !has_own_processes && let Err(e) = bound(child.pid(), memory) {
            child.end();
            return Err(e);
        }
        Ok((child, Starter(starter)))
    }

    /// Whether it sees no process but its own.
    fn has_own_processes(&self) -> bool {
        matches!(self.reach, Reach::Root(_))
    }

    /// Confines this thread for good, and starts.
    fn apply_and<C: Started>(self, start: impl FnOnce() -> io::Result<C>) -> io::Result<C> {
        let has_own_processes = self.has_own_processes();
        let filter = filter::of(self.sockets, has_own_processes)?;
        match self.reach {
            Reach::Root(root) => root.enter()?,
            #[cfg(feature = "disks")]
            Reach::Paths(folders) => paths::only(&folders)?,
        }
        // It sets "no new privileges" as well: a set-id program gives nothing.
        seccompiler::apply_filter(&filter).map_err(io::Error::other)?;
        let mut child = start()?;
        // Of another user's process only that user may set bounds: here, or never.
        if has_own_processes && let Err(e) = bound(child.pid(), self.memory) {
            child.end();
            return Err(e);
        }
        Ok(child)
    }
}

/// Starts a program, confined or not.
pub(super) fn start<C: Started>(
    to: Option<Confinement>,
    start: impl FnOnce() -> io::Result<C> + Send + 'static,
) -> io::Result<(C, Option<Starter>)> {
    match to {
        None => Ok((start()?, None)),
        Some(to) => to.start(start).map(|(child, thread)| (child, Some(thread))),
    }
}

/// A process that was started.
pub trait Started: Send + 'static {
    /// Its number; none when it was waited for.
    fn pid(&self) -> Option<u32>;
    /// Ends it at once.
    fn end(&mut self);
}

impl Started for std::process::Child {
    fn pid(&self) -> Option<u32> {
        Some(self.id())
    }

    fn end(&mut self) {
        let _ = self.kill();
        let _ = self.wait();
    }
}

#[cfg(feature = "tokio")]
impl Started for tokio::process::Child {
    fn pid(&self) -> Option<u32> {
        self.id()
    }

    fn end(&mut self) {
        let _ = self.start_kill();
    }
}

/// The thread that has started a program; it ends when this is dropped.
#[derive(Debug)]
pub struct Starter(#[expect(dead_code, reason = "its drop is what ends the thread")] Sender<()>);

/// Bounds a program of this thread's user, shortly after it began: no more than this data, and no core
/// dump, in which a tenant's bytes would be.
fn bound(pid: Option<u32>, memory: u64) -> io::Result<()> {
    let Some(pid) = pid.and_then(|pid| Pid::from_raw(pid.cast_signed())) else {
        return Ok(());
    };
    for (resource, most) in [(Resource::Data, memory), (Resource::Core, 0)] {
        // What is bounded more tightly already stays so: raising it would need a right.
        let most = getrlimit(resource)
            .maximum
            .map_or(most, |hard| hard.min(most));
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        match prlimit(Some(pid), resource, limit) {
            // It has ended.
            Ok(_) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
