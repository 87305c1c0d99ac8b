//! The actions of `src/vmm_mad/remotes`, each in a module named like it.

mod attach_disk;
mod attach_nic;
mod bound;
mod cancel;
mod context;
mod creation;
mod deploy;
mod detach_disk;
mod detach_nic;
#[cfg(test)]
mod disk_tests;
mod disks;
mod ending;
#[cfg(test)]
mod ending_tests;
#[cfg(test)]
mod fake_node;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod hotplug_tests;
#[cfg(test)]
mod nic_tests;
mod nics;
#[cfg(test)]
mod option_tests;
#[cfg(test)]
mod power_tests;
mod prereconfigure;
mod reboot;
mod reconfigure;
mod reset;
mod resize;
mod resize_disk;
#[cfg(test)]
mod resize_tests;
mod restore;
mod running;
mod save;
mod set_qos;
mod shutdown;
mod start;
#[cfg(test)]
mod suspend_tests;
mod template_notes;
#[cfg(test)]
mod template_notes_tests;
#[cfg(test)]
mod twice_tests;

use std::str::FromStr;
use std::time::Duration;

use onedock_common::engine::Engine;
use onedock_common::opennebula::answer::Answer;
use thiserror::Error;

use crate::Host;
use crate::request::{
    CheckpointRequest, DeployRequest, DeployedRequest, DiskRequest, NicRequest, QosRequest,
    ReconfigureRequest, ResizeDiskRequest,
};
use onedock_node::client::Root;

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
    /// Before the context is written anew.
    Prereconfigure,
    /// After the context was written anew.
    Reconfigure,
    /// Shows a further disk in the running container.
    AttachDisk,
    /// Takes one out.
    DetachDisk,
    /// Plugs a further NIC into the running container.
    AttachNic,
    /// Pulls one.
    DetachNic,
    /// Bounds what a NIC transfers. Called by our NIC class of the network drivers, not by `oned`.
    SetQos,
    /// Changes CPU, VCPU and MEMORY.
    Resize,
    /// Shows a disk in its new size.
    ResizeDisk,
    /// Freezes it, or ends it and keeps its disks.
    Save,
    /// Lets it go on, or starts it.
    Restore,
    /// Known, and refused with one clear line.
    Unsupported(&'static str),
}

/// The name of an action that no release of OpenNebula has.
#[derive(Debug, Error)]
#[error("\"{0}\" is not an action of a hypervisor driver")]
pub struct UnknownAction(String);

/// What 7.4.0 asks for and this version does not support.
const UNSUPPORTED: &[&str] = &[
    "exec",
    "exec_cancel",
    "migrate",
    "migrate_local",
    "poll",
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
            "attach_disk" => Self::AttachDisk,
            "detach_disk" => Self::DetachDisk,
            "attach_nic" => Self::AttachNic,
            "detach_nic" => Self::DetachNic,
            "set_qos" => Self::SetQos,
            "resize" => Self::Resize,
            "resize_disk" => Self::ResizeDisk,
            "save" => Self::Save,
            "restore" => Self::Restore,
            other => match UNSUPPORTED.iter().find(|known| **known == other) {
                Some(known) => Self::Unsupported(known),
                None => return Err(UnknownAction(other.chars().take(40).collect())),
            },
        })
    }
}

impl Action {
    /// Does it. `input` reads standard input, for the actions that need the document.
    pub async fn run<E: Engine, R: Root>(
        self,
        host: &Host<E, R>,
        arguments: &[String],
        input: impl FnOnce() -> anyhow::Result<Vec<u8>>,
    ) -> anyhow::Result<Answer> {
        let deployed = |action| DeployedRequest::parse(action, arguments);
        let disk = |action| DiskRequest::parse(action, arguments);
        let nic = |action| NicRequest::parse(action, arguments);
        match self {
            Self::Deploy => deploy::run(host, &DeployRequest::parse(arguments)?, &input()?).await,
            Self::Shutdown => shutdown::run(host, &deployed("shutdown")?).await,
            Self::Cancel => cancel::run(host, &deployed("cancel")?).await,
            Self::Reboot => reboot::run(host, &deployed("reboot")?, &input()?).await,
            Self::Reset => reset::run(host, &deployed("reset")?, &input()?).await,
            Self::Prereconfigure => {
                prereconfigure::run(host, &deployed("prereconfigure")?, &input()?)
            }
            Self::Reconfigure => {
                let request = ReconfigureRequest::parse(arguments)?;
                reconfigure::run(host, &request, &input()?).await
            }
            Self::AttachDisk => attach_disk::run(host, &disk("attach_disk")?, &input()?).await,
            Self::DetachDisk => detach_disk::run(host, &disk("detach_disk")?, &input()?).await,
            Self::AttachNic => attach_nic::run(host, &nic("attach_nic")?, &input()?).await,
            Self::DetachNic => detach_nic::run(host, &nic("detach_nic")?, &input()?).await,
            Self::SetQos => set_qos::run(host, &QosRequest::parse(arguments)?).await,
            Self::Resize => resize::run(host, &deployed("resize")?, &input()?).await,
            Self::ResizeDisk => {
                let request = ResizeDiskRequest::parse(arguments)?;
                resize_disk::run(host, &request, &input()?).await
            }
            Self::Save => {
                let request = CheckpointRequest::of_save(arguments)?;
                save::run(host, &request, &input()?).await
            }
            Self::Restore => {
                let request = CheckpointRequest::of_restore(arguments)?;
                restore::run(host, &request, &input()?).await
            }
            Self::Unsupported(name) => Err(anyhow::anyhow!(
                "{name} is not supported by onedock {}; the VM is as it was",
                env!("CARGO_PKG_VERSION")
            )),
        }
    }
}
