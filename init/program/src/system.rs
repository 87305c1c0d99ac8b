//! Signals of process 1, and what a child does before it becomes a program.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::ptr;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{Gid, Pid, Uid};

use crate::arguments::User;

/// Blocks all signals, so that none is lost between two waits.
pub(crate) fn block_all_signals() {
    let all = nix::sys::signal::SigSet::all();
    let _ = all.thread_set_mask();
}

/// Takes none any more: what is executed next in this process has them as a program expects.
pub(crate) fn unblock_all_signals() -> io::Result<()> {
    let none = nix::sys::signal::SigSet::empty();
    none.thread_set_mask().map_err(io::Error::from)
}

/// Waits for a signal; none when the wait was interrupted (by a stop and continue). Real-time signals too,
/// which `nix` has no names for.
pub(crate) fn next_signal() -> Option<i32> {
    let all = nix::sys::signal::SigSet::all();
    // SAFETY: the set is read during the call only, and no details are asked for.
    let number = unsafe { libc::sigwaitinfo(ptr::from_ref(all.as_ref()), ptr::null_mut()) };
    (number > 0).then_some(number)
}

/// Waits for any signal, at most so long.
pub(crate) fn wait_for_signal(limit: Duration) {
    let all = nix::sys::signal::SigSet::all();
    let limit = nix::sys::time::TimeSpec::from_duration(limit);
    // SAFETY: set and time are read during the call only, and no details are asked for.
    unsafe {
        libc::sigtimedwait(
            ptr::from_ref(all.as_ref()),
            ptr::null_mut(),
            ptr::from_ref(limit.as_ref()),
        );
    }
}

/// Sends a signal by its number; a process that is gone needs none.
pub(crate) fn send(process: Pid, signal: i32) {
    // SAFETY: takes plain numbers.
    unsafe {
        libc::kill(process.as_raw(), signal);
    }
}

/// Takes one ended child: which, and the exit code by which its end is passed on. `None` when none has ended.
/// Without `nix`, which loses a child that ended by a real-time signal.
pub(crate) fn reap_one() -> Option<(Pid, i32)> {
    loop {
        let mut status = 0;
        // SAFETY: the status is written during the call only.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid < 0 && Errno::last() == Errno::EINTR {
            continue;
        }
        if pid <= 0 {
            return None;
        }
        if libc::WIFEXITED(status) {
            return Some((Pid::from_raw(pid), libc::WEXITSTATUS(status)));
        }
        if libc::WIFSIGNALED(status) {
            return Some((Pid::from_raw(pid), 128 + libc::WTERMSIG(status)));
        }
    }
}

/// Lets a child begin with no signal blocked: process 1 blocks them all.
pub(crate) fn with_signals(command: &mut Command) {
    // SAFETY: one system call, on the child's own mask.
    unsafe {
        command.pre_exec(unblock_all_signals);
    }
}

/// Lets a child be apart from the session and the terminal of whoever started it.
pub(crate) fn detached(command: &mut Command) {
    // SAFETY: two system calls that concern the child alone.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            unblock_all_signals()
        });
    }
}

/// Lets a child be the VM's command: in the terminal's foreground where there is one, and as `user`.
pub(crate) fn as_command(command: &mut Command, user: Option<User>) {
    // SAFETY: between fork and exec of a process with one thread: system calls only, on memory that was
    // there before the fork.
    unsafe {
        command.pre_exec(move || {
            foreground();
            become_user(user.as_ref())?;
            unblock_all_signals()
        });
    }
}

/// A process group of its own, and the terminal's foreground one. All signals are blocked here, so that
/// the terminal does not stop the child for it.
fn foreground() {
    let own = Pid::from_raw(0);
    let _ = nix::unistd::setpgid(own, own);
    let stdin = io::stdin();
    if nix::unistd::isatty(&stdin).unwrap_or(false) {
        let _ = nix::unistd::tcsetpgrp(&stdin, nix::unistd::getpgrp());
    }
}

/// Takes the user's numbers, if they are not root's. What it writes to becomes its own before, as the
/// runtime does it, because `/dev/stdout` is opened by its owner only.
pub(crate) fn become_user(user: Option<&User>) -> io::Result<()> {
    let Some(user) = user else { return Ok(()) };
    let (uid, gid) = (Uid::from_raw(user.user), Gid::from_raw(user.group));
    let _ = nix::unistd::fchown(io::stdin(), Some(uid), None);
    let _ = nix::unistd::fchown(io::stdout(), Some(uid), None);
    let _ = nix::unistd::fchown(io::stderr(), Some(uid), None);
    // SAFETY: the list is read during the call only; group ids are plain numbers.
    let set = unsafe { libc::setgroups(user.groups.len(), user.groups.as_ptr()) };
    Errno::result(set)?;
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)?;
    Ok(())
}
