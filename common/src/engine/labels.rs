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

/// What the engine was asked for beside, as one text (`EngineOptions::text` of the options).
pub const OPTIONS: &str = "org.opennebula.options";

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::FakeEngine;

    fn labelled(labels: &[(&str, &str)]) -> ContainerInfo {
        let engine = FakeEngine::default();
        let labels = labels.iter().map(|(label, value)| (*label, *value));
        let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned()));
        engine.add("one-5", labels.collect());
        engine.containers().remove(0).info
    }

    #[test]
    fn a_container_is_a_vm_s_by_all_of_its_labels_and_a_tree_is_not_the_vm() {
        let [vm, disk] = [(VM, "5"), (DISK, "1")];
        let (driver, tree) = ((DRIVER, ONEDOCK), (TREE, "5"));
        for (labels, of_vm, is_the_disk, is_the_tree) in [
            (&[driver, vm, disk][..], true, true, false),
            (&[driver, vm], true, false, false),
            (&[driver, vm, (DISK, "0")], true, false, false),
            (&[driver, (VM, "6"), disk], false, false, false),
            (&[(DRIVER, "docker"), vm, disk], false, false, false),
            (&[vm, disk, tree], false, false, false),
            (&[driver, tree, disk], false, false, true),
            (&[driver, tree, (DISK, "0")], false, false, false),
            (&[driver, (TREE, "6"), disk], false, false, false),
            (&[], false, false, false),
        ] {
            let container = labelled(labels);
            let (vm, disk) = (VmId::new(5), DiskId::new(1));
            assert_eq!(is_of_vm(&container, vm), of_vm, "{labels:?}");
            assert_eq!(is_disk(&container, vm, disk), is_the_disk, "{labels:?}");
            assert_eq!(is_tree(&container, vm, disk), is_the_tree, "{labels:?}");
        }
    }
}
