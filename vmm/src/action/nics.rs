//! The NICs of a running VM: changed in its container and in its boot spec, so that the next start has
//! the same.

use anyhow::Context as _;
use onedock_common::NicId;
use onedock_common::engine::{ContainerInfo, Engine};
use onedock_common::opennebula::vm::Vm;
use onedock_common::state::boot::{BootSpec, Nic};
use onedock_node::client::Root;
use onedock_node::request::Request;

use super::running;
use super::start::with_rollback;
use crate::{Host, plan};

/// Gives the running VM these NICs in place of those of its boot spec; those of before when that
/// fails.
pub(super) async fn change<E: Engine, R: Root>(
    host: &Host<E, R>,
    container: &ContainerInfo,
    mut spec: BootSpec,
    mut nics: Vec<Nic>,
) -> anyhow::Result<()> {
    nics.sort_by_key(|nic| nic.id);
    let request = |nics: &[Nic]| Request::ChangeNics {
        vm: spec.vm,
        container: container.id.clone(),
        nics: nics.to_vec(),
    };
    let (there, before) = (request(&nics), request(&spec.nics));
    spec.nics = nics;
    let changed = async {
        host.root.call(&there).await?;
        running::keep(host, container, &spec)
    };
    let Err(error) = changed.await else {
        return Ok(());
    };
    // An answer that was lost may have left them changed.
    let back = async { host.root.call(&before).await.map(drop) };
    Err(with_rollback(error, back).await)
}

/// The NICs of a boot spec, each as the VM's description has it now. NICs come by `attach_nic` alone; one that
/// the description does not have any more was given up after its attach had failed elsewhere.
pub(super) fn described(vm: &Vm, spec: &BootSpec) -> anyhow::Result<Vec<Nic>> {
    let mut planned = plan::nics(vm)?;
    if let Some(alias) = &vm.changing_alias
        && alias.comes.is_none()
        && let Some(there) = spec.nics.iter().find(|nic| nic.id == alias.parent)
        && alias
            .addresses
            .iter()
            .all(|own| there.addresses.contains(own))
    {
        // Nothing but its being there says that it is to go.
        for nic in planned.iter_mut().filter(|nic| nic.id == alias.parent) {
            nic.addresses.retain(|own| !alias.addresses.contains(own));
            nic.leases
                .retain(|own| !alias.addresses.iter().any(|a| a.ip() == *own));
        }
    }
    let described = |there: &Nic| {
        let found = planned.iter().find(|nic| nic.id == there.id)?;
        let is_same = found.host == there.host
            && found.bridge == there.bridge
            && found.bridge_kind == there.bridge_kind
            && found.mac == there.mac;
        Some(match is_same {
            // A link keeps its MTU until the next start.
            true => Nic {
                mtu: there.mtu,
                ..found.clone()
            },
            false => there.clone(),
        })
    };
    Ok(spec.nics.iter().filter_map(described).collect())
}

/// A NIC of the VM's description.
pub(super) fn planned(vm: &Vm, id: NicId) -> anyhow::Result<Nic> {
    plan::nics(vm)?
        .into_iter()
        .find(|nic| nic.id == id)
        .with_context(|| format!("VM {} has no NIC {id}", vm.id))
}
