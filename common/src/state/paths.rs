//! Where things lie on a node. State lives outside `/var/tmp/one`, which OpenNebula erases at
//! every synchronisation (`rsync --delete`, `src/mad/ruby/HostSyncManager.rb`).

use std::path::{Path, PathBuf};

use crate::state::files;
use crate::types::ids::{ContainerId, VmId};

const VM_LOCK: &str = "vm-";

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

    /// Where root records of which folders the trees of containers are laid: not in the state folder,
    /// which belongs to `oneadmin`, but beside it.
    pub fn layers_dir(&self) -> PathBuf {
        let mut path = self.state.clone().into_os_string();
        path.push("-layers");
        path.into()
    }

    /// The record of one container's layers.
    pub fn layer_record(&self, container: &ContainerId) -> PathBuf {
        self.layers_dir().join(format!("{container}.json"))
    }

    /// The lock that serialises the actions on one VM.
    pub fn vm_lock(&self, vm: VmId) -> PathBuf {
        self.lock_dir().join(format!("{VM_LOCK}{vm}"))
    }

    /// The VMs that have a lock file: those on which an action runs or has run, and that are not
    /// yet deleted here.
    pub fn locked_vms(&self) -> Vec<VmId> {
        let names = files::names(&self.lock_dir()).unwrap_or_default();
        let vm = |name: &String| name.strip_prefix(VM_LOCK)?.parse().ok();
        names.iter().filter_map(vm).collect()
    }

    fn lock_dir(&self) -> PathBuf {
        self.state.join("lock")
    }

    /// The lock that makes one pull of an image out of many at once.
    pub fn image_lock(&self, hex: &str) -> PathBuf {
        self.lock_dir().join(format!("image-{hex}"))
    }

    /// What was begun on one VM and is not yet finished.
    pub fn journal(&self, vm: VmId) -> PathBuf {
        self.state.join("journal").join(format!("{vm}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lock_file_names_a_vm_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::at(dir.path());
        assert!(paths.locked_vms().is_empty());
        let locks = dir.path().join("lock");
        std::fs::create_dir(&locks).unwrap();
        for name in ["image-ab", "vm-x", "vm-7"] {
            std::fs::write(locks.join(name), "").unwrap();
        }
        assert_eq!(paths.locked_vms(), [VmId::new(7)]);
        assert_eq!(paths.image_lock("ab"), locks.join("image-ab"));
    }

    #[test]
    fn records_of_layers_lie_beside_what_the_drivers_may_write() {
        let paths = Paths::at("/var/lib/onedock");
        let container = "ab".repeat(32).parse().unwrap();
        let record = paths.layer_record(&container);
        assert_eq!(record.parent(), Some(paths.layers_dir().as_path()));
        assert_eq!(paths.layers_dir(), Path::new("/var/lib/onedock-layers"));
        assert!(record.ends_with(format!("{container}.json")));
    }
}
