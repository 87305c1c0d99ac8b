//! Which process it is: a number alone can be another process's a moment later.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What `/proc/<pid>/stat` says (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Whether it has ended and was not waited for.
    pub zombie: bool,
    /// When it began, in clock ticks (1/100 s) since the boot. With the number, and within a boot, it
    /// is one process.
    pub started: u64,
}

impl Stat {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// There is no such process.
    pub fn of(pid: i32) -> io::Result<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat"))?)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has no start time")))
    }

    /// When it began, since the boot. USER_HZ is 100 on every Linux that this runs on (time(7)).
    pub fn since_boot(&self) -> Duration {
        Duration::from_millis(self.started.saturating_mul(10))
    }

    fn parse(text: &str) -> Option<Self> {
        // The name may hold anything, blanks and parentheses too: count from its end.
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        Some(Self {
            zombie: fields.next()? == "Z",
            started: fields.nth(18)?.parse().ok()?,
        })
    }
}

/// A process that its number's next owner cannot take the place of.
#[derive(Debug)]
pub struct Handle(OwnedFd);

impl Handle {
    /// The process of a number.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn open(pid: i32) -> io::Result<Self> {
        let pid = Pid::from_raw(pid).ok_or(Errno::ESRCH)?;
        Ok(Self(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// A child.
    ///
    /// # Errors
    ///
    /// It was waited for.
    pub fn of(child: &Child) -> io::Result<Self> {
        Self::open(i32::try_from(child.id()).unwrap_or(-1))
    }

    /// Ends it at once.
    ///
    /// # Errors
    ///
    /// It has ended, or is another user's.
    pub fn kill(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.0, Signal::KILL)?)
    }

    /// Asks it to end.
    ///
    /// # Errors
    ///
    /// As of [`Self::kill`].
    pub fn terminate(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.0, Signal::TERM)?)
    }

    /// Waits for its end, `limit` at most, and says whether it came.
    ///
    /// # Errors
    ///
    /// The system cannot wait.
    pub fn ends_within(&self, limit: Duration) -> io::Result<bool> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut ask = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ask, timeout) {
                Ok(0) if left > Duration::from_millis(i32::MAX as u64) => {}
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Waits for a child; one that outlives `limit` is killed.
    ///
    /// # Errors
    ///
    /// It had to be killed, or cannot be waited for.
    pub fn wait(child: &mut Child, limit: Duration) -> io::Result<ExitStatus> {
        if Self::of(child)?.ends_within(limit)? {
            return child.wait();
        }
        child.kill()?;
        child.wait()?;
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {} s", limit.as_secs()),
        ))
    }
}
