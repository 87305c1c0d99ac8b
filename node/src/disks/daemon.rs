//! A program that outlives its starter.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::errno::Errno;
use nix::unistd::setsid;
use rustix::fs::readlinkat_raw;

/// The longest number of a process in the kernel's text (`PID_MAX_LIMIT` has seven digits).
const DIGITS: usize = 16;

/// Starts `command` in its own session. Its process id is in `pid_file` before it begins, so that it is
/// known however this process ends: the number that it has for `proc`, the folder `/proc` of those who
/// look for it, and not its own one in its namespace.
pub(super) fn start(command: &mut Command, proc: File, pid_file: File) -> io::Result<Child> {
    // SAFETY: between fork and exec, only system calls are made, on memory that was laid before
    // the fork; nothing is allocated, and no lock is taken.
    unsafe {
        command.pre_exec(move || {
            let mut digits = [0; DIGITS];
            let length = readlinkat_raw(&proc, c"self", &mut digits)?;
            let text = digits.get(..length).ok_or(Errno::ERANGE)?;
            nix::unistd::write(&pid_file, text)?;
            setsid()?;
            Ok(())
        });
    }
    command.spawn()
}
