//! `reconfigure`: the context was written anew, by `updateconf` or with a NIC or an alias that was
//! attached or detached. Addresses and routes of the NICs are put into force as the context has them
//! now. On a system datastore of ours the files are there already; on those of OpenNebula's own they
//! come as an ISO image, whose files take the place of those that the running container sees.

use onedock_common::engine::Engine;
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::vm::Vm;
use onedock_common::state::boot::BootSpec;
use onedock_common::state::descriptor::{Descriptor, DiskKind};
use onedock_common::state::lock::VmLock;
use onedock_node::client::Root;

use super::{LOCK_WAIT, context, nics, running};
use crate::request::ReconfigureRequest;
use crate::{Host, attributes};

pub(super) async fn run<E: Engine, R: Root>(
    host: &Host<E, R>,
    request: &ReconfigureRequest,
    document: &[u8],
) -> anyhow::Result<Answer> {
    let vm = Vm::from_action_with(document, host.config.default_prefix)?;
    running::ensure_same(&vm, request.name)?;
    let notes = attributes::of_context("reconfigure", &vm)?;
    let _lock = VmLock::acquire(&host.paths, vm.id, LOCK_WAIT)?;
    if Descriptor::find(&request.disk)? != Some(DiskKind::Folder) {
        context::of(host, vm.id, request.disk.clone()).await?;
    }
    if let Some(container) = running::own(host, request.name).await?
        && container.running
        && let Some(spec) = BootSpec::read(&host.paths, &container.id)?
    {
        let described = nics::described(&vm, &spec)?;
        if described != spec.nics {
            nics::change(host, &container, spec, described).await?;
        }
    }
    Ok(Answer::done().with_notes(notes))
}
