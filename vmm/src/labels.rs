//! The labels that a VM's container is made with.

use std::collections::BTreeMap;

use onedock_common::engine::ContainerInfo;
use onedock_common::engine::labels::{
    DISK, DRIVER, ONEDOCK, OPTIONS, SOURCE, TREE, VERSION, VM, has,
};
use onedock_common::options::EngineOptions;
use onedock_common::state::descriptor::Descriptor;

/// All of them. They stand over labels of the same name that an image carries (attack 12).
pub(crate) fn of(descriptor: &Descriptor, options: Option<String>) -> BTreeMap<String, String> {
    let mut labels = all(VM, descriptor);
    // Even where there are none: an image may carry the label of another VM.
    labels.insert(OPTIONS.to_owned(), options.unwrap_or_default());
    labels
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

/// What the engine was asked for beside as the container was made.
pub(crate) fn made_with(container: &ContainerInfo) -> EngineOptions {
    let text = container.labels.get(OPTIONS);
    text.map(|text| EngineOptions::of_text(text))
        .unwrap_or_default()
}

/// Whether the container was made of this disk's image.
pub(crate) fn is_made_of(container: &ContainerInfo, descriptor: &Descriptor) -> bool {
    has(container, SOURCE, &descriptor.image.to_string())
}

#[cfg(test)]
mod tests {
    use onedock_common::engine::fake::FakeEngine;
    use onedock_common::state::descriptor;
    use onedock_common::{DiskId, VmId};

    use super::*;

    #[test]
    fn a_container_is_made_of_the_image_of_its_labels() {
        let image = |hex: &str| {
            let text = format!(
                "docker://front:5000/onedock/img-6@sha256:{}",
                hex.repeat(32)
            );
            text.parse().unwrap()
        };
        let mut descriptor = Descriptor {
            version: descriptor::VERSION,
            vm: VmId::new(5),
            disk: DiskId::new(0),
            source: image("ab"),
            image: image("ab"),
            image_config: None,
            persistent: false,
            dockerrun: None,
            container: None,
            snapshots: Vec::new(),
        };
        let engine = FakeEngine::default();
        engine.add("one-5", of(&descriptor, None));
        let container = engine.containers().remove(0).info;
        assert!(is_made_of(&container, &descriptor));
        descriptor.image = image("cd");
        assert!(!is_made_of(&container, &descriptor));
    }
}
