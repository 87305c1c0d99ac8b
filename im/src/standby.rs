//! The standby: a process that sleeps until the agent is gone and becomes the agent then.
//!
//! `monitord` starts a client anew when it has heard nothing of its host for
//! MONITORING_INTERVAL_HOST (180 s), and after 300 s more when its last start was never answered
//! (`src/monitor/src/monitor/HostMonitorManager.cc`). Until then nobody would report what becomes of
//! this host's VMs. So the agent has a child that waits on a pipe whose other end only the agent
//! has: the kernel closes it, however the agent ends. A standby that is gone is replaced by the
//! agent. It starts what has the program's path then, so that an agent that sees its program replaced
//! only has to end. Who ends both for good removes the request that they serve first
//! ([`crate::instance::Instance::end_earlier`]).

use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::unistd::setsid;

use crate::instance::{Instance, Token};
use crate::program;

/// How `ps` and `pkill` see the two.
const AGENT: &str = "onedock-im";
const STANDBY: &str = "onedock-standby";
/// An agent that lived for less has failed, and the next one is not started at once.
const HEALTHY: Duration = Duration::from_secs(60);
/// The longest pause before the next one.
const MOST: Duration = Duration::from_secs(30);
/// The most failures that are counted.
const FAILURES: u32 = 16;

/// How often one agent after the other has ended soon after its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failures(u32);

impl Failures {
    /// Of an agent that OpenNebula has started.
    pub const NONE: Self = Self(0);

    /// What is counted of the next agent.
    fn after(self, lived: Duration) -> Self {
        if lived < HEALTHY {
            Self((self.0 + 1).min(FAILURES))
        } else {
            Self::NONE
        }
    }

    fn pause(self) -> Duration {
        match self.0 {
            0 => Duration::ZERO,
            n => Duration::from_secs(1 << n.min(5)).min(MOST),
        }
    }
}

impl std::str::FromStr for Failures {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(n) if n <= FAILURES => Ok(Self(n)),
            _ => Err(format!("\"{text}\" is not a number of failures")),
        }
    }
}

/// Starts a standby for this agent, and another one whenever it is gone, in a thread.
pub fn keep(instance: Instance, token: Token, failures: Failures) {
    let body = move || {
        let mut pause = Duration::from_secs(1);
        loop {
            let begun = Instant::now();
            match spawn(&instance, &token, failures) {
                Ok((mut child, line)) => {
                    // The standby sees its end of the pipe closed when this process is gone.
                    let ended = child.wait();
                    drop(line);
                    tracing::warn!(?ended, "the standby is gone; another one is started");
                }
                Err(error) => tracing::warn!(%error, "there is no standby"),
            }
            if begun.elapsed() > HEALTHY {
                pause = Duration::from_secs(1);
            }
            onedock_common::wait::pause(pause);
            pause = (pause * 2).min(MOST);
        }
    };
    let thread = thread::Builder::new()
        .name("standby".into())
        .stack_size(256 * 1024);
    if let Err(error) = thread.spawn(body) {
        tracing::warn!(%error, "there is no standby");
    }
}

fn spawn(
    instance: &Instance,
    token: &Token,
    failures: Failures,
) -> Result<(Child, impl Sized), Box<dyn std::error::Error>> {
    let mut child = Command::new(program::newest())
        .arg0(STANDBY)
        .args(["standby", &instance.host().to_string(), token.as_str()])
        .arg(failures.0.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let line = child.stdin.take();
    instance.note_standby(child.id())?;
    Ok((child, line))
}

/// The standby's life: returns when it is not wanted any more, and as an error when it cannot
/// become the agent.
pub fn wait(instance: &Instance, token: &Token, failures: Failures) -> io::Result<()> {
    let _ = setsid();
    let _ = prctl::set_name(c"onedock-standby");
    let begun = Instant::now();
    // Nothing is ever written to it.
    io::stdin().read_to_end(&mut Vec::new())?;
    let failures = failures.after(begun.elapsed());
    let until = Instant::now() + failures.pause();
    loop {
        if instance.request(token).is_none() {
            return Ok(());
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        onedock_common::wait::pause(left);
    }
    Err(Command::new(program::newest())
        .arg0(AGENT)
        .args(["resume", &instance.host().to_string(), token.as_str()])
        .arg(failures.0.to_string())
        .stdin(Stdio::null())
        .exec())
}

/// Gives the process the name of the agent; a program that is run by another path has that one's.
pub fn name_agent() {
    let _ = prctl::set_name(c"onedock-im");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_fails_again_and_again_is_started_less_and_less_often() {
        let soon = Duration::from_secs(3);
        let mut failures = Failures::NONE;
        assert_eq!(failures.pause(), Duration::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..40 {
            failures = failures.after(soon);
            pauses.push(failures.pause().as_secs());
        }
        assert_eq!(pauses[..6], [2, 4, 8, 16, 30, 30]);
        assert_eq!(pauses[39], 30);
        assert_eq!(failures.0.to_string().parse(), Ok(failures));
        assert_eq!(failures.after(HEALTHY), Failures::NONE);
        assert!("17".parse::<Failures>().is_err() && "x".parse::<Failures>().is_err());
    }
}
