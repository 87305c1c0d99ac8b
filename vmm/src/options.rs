//! What a VM asks of Docker, as far as the policy allows it.

use onedock_common::opennebula::vm::Vm;
use onedock_common::options::{self, OptionError, Options};

use crate::Host;

/// All of it. Of several disks with DOCKER_OPTIONS the first counts, which is the root disk's unless OS/BOOT
/// names another one.
pub(crate) fn of<E, R>(host: &Host<E, R>, vm: &Vm) -> Result<Options, OptionError> {
    let image = vm
        .disks
        .iter()
        .find_map(|disk| disk.docker_options.as_deref());
    options::of_vm(vm, image, &host.policy)
}
