//! What the node halves of all scripts use, as oneadmin with the host's engine.

pub(crate) mod archive;
pub(crate) mod container;
pub(crate) mod disk;
pub(crate) mod folder;
pub(crate) mod freeze;
pub(crate) mod image;
pub(crate) mod layer;
pub(crate) mod sidecar;
pub(crate) mod staging;

use std::time::Duration;

use anyhow::Context as _;
use onedock_common::VmId;
use onedock_common::engine::{Engine, EngineError};
use onedock_common::opennebula::config::Config;
use onedock_common::state::lock::{LockError, VmLock};
use onedock_common::state::paths::Paths;
use onedock_common::state::vm_folder;
use onedock_common::types::system_datastore::SystemDatastore;
use onedock_node::client::Helper;

use crate::location::VmPath;

/// How long a request waits for another one on the same VM.
const LOCK_WAIT: Duration = Duration::from_secs(180);

/// The host that a request is done on.
pub(crate) struct NodeContext<'a, E> {
    pub(crate) engine: E,
    pub(crate) paths: Paths,
    pub(crate) config: &'a Config,
    /// What needs root.
    pub(crate) helper: Helper,
}

impl<E> NodeContext<'_, E> {
    fn lock(&self, vm: VmId) -> Result<VmLock, LockError> {
        VmLock::acquire(&self.paths, vm, LOCK_WAIT)
    }

    /// Whether this machine has no engine at all: a front-end, where disks wait. A host that was
    /// set up must have one, and its engine must answer.
    pub(crate) fn has_no_engine(&self, error: &EngineError) -> bool {
        matches!(error, EngineError::Unreachable { .. }) && !self.helper.is_installed()
    }

    /// The same of an error that has it as its cause.
    pub(crate) fn lacks_engine(&self, error: &anyhow::Error) -> bool {
        error
            .downcast_ref::<EngineError>()
            .is_some_and(|e| self.has_no_engine(e))
    }
}

impl<E: Engine> NodeContext<'_, E> {
    /// Takes the VM's lock, and thaws a VM that an action which died has frozen.
    pub(crate) async fn begin(&self, vm: VmId) -> anyhow::Result<VmLock> {
        let lock = self.lock(vm)?;
        freeze::thaw_left(self, vm).await?;
        Ok(lock)
    }
}

/// Makes the VM's folder.
pub(crate) fn prepare(path: &VmPath, system: SystemDatastore) -> anyhow::Result<()> {
    let folder = path.folder();
    vm_folder::prepare(folder, system)
        .with_context(|| format!("the VM's folder {} cannot be made", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use onedock_common::engine::NoAnswer;

    #[test]
    fn a_host_that_was_set_up_is_never_taken_for_one_without_an_engine() {
        let dir = tempfile::tempdir().unwrap();
        let helper = dir.path().join("onedock-node");
        let config = Config::default();
        let node = NodeContext {
            engine: (),
            paths: Paths::at(dir.path()),
            config: &config,
            helper: Helper::at(&helper),
        };
        // An engine that was stopped takes its socket away.
        let stopped = || EngineError::Unreachable {
            socket: dir.path().join("docker.sock"),
            reason: NoAnswer::NoSocket,
        };
        assert!(node.has_no_engine(&stopped()), "a front-end");
        assert!(node.lacks_engine(&stopped().into()));
        std::fs::write(&helper, "").unwrap();
        assert!(!node.has_no_engine(&stopped()), "its containers are there");
        assert!(!node.lacks_engine(&stopped().into()));
    }
}
