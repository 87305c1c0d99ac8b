//! Programs that work on disks. What they read is hostile, so that each has a deadline, an empty
//! environment and an answer of bounded length.

use std::io;
use std::time::Duration;

use onedock_common::process::{Command, Output};

use crate::process;

/// Much longer than a growing file system takes.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How much of a reason is passed on, in bytes.
pub(super) const QUOTED: usize = 500;

/// Runs a program of Debian's `package`, and ends it with this one and after `limit`.
pub(super) fn run(
    (name, package): (&str, &'static str),
    arguments: &[&str],
    limit: Duration,
) -> io::Result<Output> {
    let command = command(name, package, arguments).within(limit);
    let output = command.spawned_by(process::spawn_bound).run();
    output.map_err(io::Error::other)
}

/// Runs a program that must not be cut off, because what it works on would be damaged: it outlives
/// this one, and is ended only after a day.
pub(super) fn run_to_its_end(
    (name, package): (&str, &'static str),
    arguments: &[&str],
) -> io::Result<Output> {
    command(name, package, arguments)
        .within(DAY)
        .run()
        .map_err(io::Error::other)
}

fn command(name: &str, package: &'static str, arguments: &[&str]) -> Command {
    Command::new(name)
        .of_package(package)
        .bare()
        .args(arguments)
}
