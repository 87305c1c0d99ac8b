//! Processes: programs that are run with a deadline, and handles that no other process can take over.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Starts a program that dies with the thread that started it.
pub(crate) fn spawn_bound(command: &mut Command) -> io::Result<Child> {
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe and takes
    // plain numbers.
    unsafe {
        command.pre_exec(|| {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(Into::into)
        });
    }
    command.spawn()
}

/// Waits for a child; one that outlives the deadline is killed.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> io::Result<ExitStatus> {
    let process = pidfd(i32::try_from(child.id()).unwrap_or(-1))?;
    if ended_within(&process, limit)? {
        return child.wait();
    }
    child.kill()?;
    child.wait()?;
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("no answer within {} s", limit.as_secs()),
    ))
}

/// A handle of a process that its number's next owner cannot inherit.
pub(crate) fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(Errno::ESRCH)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Ends the process of this handle at once.
pub(crate) fn kill(process: &OwnedFd) -> io::Result<()> {
    Ok(pidfd_send_signal(process, Signal::KILL)?)
}

/// Asks the process of this handle to end.
pub(crate) fn terminate(process: &OwnedFd) -> io::Result<()> {
    Ok(pidfd_send_signal(process, Signal::TERM)?)
}

/// A step of a wait that has a predicate and a limit.
pub(crate) fn pause(step: Duration) {
    let timeout = PollTimeout::try_from(step).unwrap_or(PollTimeout::ZERO);
    let _ = poll(&mut [], timeout);
}

/// Whether the process ends within `limit`.
pub(crate) fn ended_within(process: &OwnedFd, limit: Duration) -> io::Result<bool> {
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut ask = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ask, timeout) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_child_that_hangs_is_ended_at_its_deadline() {
        let start = Instant::now();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let error = wait(&mut child, Duration::from_millis(30)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() < Duration::from_secs(5));
        let mut quick = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
        assert!(wait(&mut quick, Duration::from_secs(5)).unwrap().success());
    }
}
