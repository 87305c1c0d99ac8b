//! `reconfigure`: the context was written anew. On a system datastore of ours the files are there
//! already; on those of OpenNebula's own they come as an ISO image, whose files take the place of
//! those that the running container sees.

use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::vm::Vm;
use onedock_common::state::descriptor::{Descriptor, DiskKind};
use onedock_common::state::lock::VmLock;

use super::{LOCK_WAIT, context, running};
use crate::request::ReconfigureRequest;
use crate::{Host, attributes};

pub(super) async fn run<E, R>(
    host: &Host<E, R>,
    request: &ReconfigureRequest,
    document: &[u8],
) -> anyhow::Result<Answer> {
    let vm = Vm::from_action(document)?;
    running::ensure_same(&vm, request.name)?;
    let notes = attributes::of_context("reconfigure", &vm)?;
    if Descriptor::find(&request.disk)? == Some(DiskKind::Folder) {
        return Ok(Answer::done().with_notes(notes));
    }
    let _lock = VmLock::acquire(&host.paths, vm.id, LOCK_WAIT)?;
    context::of(host, vm.id, request.disk.clone()).await?;
    Ok(Answer::done().with_notes(notes))
}
