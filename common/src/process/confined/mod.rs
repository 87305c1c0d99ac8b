//! Confinement of programs that read what tenants wrote: file systems, partition tables, qcow2. Whoever
//! takes such a program over by its input has nothing but that input (docs/decisions/0039).
//!
//! Root confines to a [`Room`]: another user, no capabilities, namespaces of its own (mounts, processes,
//! network, IPC, host name) with a root in which there are the host's programs and one disk. The drivers'
//! user, who may make no namespaces on every host, confines to paths, by Landlock where the kernel has it.
//! Both end with a filter of system calls and a bound on memory.
//!
//! All of it is laid on a thread that then starts the program, because it holds for that thread alone and
//! for what it starts.

mod filter;
#[cfg(feature = "disks")]
mod paths;
pub mod room;

use std::io;
#[cfg(feature = "disks")]
use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::thread;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use filter::Sockets;
pub use room::{Room, User};

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
    Room(Room),
    #[cfg(feature = "disks")]
    Paths(Vec<PathBuf>),
}

impl Confinement {
    /// To a root file system of its own; by root alone.
    pub fn room(room: Room) -> Self {
        Self::new(Reach::Room(room))
    }

    #[cfg(feature = "disks")]
    /// To programs, and to what lies beneath these folders, as the user who asks.
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
    pub fn serving(self) -> Self {
        Self {
            sockets: Sockets::Served,
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
    /// The confinement cannot be laid, or the program not be started; then nothing runs.
    pub fn start<C: Started>(
        self,
        start: impl FnOnce() -> io::Result<C> + Send + 'static,
    ) -> io::Result<(C, Starter)> {
        let (answer, answered) = mpsc::channel();
        let (starter, ended) = mpsc::channel::<()>();
        let thread = thread::Builder::new().name("confined".to_owned());
        thread.spawn(move || {
            let _ = answer.send(self.lay_and(start));
            // Until the other end is dropped.
            let _ = ended.recv();
        })?;
        let child = answered.recv().map_err(io::Error::other)??;
        Ok((child, Starter(starter)))
    }

    /// Confines this thread for good, and starts.
    fn lay_and<C: Started>(self, start: impl FnOnce() -> io::Result<C>) -> io::Result<C> {
        let filter = filter::of(self.sockets)?;
        match self.reach {
            Reach::Room(room) => room.enter()?,
            #[cfg(feature = "disks")]
            Reach::Paths(folders) => paths::only(&folders)?,
        }
        // No program of another user's (setuid) is one here; asks for no new rights as well.
        seccompiler::apply_filter(&filter).map_err(io::Error::other)?;
        let mut child = start()?;
        match bound(child.pid(), self.memory) {
            Ok(()) => Ok(child),
            Err(e) => {
                child.end();
                Err(e)
            }
        }
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

/// Bounds a program of this thread's user, shortly after its begin: no more than this data, and no image of its memory in a file
/// when it crashes, in which a tenant's bytes would be.
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
