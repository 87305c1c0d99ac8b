//! Other programs, run with a deadline or put in this one's place.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::kernel::args::Call;

/// Puts the real runtime in the place of this process, with the call's own arguments. Answers
/// only when that failed.
pub fn replace(runtime: &Path, call: &Call) -> io::Error {
    Command::new(runtime).args(call.args()).exec()
}

/// Starts the real runtime with the call's own arguments; it inherits everything, and it dies
/// with this process, as it would if the engine had started it itself.
pub fn spawn(runtime: &Path, call: &Call) -> io::Result<Child> {
    let mut command = Command::new(runtime);
    command.args(call.args());
    spawn_bound(&mut command)
}

/// Starts a program that dies with the thread that started it.
pub fn spawn_bound(command: &mut Command) -> io::Result<Child> {
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe and takes
    // plain numbers.
    unsafe {
        command.pre_exec(|| {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(Into::into)
        });
    }
    command.spawn()
}

/// The exit code by which this process passes on how the child ended.
pub fn code_of(status: ExitStatus) -> ExitCode {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Waits for a child; one that outlives the deadline is killed.
pub fn wait(child: &mut Child, limit: Duration) -> io::Result<ExitStatus> {
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
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two plain numbers.
    let fd = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) };
    let fd = Errno::result(fd)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just handed out this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Ends the process of this handle at once.
pub fn kill(process: &OwnedFd) -> io::Result<()> {
    signal(process, nix::libc::SIGKILL)
}

/// Asks the process of this handle to end.
pub fn ask_to_end(process: &OwnedFd) -> io::Result<()> {
    signal(process, nix::libc::SIGTERM)
}

fn signal(process: &OwnedFd, number: i32) -> io::Result<()> {
    let none = std::ptr::null::<nix::libc::siginfo_t>();
    // SAFETY: the descriptor is an open pidfd; without details the kernel fills them in.
    let done = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            number,
            none,
            0,
        )
    };
    Errno::result(done).map(drop).map_err(Into::into)
}

/// A step of a wait that has a predicate and a limit.
pub fn pause(step: Duration) {
    let timeout = PollTimeout::try_from(step).unwrap_or(PollTimeout::ZERO);
    let _ = poll(&mut [], timeout);
}

/// Whether the process ends within `limit`.
pub fn ended_within(process: &OwnedFd, limit: Duration) -> io::Result<bool> {
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
    use super::*;
    use std::process::Stdio;

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

    #[test]
    fn exit_codes_and_signals_are_passed_on() {
        for (status, code) in [(0, 0), (3 << 8, 3), (9, 137)] {
            assert_eq!(code_of(ExitStatus::from_raw(status)), ExitCode::from(code));
        }
    }
}
