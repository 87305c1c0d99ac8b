//! What a VM asks of Docker, as far as the policy allows it.

use onedock_common::DiskId;
use onedock_common::engine::ContainerInfo;
use onedock_common::engine::labels::DISK;
use onedock_common::opennebula::vm::Vm;
use onedock_common::options::{self, OptionError, Options};

use crate::Host;

/// All of it. The image that counts is that of the root disk: further disks may be anybody's.
pub(crate) fn of<E, R>(host: &Host<E, R>, vm: &Vm, root: DiskId) -> Result<Options, OptionError> {
    let image = vm
        .disk(root)
        .and_then(|disk| disk.docker_options.as_deref());
    options::of_vm(vm, image, &host.policy)
}

/// The same of a VM that has a container.
pub(crate) fn of_container<E, R>(
    host: &Host<E, R>,
    vm: &Vm,
    container: &ContainerInfo,
) -> Result<Options, OptionError> {
    let root = container.labels.get(DISK).and_then(|id| id.parse().ok());
    of(host, vm, root.unwrap_or(DiskId::new(0)))
}

/// The same of a running VM. One that asks for what it cannot have goes on, without options, and a note for
/// its log says why.
pub(crate) fn of_running<E, R>(
    host: &Host<E, R>,
    action: &str,
    vm: &Vm,
    container: &ContainerInfo,
) -> (Options, Option<String>) {
    match of_container(host, vm, container) {
        Ok(options) => (options, None),
        Err(error) => {
            let note = format!("{action}: {error}; the VM will not start again with it");
            (Options::default(), Some(note))
        }
    }
}
