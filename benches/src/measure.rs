//! Figures and how they are taken.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use onedock_tests::engine_server::PrivateEngine;

/// Runs a command and writes the most memory that it had, in KiB, as the last line of output.
pub(crate) fn memory_of(words: Vec<OsString>) -> anyhow::Result<()> {
    let (program, arguments) = words.split_first().context("memory-of needs a command")?;
    let status = Command::new(program).args(arguments).status()?;
    ensure!(status.success(), "the command failed");
    println!("{}", getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss());
    Ok(())
}

/// What is measured: the engine with its storage driver, and the runtime behind ours.
pub(crate) fn versions(engine: &PrivateEngine, behind: &Path) -> anyhow::Result<String> {
    let format = "Docker Engine {{.ServerVersion}} ({{.Driver}})";
    let states = engine.folder().join("states");
    let engine = engine.docker(&["info", "-f", format])?;
    // crun makes its folder of states for any call that names none.
    let answer = Command::new(behind)
        .arg("--root")
        .arg(states)
        .arg("--version")
        .output()?
        .stdout;
    let answer = String::from_utf8_lossy(&answer);
    let runtime = answer.lines().next().unwrap_or_default();
    Ok(format!("{engine} and {}", runtime.replace(" version", "")))
}

/// Several times of one thing.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The middle one in milliseconds.
    pub(crate) fn median(&self) -> f64 {
        self.at(0.5)
    }

    fn at(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into some dozens of times"
        )]
        let index = ((sorted.len().saturating_sub(1)) as f64 * part).round() as usize;
        sorted.get(index).map_or(0.0, |t| t.as_secs_f64() * 1000.0)
    }

    /// `median (fastest to slowest)`.
    pub(crate) fn row(&self) -> String {
        format!(
            "{:7.1} ms   ({:.1} to {:.1})",
            self.median(),
            self.at(0.0),
            self.at(1.0)
        )
    }
}
