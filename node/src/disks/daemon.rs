//! A program that outlives its starter, in a root file system of its own.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, getpid, pivot_root, setsid};

/// Starts `command` in its own session and with `root` as its root; nothing else of the host's
/// files is there. Its process id is in `pid_file` before it begins, so that it is known however
/// this process ends.
pub(super) fn start(command: &mut Command, root: &Path, pid_file: File) -> io::Result<Child> {
    let root = root.to_owned();
    // SAFETY: between fork and exec, only system calls are made, on memory that was laid before
    // the fork; nothing is allocated, and no lock is taken.
    unsafe {
        command.pre_exec(move || {
            let mut digits = [0; 12];
            let text = decimal(getpid().as_raw(), &mut digits);
            nix::unistd::write(&pid_file, text)?;
            setsid()?;
            unshare(CloneFlags::CLONE_NEWNS)?;
            chdir(root.as_path())?;
            // The old root lies over the new one at the same place, and goes.
            pivot_root(".", ".")?;
            umount2(".", MntFlags::MNT_DETACH)?;
            Ok(chdir("/")?)
        });
    }
    command.spawn()
}

fn decimal(number: i32, digits: &mut [u8; 12]) -> &[u8] {
    let mut rest = number.unsigned_abs();
    let mut at = digits.len();
    while at > 0 {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    digits.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_id_is_written_without_memory() {
        for number in [0, 7, 10, 4_194_304, i32::MAX] {
            assert_eq!(decimal(number, &mut [0; 12]), number.to_string().as_bytes());
        }
    }
}
