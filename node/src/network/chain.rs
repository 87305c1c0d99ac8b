//! OpenNebula's own chain `opennebula`, in OpenNebula's own form (`global_bootstrap` in
//! `src/vnm_mad/remotes/lib/security_groups_iptables.rb`, releases 6.10 to 7.4): bridged traffic
//! jumps to it, and it accepts by default. Docker sets the policy of FORWARD to DROP, which cuts
//! VM from VM on one bridge wherever bridged packets pass iptables; this mends it, and
//! OpenNebula's network drivers reuse a chain that is there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use onedock_common::process::{Command, ProcessError};
use thiserror::Error;

use crate::state_folder::{self, RUN};

const CHAIN: &str = "opennebula";

/// The longest that one call may take; within it, the tool waits for others who hold its lock.
const LIMIT: Duration = Duration::from_secs(10);
const WAIT: &str = "5";
/// How much of a reason is passed on, in bytes.
const QUOTED: usize = 500;

/// Why the chain is not there.
#[derive(Debug, Error)]
pub enum ChainError {
    /// The tool is not installed.
    #[error("{0} is not installed; bridged traffic between VMs needs it (package iptables)")]
    NoTool(&'static str),
    /// A call failed.
    #[error("{tool} {args} failed: {reason}")]
    Failed {
        /// iptables or ip6tables.
        tool: &'static str,
        args: String,
        /// Its error.
        reason: String,
    },
    #[error("{path} cannot be locked: {source}")]
    Lock {
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// Makes sure of the chain in IPv4 and IPv6, where bridged packets pass iptables at all.
pub fn ensure() -> Result<(), ChainError> {
    for (tool, switch) in [
        ("iptables", "/proc/sys/net/bridge/bridge-nf-call-iptables"),
        ("ip6tables", "/proc/sys/net/bridge/bridge-nf-call-ip6tables"),
    ] {
        // A kernel without IPv6 has the switch all the same, and no tables.
        let absent = tool == "ip6tables" && !Path::new("/proc/net/if_inet6").exists();
        if !absent && fs::read_to_string(switch).is_ok_and(|text| text.trim() == "1") {
            Tool(tool).ensure(Path::new(RUN))?;
        }
    }
    Ok(())
}

/// `iptables` or `ip6tables`.
struct Tool(&'static str);

impl Tool {
    /// One call when all is well; else what is missing is added, by one process at a time.
    fn ensure(&self, run: &Path) -> Result<(), ChainError> {
        const JUMP: [&str; 6] = [
            "FORWARD",
            "-m",
            "physdev",
            "--physdev-is-bridged",
            "-j",
            CHAIN,
        ];
        const ACCEPT: [&str; 3] = [CHAIN, "-j", "ACCEPT"];
        if self.try_call("-C", &JUMP)?.is_ok() {
            return Ok(());
        }
        let _lock = lock(run)?;
        if self.try_call("-C", &JUMP)?.is_ok() {
            return Ok(());
        }
        if self.try_call("-S", &[CHAIN])?.is_err() {
            self.call("-N", &[CHAIN])?;
        }
        if self.try_call("-C", &ACCEPT)?.is_err() {
            self.call("-A", &ACCEPT)?;
        }
        // OpenNebula jumps without the match where it routes instead of bridging.
        if self.try_call("-C", &["FORWARD", "-j", CHAIN])?.is_err() {
            self.call("-A", &JUMP)?;
        }
        Ok(())
    }

    fn call(&self, verb: &str, rule: &[&str]) -> Result<(), ChainError> {
        self.try_call(verb, rule)?
            .map_err(|reason| ChainError::Failed {
                tool: self.0,
                args: format!("{verb} {}", rule.join(" ")),
                reason,
            })
    }

    /// The inner error is the tool's "no".
    fn try_call(&self, verb: &str, rule: &[&str]) -> Result<Result<(), String>, ChainError> {
        let output = Command::new(self.0)
            .bare()
            .args(["-w", WAIT, verb])
            .args(rule)
            .within(LIMIT)
            .run();
        match output {
            Ok(output) if output.succeeded() => Ok(Ok(())),
            Ok(output) => Ok(Err(output.reason(QUOTED))),
            Err(ProcessError::NotInstalled { .. }) => Err(ChainError::NoTool(self.0)),
            Err(error) => Err(ChainError::Failed {
                tool: self.0,
                args: format!("{verb} {}", rule.join(" ")),
                reason: error.to_string(),
            }),
        }
    }
}

fn lock(run: &Path) -> Result<File, ChainError> {
    let path = run.join("chain.lock");
    let locked = (|| {
        state_folder::make(run)?;
        let file = File::options().create(true).append(true).open(&path)?;
        file.lock()?;
        Ok(file)
    })();
    locked.map_err(|source| ChainError::Lock { path, source })
}
