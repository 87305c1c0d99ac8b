//! Programs that must not outlive the process that started them.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

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
