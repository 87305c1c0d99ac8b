//! The actions of `src/vmm_mad/remotes`, each in a module named like it.

mod cancel;
mod deploy;
mod ending;
#[cfg(test)]
mod fault_tests;
mod reboot;
mod reset;
mod shutdown;

use std::str::FromStr;
use std::time::Duration;

use onedock_common::answer::Answer;
use onedock_common::engine::Engine;
use thiserror::Error;

use crate::Host;
use crate::request::{DeployRequest, DeployedRequest};

/// How long an action waits for another one on the same VM.
const LOCK_WAIT: Duration = Duration::from_secs(180);

/// An action that `oned` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Makes the container at the first call, starts it at every call.
    Deploy,
    /// Stops it; the root disk stays.
    Shutdown,
    /// Kills it; the root disk stays.
    Cancel,
    /// Stops and starts it.
    Reboot,
    /// Kills and starts it.
    Reset,
    /// Before the context is written anew: nothing to do, the folder is shown inside.
    Prereconfigure,
    /// After the context was written anew: it is there already.
    Reconfigure,
    /// Known, and refused with one clear line.
    NotServed(&'static str),
}

/// The name of an action that no release of OpenNebula has.
#[derive(Debug, Error)]
#[error("\"{0}\" is not an action of a hypervisor driver")]
pub struct UnknownAction(String);

/// What 7.4.0 asks and this version does not serve.
const NOT_SERVED: &[&str] = &[
    "attach_disk",
    "attach_nic",
    "detach_disk",
    "detach_nic",
    "exec",
    "exec_cancel",
    "migrate",
    "migrate_local",
    "poll",
    "resize",
    "resize_disk",
    "restore",
    "save",
    "snapshot_create",
    "snapshot_delete",
    "snapshot_revert",
];

impl FromStr for Action {
    type Err = UnknownAction;
    fn from_str(name: &str) -> Result<Self, UnknownAction> {
        Ok(match name {
            "deploy" => Self::Deploy,
            "shutdown" => Self::Shutdown,
            "cancel" => Self::Cancel,
            "reboot" => Self::Reboot,
            "reset" => Self::Reset,
            "prereconfigure" => Self::Prereconfigure,
            "reconfigure" => Self::Reconfigure,
            other => match NOT_SERVED.iter().find(|known| **known == other) {
                Some(known) => Self::NotServed(known),
                None => return Err(UnknownAction(other.chars().take(40).collect())),
            },
        })
    }
}

impl Action {
    /// Does it. `input` reads standard input, for the actions that need the document.
    pub async fn run<E: Engine>(
        self,
        host: &Host<E>,
        arguments: &[String],
        input: impl FnOnce() -> anyhow::Result<Vec<u8>>,
    ) -> anyhow::Result<Answer> {
        let deployed = |action| DeployedRequest::parse(action, arguments);
        match self {
            Self::Deploy => deploy::run(host, &DeployRequest::parse(arguments)?, &input()?).await,
            Self::Shutdown => shutdown::run(host, &deployed("shutdown")?).await,
            Self::Cancel => cancel::run(host, &deployed("cancel")?).await,
            Self::Reboot => reboot::run(host, &deployed("reboot")?).await,
            Self::Reset => reset::run(host, &deployed("reset")?).await,
            Self::Prereconfigure | Self::Reconfigure => Ok(Answer::done()),
            Self::NotServed(name) => Err(anyhow::anyhow!(
                "{name} is not served by onedock {}; the VM is as it was",
                env!("CARGO_PKG_VERSION")
            )),
        }
    }
}
