//! Programs that work on disks. What they read is hostile, so that each is given a root in which
//! there is the disk and nothing else of the host, and has a deadline and an answer of bounded length.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::time::Duration;

use nix::sys::stat::{Mode, SFlag, mknod};
use onedock_common::process::confined::{Confinement, PrivateRoot};
use onedock_common::process::{Command, Output};

use crate::{owned, process};

/// Where a program finds the disk.
pub(super) const DISK: &str = "/disk";
/// Much longer than a growing file system takes.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How much of a reason is passed on, in bytes.
pub(super) const QUOTED: usize = 500;

/// Runs a program of Debian's `package` on the device of a node, and ends it with this one and after
/// `limit`.
pub(super) fn run(
    program: (&str, &'static str),
    arguments: &[&str],
    device: &Path,
    limit: Duration,
) -> io::Result<Output> {
    let command = command(program, arguments, device)?.within(limit);
    let output = command.spawned_by(process::spawn_bound).run();
    output.map_err(io::Error::other)
}

/// Runs a program that must not be cut off, because what it works on would be damaged: it outlives
/// this one, and is ended only after a day.
pub(super) fn run_to_its_end(
    program: (&str, &'static str),
    arguments: &[&str],
    device: &Path,
) -> io::Result<Output> {
    command(program, arguments, device)?
        .within(DAY)
        .run()
        .map_err(io::Error::other)
}

fn command(
    (name, package): (&str, &'static str),
    arguments: &[&str],
    device: &Path,
) -> io::Result<Command> {
    let number = fs::metadata(device)?.rdev();
    let user = owned::user()?;
    let root = PrivateRoot::new(user, move |root| {
        let node = root.join(DISK.trim_start_matches('/'));
        let mode = Mode::from_bits_truncate(0o600);
        mknod(&node, SFlag::S_IFBLK, mode, number)?;
        chown(node, Some(user.uid), Some(user.gid))
    });
    Ok(Command::new(name)
        .of_package(package)
        .confined(Confinement::to_root(root))
        .args(arguments))
}
