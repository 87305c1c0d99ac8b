//! Makes a call as `oned` makes it, and holds it to the rules of the contract that are the same
//! for all: exit code, standard output, at most one line on standard error.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use onedock_common::opennebula::oned::{self, Reply};
use onedock_common::process::Command;
use onedock_common::wait;

use super::cloud::Cloud;
use super::mapping::Mapping;
use super::recording::Call;

/// How often each call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// As recorded.
    Once,
    /// Twice in a row.
    Twice,
    /// Ended by KILL somewhere, then once more.
    CutOff,
}

/// Makes calls on one cloud.
#[derive(Debug)]
pub struct Performer<'a> {
    cloud: &'a Cloud,
    /// The replacements; it learns SOURCEs.
    pub mapping: Mapping,
    repeat: Repeat,
    random: Random,
    /// How long the same kind of call took when it was left alone.
    took: HashMap<String, Duration>,
}

impl<'a> Performer<'a> {
    /// With a seed for where calls are cut off.
    pub fn new(cloud: &'a Cloud, seed: u64) -> Self {
        Self {
            cloud,
            mapping: Mapping::new(cloud.registry.address()),
            repeat: Repeat::Once,
            random: Random(seed),
            took: HashMap::new(),
        }
    }

    /// How the next calls are made.
    pub fn set_repeat(&mut self, repeat: Repeat) {
        self.repeat = repeat;
    }

    /// Makes the call; answers its standard output, without the line's end.
    pub fn perform(&mut self, call: &Call) -> Result<String> {
        let call = self.mapping.apply(call)?;
        match self.repeat {
            Repeat::Once => self.whole(&call),
            Repeat::Twice => {
                let first = self.whole(&call)?;
                let again = self.whole(&call).context("the second time")?;
                ensure!(
                    first == again || matches!(call.action.as_str(), "monitor" | "restore"),
                    "{}: answered {first:?}, then {again:?}",
                    call.title()
                );
                Ok(again)
            }
            Repeat::CutOff => {
                let how = self.cut_off(&call)?;
                self.whole(&call).context(how)
            }
        }
    }

    /// Begins the call and ends it by KILL; answers how, for a failure after it.
    pub fn begin(&mut self, call: &Call) -> Result<String> {
        let call = self.mapping.apply(call)?;
        self.cut_off(&call)
    }

    fn cut_off(&mut self, call: &Call) -> Result<String> {
        let took = self.took.get(&kind(call)).copied();
        let after = self
            .random
            .below(took.unwrap_or(Duration::from_millis(100)) * 11 / 10);
        // A driver alone, as the system's memory killer ends it, or with what it has started, as
        // a restart of `oned` does.
        let group = self.random.next().is_multiple_of(2);
        let machine = self.cloud.machine(call.host()?)?;
        let made = as_oned(call)?;
        machine.inside(|| cut_off(&made, &call.stdin, after, group))?;
        Ok(format!(
            "after {} was cut off at {after:?}, group: {group}",
            call.title()
        ))
    }

    fn whole(&mut self, call: &Call) -> Result<String> {
        let begin = Instant::now();
        let machine = self.cloud.machine(call.host()?)?;
        let made = as_oned(call)?;
        let reply = machine
            .inside(|| Ok(Reply::from(made.run()?)))
            .with_context(|| call.title())?;
        self.took.insert(kind(call), begin.elapsed());
        check(&reply, call).with_context(|| format!("{} of {}", call.title(), call.operation))
    }
}

fn kind(call: &Call) -> String {
    format!("{} {}", call.driver, call.action)
}

/// Holds an answer to what the contract allows the action.
fn check(reply: &Reply, call: &Call) -> Result<String> {
    ensure!(reply.succeeded(), "{reply:?}");
    let only_notes = reply.stderr.lines().all(|line| line.starts_with("INFO: "));
    ensure!(only_notes, "standard error {:?}", reply.stderr);
    // What the recorded template asks for without effect is noted, once each.
    let unsupported = reply
        .stderr
        .matches(" is not supported by this version")
        .count();
    let first = call.action == "deploy" && call.operation == "create";
    ensure!(
        !first || unsupported == 1,
        "{unsupported} lines about what is not supported: {:?}",
        reply.stderr
    );
    let lines: Vec<&str> = reply.stdout.lines().collect();
    ensure!(
        reply.stdout.is_empty() || reply.stdout.ends_with('\n'),
        "stdout {:?}",
        reply.stdout
    );
    let right = match (call.driver.as_str(), call.action.as_str(), lines.as_slice()) {
        ("vmm", "deploy", [id]) => *id == format!("one-{}", call.args[2]),
        ("datastore", "stat", [_]) => reply.size_mb().is_ok_and(|mb| mb >= 1),
        // `oned` keeps the deploy id that it has.
        ("vmm", "restore", []) => true,
        ("vmm", "restore", [id]) => *id == call.args[2],
        ("datastore", "cp" | "clone", [_]) => reply
            .source_and_format()
            .is_ok_and(|(source, format)| is_source(source) && matches!(format, "raw" | "qcow2")),
        ("datastore", "mkfs", [line]) => {
            is_source(line.split_once(' ').map_or(line, |(source, _)| source))
        }
        ("datastore", "export", lines) => lines
            .first()
            .is_some_and(|line| line.starts_with("<IMPORT_INFO>")),
        ("datastore", "monitor", [used, total, free]) => {
            [(used, "USED_MB="), (total, "TOTAL_MB="), (free, "FREE_MB=")]
                .iter()
                .all(|(line, name)| {
                    line.strip_prefix(name)
                        .is_some_and(|n| n.parse::<u64>().is_ok())
                })
        }
        ("vmm", "deploy", _) | ("datastore", "stat" | "cp" | "clone" | "mkfs" | "monitor", _) => {
            false
        }
        (_, _, lines) => lines.is_empty(),
    };
    ensure!(right, "stdout {:?}", reply.stdout);
    Ok(reply.stdout.trim_end().to_owned())
}

fn is_source(text: &str) -> bool {
    text.starts_with("docker://")
        && text
            .rsplit_once("@sha256:")
            .is_some_and(|(_, hex)| hex.len() == 64)
}

/// The script in the environment that the recording shows, run as oneadmin. A `sh` of ours is
/// not needed in between: the shim is the recorded path.
fn as_oned(call: &Call) -> Result<Command> {
    ensure!(call.user == "oneadmin", "recorded for {}", call.user);
    let made = oned::call(&call.script, &call.user)
        .bare()
        .in_folder(&call.cwd)
        .args(&call.args)
        .input(call.stdin.as_bytes());
    let environment = call.env.iter();
    Ok(environment.fold(made, |made, (name, value)| made.env(name, value)))
}

/// Begins the call and ends it by KILL after a time, unless it was faster.
fn cut_off(command: &Command, input: &str, after: Duration, group: bool) -> Result<()> {
    let mut child = command
        .prepare()?
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let stdin = child.stdin.take();
    thread::scope(|scope| {
        if let Some(mut stdin) = stdin {
            scope.spawn(move || stdin.write_all(input.as_bytes()));
        }
        let ended = || child.try_wait().transpose();
        let _ = wait::until(after, ended).transpose()?;
        let pid = pid(&child)?;
        let _ = if group {
            killpg(pid, Signal::SIGKILL)
        } else {
            kill(pid, Signal::SIGKILL)
        };
        child.wait()?;
        Ok(())
    })
}

fn pid(child: &Child) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(child.id())?))
}

/// A small generator (xorshift64), so that a seed names a run.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        let mut x = self.0.max(1);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0 = x;
        x
    }

    fn below(&mut self, limit: Duration) -> Duration {
        let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.next() % micros)
    }
}
