//! `attach_nic`: a further NIC for the running container, between the network drivers' `pre` and
//! `post`. The boot spec is written anew, so that the next start has it too; an attach that fails
//! leaves nothing.

use std::path::Path;
use std::slice;

use anyhow::Context as _;
use onedock_common::engine::Engine;
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::nic::Nic;
use onedock_common::opennebula::vm::Vm;
use onedock_common::state::lock::VmLock;
use onedock_node::client::Root;

use super::{LOCK_WAIT, nics, running};
use crate::request::NicRequest;
use crate::{Host, attributes, bridges};

/// LCM_STATE of `onevm nic-attach` and `nic-detach` for a VM that is powered off, where the driver is
/// configured with COLD_NIC_ATTACH (`include/VirtualMachine.h`, HOTPLUG_NIC_POWEROFF).
const POWERED_OFF: u32 = 65;

pub(super) async fn run<E: Engine, R: Root>(
    host: &Host<E, R>,
    request: &NicRequest,
    document: &[u8],
) -> anyhow::Result<Answer> {
    let vm = Vm::from_action_with(document, host.config.default_prefix)?;
    let nic = concerned(&vm, request)?;
    let mut notes = attributes::of_nic("attach_nic", &vm, nic.id)?;
    notes.extend(bridges::larger_mtu(
        slice::from_ref(nic),
        Path::new(bridges::LINKS),
    ));
    let planned = nics::planned(&vm, nic.id)?;
    if is_powered_off(&vm) {
        // The next deploy reads it from the description.
        return Ok(Answer::done().with_notes(notes));
    }
    let _lock = VmLock::acquire(&host.paths, vm.id, LOCK_WAIT)?;
    let container = running::there(host, request.name).await?;
    running::ensure_runs(&container, vm.id)?;
    let spec = running::spec(host, &container)?;
    let mut nics = spec.nics.clone();
    nics.retain(|other| other.id != planned.id);
    nics.push(planned);
    nics::change(host, &container, spec, nics).await?;
    Ok(Answer::done().with_notes(notes))
}

/// The NIC that the call is about: ATTACH=YES in the document, and the MAC of the arguments.
pub(super) fn concerned<'a>(vm: &'a Vm, request: &NicRequest) -> anyhow::Result<&'a Nic> {
    running::ensure_same(vm, request.name)?;
    vm.nics
        .iter()
        .find(|nic| nic.attach && nic.mac == request.mac)
        .with_context(|| {
            format!(
                "VM {} has no NIC with MAC={} that is being attached or detached (PCI devices are not supported); nothing was done",
                vm.id, request.mac
            )
        })
}

pub(super) fn is_powered_off(vm: &Vm) -> bool {
    vm.lcm_state == POWERED_OFF
}
