//! `make bench`: what a deploy costs, side by side with `docker run -d` on a bridge, and what keeping
//! and moving disks costs, side by side with `docker commit`, `push`, `pull` and `run`; in one run
//! and in turns, so that a loaded machine slows both. Everything timed is checked: an address
//! answered, 100 MB are what they were, or the bench fails. Ratios are the result; milliseconds are
//! this machine's.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

mod bench;
mod by_hand;
mod deploy;
mod disks;
mod document;
mod drive;
mod front;
mod measure;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let done = match arguments.next() {
        // The bench calls itself, so that a program's memory is that of one child.
        Some(word) if word == "memory-of" => measure::memory_of(arguments.collect()),
        Some(programs) => run(PathBuf::from(programs)),
        None => run(PathBuf::from("dist/bin")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            println!("bench failed: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(programs: PathBuf) -> anyhow::Result<()> {
    let programs = programs
        .canonicalize()
        .context("the programs are not built; run 'make build'")?;
    if !nix::unistd::geteuid().is_root() {
        bail!("the bench needs root: it makes an engine and network namespaces of its own");
    }
    for candidates in [&["/usr/bin/crun"][..], &["/usr/bin/runc", "/usr/sbin/runc"]] {
        if let Some(behind) = candidates.iter().map(Path::new).find(|path| path.exists()) {
            deploy::bench(&programs, behind)?;
            disks::bench(&programs, behind)?;
        }
    }
    Ok(())
}
