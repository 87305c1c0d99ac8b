//! What stops a call, in the words that the engine shows.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use onedock_common::state::boot::BootError;
use onedock_common::{ContainerId, VmId};
use thiserror::Error;

use crate::disks::DiskError;
use crate::layers::rootfs::RootError;
use crate::namespace::NamespaceError;
use crate::network::PlugError;
use crate::network::chain::ChainError;
use crate::owned::NotOpened;
use crate::runtime::backend::NoRuntime;
use crate::runtime::bundle::BundleError;

/// Why a call of the runtime failed.
#[derive(Debug, Error)]
pub enum CallError {
    /// No runtime.
    #[error(transparent)]
    NoRuntime(#[from] NoRuntime),
    #[error(transparent)]
    Boot(#[from] BootError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The root file system.
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error(transparent)]
    Plug(#[from] PlugError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A start that nobody of this boot has asked for.
    #[error(
        "the host was booted after this VM was deployed; resume the VM from OpenNebula, which lays its networks first"
    )]
    OtherBoot,
    #[error("the VM's context folder {path} cannot be used: {reason}")]
    Context {
        /// The folder on the host.
        path: PathBuf,
        /// Why not.
        reason: NotOpened,
    },
    /// The program that keeps the VM alive.
    #[error("onedock-init is not installed in /usr/lib/onedock; run \"onedock setup node\"")]
    NoInit,
    /// Between `create` and `start`.
    #[error("the container was not created completely; power the VM off and resume it")]
    NotCreated,
    /// In the words by which containerd knows it, which it compares (`checkKillError` of its shim): with
    /// crun's it would refuse every later start of the container.
    #[error("container {0} does not exist")]
    Gone(ContainerId),
    /// Checkpoints of VMs.
    #[error("a VM's container cannot be restored from a checkpoint by this version")]
    Restore,
    /// An engine that leaves out the pid file.
    #[error("the engine named no pid file for the container")]
    NoPidFile,
    /// The records of the runtime.
    #[error("the state in /run/onedock cannot be {verb}: {source}")]
    State {
        /// Read or written.
        verb: &'static str,
        /// What the system answered.
        source: io::Error,
    },
    /// A tree of files.
    #[error("the container is a disk of VM {0}, and runs nothing")]
    NeverRuns(VmId),
    /// The VM's files in /etc.
    #[error("{path} cannot be written: {source}")]
    File {
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The real runtime.
    #[error("{path} cannot be run: {source}")]
    Run {
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// An error and its causes on one line, none of them twice.
pub fn one_line(error: &dyn StdError) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = next.source();
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_stand_on_one_line_once() {
        let cause = || io::Error::other("no\nspace");
        let error = CallError::Bundle(BundleError::File {
            path: "/b/config.json".into(),
            verb: "written",
            source: cause(),
        });
        assert_eq!(
            one_line(&error),
            "the bundle's /b/config.json cannot be written: no space"
        );
        let error = CallError::State {
            verb: "read",
            source: cause(),
        };
        assert_eq!(
            one_line(&error),
            "the state in /run/onedock cannot be read: no space"
        );
    }
}
