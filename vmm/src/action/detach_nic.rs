//! `detach_nic`: takes a NIC out of the running container, and out of its boot spec, before the
//! network drivers' `clean`. One that is out already is detached. `oned` calls it also with the MAC
//! of an alias, to take back an attach that failed (`one_vmm_exec.rb`, `attach_nic`).

use onedock_common::engine::Engine;
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::vm::Vm;
use onedock_common::state::boot::{BootSpec, Nic};
use onedock_common::state::lock::VmLock;
use onedock_node::client::Root;

use super::attach_nic::{concerned, is_powered_off};
use super::{LOCK_WAIT, nics, running};
use crate::Host;
use crate::request::NicRequest;

pub(super) async fn run<E: Engine, R: Root>(
    host: &Host<E, R>,
    request: &NicRequest,
    document: &[u8],
) -> anyhow::Result<Answer> {
    let vm = Vm::from_action_with(document, host.config.default_prefix)?;
    running::ensure_same(&vm, request.name)?;
    let alias = vm
        .changing_alias
        .as_ref()
        .filter(|alias| alias.mac == request.mac);
    let without = |nics: &[Nic]| -> anyhow::Result<Vec<Nic>> {
        let mut nics = nics.to_vec();
        if let Some(alias) = alias {
            for nic in nics.iter_mut().filter(|nic| nic.id == alias.parent) {
                nic.addresses.retain(|own| !alias.addresses.contains(own));
                nic.leases
                    .retain(|own| !alias.addresses.iter().any(|a| a.ip() == *own));
            }
        } else {
            let id = concerned(&vm, request)?.id;
            nics.retain(|nic| nic.id != id);
        }
        Ok(nics)
    };
    // What is not of this VM is refused before anything is asked.
    without(&[])?;
    if is_powered_off(&vm) {
        return Ok(Answer::done());
    }
    let _lock = VmLock::acquire(&host.paths, vm.id, LOCK_WAIT)?;
    let container = running::there(host, request.name).await?;
    if !container.running {
        let note = "the VM does not run any more; the NIC is out of it".to_owned();
        if let Some(mut spec) = BootSpec::read(&host.paths, &container.id)? {
            spec.nics = without(&spec.nics)?;
            running::keep(host, &container, &spec)?;
        }
        return Ok(Answer::done().with_notes(vec![note]));
    }
    running::ensure_runs(&container, vm.id)?;
    let spec = running::spec(host, &container)?;
    let nics = without(&spec.nics)?;
    let mut notes = Vec::new();
    if nics == spec.nics {
        notes.push("the NIC was out of the VM already".to_owned());
    }
    nics::change(host, &container, spec, nics).await?;
    Ok(Answer::done().with_notes(notes))
}
