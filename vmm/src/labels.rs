//! Labels decide whose a container is, never its name alone (decision D31).

use std::collections::BTreeMap;

use onedock_common::VmId;
use onedock_common::descriptor::Descriptor;
use onedock_common::engine::ContainerInfo;

const DRIVER: &str = "org.opennebula.driver";
const VM: &str = "org.opennebula.vm";
const DISK: &str = "org.opennebula.disk";
const SOURCE: &str = "org.opennebula.source";
const VERSION: &str = "org.opennebula.driver.version";

/// The labels of a VM's container. They stand over labels of the same name that an image
/// carries (attack 12).
pub(crate) fn of(descriptor: &Descriptor) -> BTreeMap<String, String> {
    [
        (DRIVER, "onedock".to_owned()),
        (VM, descriptor.vm.to_string()),
        (DISK, descriptor.disk.to_string()),
        (SOURCE, descriptor.image.to_string()),
        (VERSION, env!("CARGO_PKG_VERSION").to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Whether the container is this VM's.
pub(crate) fn belongs_to(container: &ContainerInfo, vm: VmId) -> bool {
    let is = |key: &str, value: &str| container.labels.get(key).is_some_and(|v| v == value);
    is(DRIVER, "onedock") && is(VM, &vm.to_string())
}

/// Whether the container was made of this disk's image.
pub(crate) fn is_made_of(container: &ContainerInfo, descriptor: &Descriptor) -> bool {
    container
        .labels
        .get(SOURCE)
        .is_some_and(|v| *v == descriptor.image.to_string())
}
