//! `set_qos`: bounds what a NIC of the running VM may transfer, after an update of its virtual network
//! or of the NIC. It is no action of `oned`: the network drivers' `update_nic` calls `set_qos` of
//! our NIC class (`vnm/vnmmad-load.d/onedock.rb`), which calls this one.

use anyhow::Context as _;
use onedock_common::engine::Engine;
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::lock::VmLock;
use onedock_node::client::Root;

use super::{LOCK_WAIT, nics, running};
use crate::Host;
use crate::request::QosRequest;

pub(super) async fn run<E: Engine, R: Root>(
    host: &Host<E, R>,
    request: &QosRequest,
) -> anyhow::Result<Answer> {
    let vm = request.name.vm();
    let _lock = VmLock::acquire(&host.paths, vm, LOCK_WAIT)?;
    let container = running::there(host, request.name).await?;
    if !container.running {
        // The next deploy reads it from the description.
        return Ok(Answer::done());
    }
    running::ensure_runs(&container, vm)?;
    let spec = running::spec(host, &container)?;
    let mut nics = spec.nics.clone();
    let nic = nics
        .iter_mut()
        .find(|nic| nic.host == request.target)
        .with_context(|| format!("VM {vm} has no NIC with TARGET={}", request.target))?;
    (nic.inbound, nic.outbound) = (request.inbound, request.outbound);
    nics::change(host, &container, spec, nics).await?;
    Ok(Answer::done())
}
