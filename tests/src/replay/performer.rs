//! Makes a call as `oned` makes it, and holds it to the rules of the contract that are the same
//! for all: exit code, standard output, at most one line on standard error.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::bed::Bed;
use super::mapping::Mapping;
use super::recording::Call;

/// No call of a replay takes longer.
const LIMIT: Duration = Duration::from_secs(300);

/// How often each call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As recorded.
    Once,
    /// Twice in a row.
    Twice,
    /// Ended by KILL somewhere, then once more.
    CutOff,
}

/// Makes calls on one bed.
#[derive(Debug)]
pub struct Performer<'a> {
    bed: &'a Bed,
    /// The replacements; it learns SOURCEs.
    pub mapping: Mapping,
    manner: Manner,
    random: Random,
    /// How long the same kind of call took when it was left alone.
    took: HashMap<String, Duration>,
}

impl<'a> Performer<'a> {
    /// With a seed for where calls are cut off.
    pub fn new(bed: &'a Bed, seed: u64) -> Self {
        Self {
            bed,
            mapping: Mapping::new(bed.registry.address()),
            manner: Manner::Once,
            random: Random(seed),
            took: HashMap::new(),
        }
    }

    /// How the next calls are made.
    pub fn become_manner(&mut self, manner: Manner) {
        self.manner = manner;
    }

    /// Makes the call; answers its standard output, without the line's end.
    pub fn perform(&mut self, call: &Call) -> Result<String> {
        let call = self.mapping.apply(call)?;
        match self.manner {
            Manner::Once => self.whole(&call),
            Manner::Twice => {
                let first = self.whole(&call)?;
                let again = self.whole(&call).context("the second time")?;
                ensure!(
                    first == again || matches!(call.action.as_str(), "monitor" | "restore"),
                    "{}: answered {first:?}, then {again:?}",
                    call.title()
                );
                Ok(again)
            }
            Manner::CutOff => {
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
        let machine = self.bed.machine(call.host()?)?;
        machine.inside(|| cut_off(self.bed, call, after, group))?;
        Ok(format!(
            "after {} was cut off at {after:?}, group: {group}",
            call.title()
        ))
    }

    fn whole(&mut self, call: &Call) -> Result<String> {
        let begin = Instant::now();
        let machine = self.bed.machine(call.host()?)?;
        let reply = machine
            .inside(|| run(self.bed, call))
            .with_context(|| call.title())?;
        self.took.insert(kind(call), begin.elapsed());
        reply
            .check(call)
            .with_context(|| format!("{} of {}", call.title(), call.operation))
    }
}

fn kind(call: &Call) -> String {
    format!("{} {}", call.driver, call.action)
}

/// What `oned` sees.
#[derive(Debug)]
struct Reply {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Reply {
    fn check(&self, call: &Call) -> Result<String> {
        ensure!(
            self.status.code() == Some(0),
            "{}, stdout {:?}, stderr {:?}",
            self.status,
            self.stdout,
            self.stderr
        );
        let only_notes = self.stderr.lines().all(|line| line.starts_with("INFO: "));
        ensure!(only_notes, "standard error {:?}", self.stderr);
        // What the recorded template asks and is not served is said, once each.
        let unserved = self
            .stderr
            .matches(" is not served by this version")
            .count();
        let first = call.action == "deploy" && call.operation == "create";
        ensure!(
            !first || unserved == 6,
            "{unserved} lines about what is not served: {:?}",
            self.stderr
        );
        let lines: Vec<&str> = self.stdout.lines().collect();
        ensure!(
            self.stdout.is_empty() || self.stdout.ends_with('\n'),
            "stdout {:?}",
            self.stdout
        );
        let right = match (call.driver.as_str(), call.action.as_str(), lines.as_slice()) {
            ("vmm", "deploy", [id]) => *id == format!("one-{}", call.args[2]),
            ("datastore", "stat", [size]) => size.parse::<u64>().is_ok_and(|mb| mb >= 1),
            // `oned` keeps the deploy id that it has.
            ("vmm", "restore", []) => true,
            ("vmm", "restore", [id]) => *id == call.args[2],
            ("datastore", "cp" | "clone", [line]) => is_source_and_format(line),
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
            ("vmm", "deploy", _)
            | ("datastore", "stat" | "cp" | "clone" | "mkfs" | "monitor", _) => false,
            (_, _, lines) => lines.is_empty(),
        };
        ensure!(right, "stdout {:?}", self.stdout);
        Ok(self.stdout.trim_end().to_owned())
    }
}

fn is_source_and_format(line: &str) -> bool {
    line.split_once(' ')
        .is_some_and(|(source, format)| is_source(source) && matches!(format, "raw" | "qcow2"))
}

fn is_source(text: &str) -> bool {
    text.starts_with("docker://")
        && text
            .rsplit_once("@sha256:")
            .is_some_and(|(_, hex)| hex.len() == 64)
}

/// The script in the environment that the recording shows, run as oneadmin. A `sh` of ours is
/// not needed in between: the shim is the recorded path.
fn command(bed: &Bed, call: &Call) -> Result<Command> {
    ensure!(call.user == "oneadmin", "recorded for {}", call.user);
    let who = bed.oneadmin;
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={}", who.uid))
        .arg(format!("--regid={}", who.gid))
        .arg(format!("--groups={},{}", who.gid, who.docker))
        .arg("--")
        .arg(&call.script)
        .args(&call.args)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/var/lib/one")
        .env("USER", "oneadmin")
        .envs(&call.env)
        .current_dir(&call.cwd)
        .process_group(0)
        .stdin(Stdio::piped());
    Ok(command)
}

fn run(bed: &Bed, call: &Call) -> Result<Reply> {
    let mut child = command(bed, call)?
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let mut stdout = child.stdout.take().context("no standard output")?;
    let mut stderr = child.stderr.take().context("no standard error")?;
    thread::scope(|scope| {
        // One that does not read all of it is not at fault.
        scope.spawn(move || {
            let _ = stdin.write_all(call.stdin.as_bytes());
        });
        let out = scope.spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let err = scope.spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).map(|_| text)
        });
        let status = wait(&mut child, LIMIT)?;
        let joined =
            |text: thread::ScopedJoinHandle<'_, std::io::Result<String>>| -> Result<String> {
                match text.join() {
                    Ok(text) => Ok(text?),
                    Err(_) => bail!("a reader has panicked"),
                }
            };
        let (stdout, stderr) = (joined(out)?, joined(err)?);
        let status = status
            .with_context(|| format!("no end within {} s; stderr {stderr:?}", LIMIT.as_secs()))?;
        Ok(Reply {
            status,
            stdout,
            stderr,
        })
    })
}

/// Waits; after the limit the call is ended, with all that it has started.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let begin = Instant::now();
    while begin.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        onedock_common::wait::pause(Duration::from_millis(1));
    }
    let _ = killpg(pid(child)?, Signal::SIGKILL);
    child.wait()?;
    Ok(None)
}

/// Begins the call and ends it by KILL after a time, unless it was faster.
fn cut_off(bed: &Bed, call: &Call, after: Duration, group: bool) -> Result<()> {
    let mut child = command(bed, call)?
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let text = call.stdin.clone();
    let writer = thread::spawn(move || {
        let _ = stdin.write_all(text.as_bytes());
    });
    let begin = Instant::now();
    while begin.elapsed() < after && child.try_wait()?.is_none() {
        onedock_common::wait::pause(Duration::from_micros(200));
    }
    let pid = pid(&child)?;
    let _ = if group {
        killpg(pid, Signal::SIGKILL)
    } else {
        kill(pid, Signal::SIGKILL)
    };
    child.wait()?;
    let _ = writer.join();
    Ok(())
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
