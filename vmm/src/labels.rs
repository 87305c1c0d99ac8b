//! The labels that a VM's container is made with.

use std::collections::BTreeMap;

use onedock_common::engine::ContainerInfo;
use onedock_common::engine::labels::{DISK, DRIVER, ONEDOCK, SOURCE, TREE, VERSION, VM, has};
use onedock_common::state::descriptor::Descriptor;

/// All of them. They stand over labels of the same name that an image carries (attack 12).
pub(crate) fn of(descriptor: &Descriptor) -> BTreeMap<String, String> {
    all(VM, descriptor)
}

/// Those of a further disk's tree.
pub(crate) fn of_tree(descriptor: &Descriptor) -> BTreeMap<String, String> {
    all(TREE, descriptor)
}

fn all(vm: &'static str, descriptor: &Descriptor) -> BTreeMap<String, String> {
    [
        (DRIVER, ONEDOCK.to_owned()),
        (vm, descriptor.vm.to_string()),
        (DISK, descriptor.disk.to_string()),
        (SOURCE, descriptor.image.to_string()),
        (VERSION, env!("CARGO_PKG_VERSION").to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Whether the container was made of this disk's image.
pub(crate) fn is_made_of(container: &ContainerInfo, descriptor: &Descriptor) -> bool {
    has(container, SOURCE, &descriptor.image.to_string())
}
