//! The labels of a VM's container. They decide whose a container is, never its name alone, which
//! anybody can give: every driver and the monitor read them alike.

use crate::engine::ContainerInfo;
use crate::types::ids::{DiskId, VmId};

/// Which driver made it: always [`ONEDOCK`].
pub const DRIVER: &str = "org.opennebula.driver";
/// The value of [`DRIVER`].
pub const ONEDOCK: &str = "onedock";
/// The VM's id.
pub const VM: &str = "org.opennebula.vm";
/// The id of the disk that the container is.
pub const DISK: &str = "org.opennebula.disk";
/// The VM's id on a container that is never started, the tree of a further disk: without [`VM`],
/// so that no monitor takes it for the VM.
pub const TREE: &str = "org.opennebula.tree";
/// The image as it was staged.
pub const SOURCE: &str = "org.opennebula.source";
/// The version of the driver that made it.
pub const VERSION: &str = "org.opennebula.driver.version";

/// Whether the container has `label` with this value.
pub fn has(container: &ContainerInfo, label: &str, value: &str) -> bool {
    container.labels.get(label).is_some_and(|v| v == value)
}

/// Whether the container is this VM's.
pub fn is_of_vm(container: &ContainerInfo, vm: VmId) -> bool {
    has(container, DRIVER, ONEDOCK) && has(container, VM, &vm.to_string())
}

/// Whether the container is this disk of this VM.
pub fn is_disk(container: &ContainerInfo, vm: VmId, disk: DiskId) -> bool {
    is_of_vm(container, vm) && has(container, DISK, &disk.to_string())
}

/// Whether the container is the tree of this disk of this VM.
pub fn is_tree(container: &ContainerInfo, vm: VmId, disk: DiskId) -> bool {
    has(container, DRIVER, ONEDOCK)
        && has(container, TREE, &vm.to_string())
        && has(container, DISK, &disk.to_string())
}
