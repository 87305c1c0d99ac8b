//! Where things lie on a node. State lives outside `/var/tmp/one`, which OpenNebula erases at
//! every synchronisation (`rsync --delete`, `src/mad/ruby/HostSyncManager.rb`).

use std::path::{Path, PathBuf};

use crate::types::ids::{ContainerId, VmId};

/// The state folder of a node. It is one fixed folder ([`Paths::system`]) and no setting: the
/// runtime, which root runs, looks nowhere else, and takes a container without a boot spec for none
/// of a VM. Other folders are for tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    state: PathBuf,
}

impl Paths {
    /// `/var/lib/onedock`.
    pub fn system() -> Self {
        Self::at("/var/lib/onedock")
    }

    /// A state folder elsewhere.
    pub fn at(state: impl Into<PathBuf>) -> Self {
        Self {
            state: state.into(),
        }
    }

    /// The folder itself.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Where boot specs lie, written by the driver before each start.
    pub fn boot_dir(&self) -> PathBuf {
        self.state.join("boot")
    }

    /// The boot spec of one container.
    pub fn boot_spec(&self, container: &ContainerId) -> PathBuf {
        self.boot_dir().join(format!("{container}.json"))
    }

    /// The lock that serialises the actions on one VM.
    pub fn vm_lock(&self, vm: VmId) -> PathBuf {
        self.state.join("lock").join(format!("vm-{vm}"))
    }

    /// The lock that makes one pull of an image out of many at once.
    pub fn image_lock(&self, hex: &str) -> PathBuf {
        self.state.join("lock").join(format!("image-{hex}"))
    }

    /// What was begun on one VM and is not yet finished.
    pub fn journal(&self, vm: VmId) -> PathBuf {
        self.state.join("journal").join(format!("{vm}.json"))
    }
}
