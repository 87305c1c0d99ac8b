//! `reconfigure`: the context was written anew. On a system datastore of ours the files are there
//! already; on those of OpenNebula's own they come as an ISO image, whose files take the place of
//! those that the running container sees.

use onedock_common::answer::Answer;
use onedock_common::descriptor::{Descriptor, Found};
use onedock_common::lock::VmLock;

use super::{LOCK_WAIT, context};
use crate::Host;
use crate::request::ReconfigureRequest;

pub(super) async fn run<E, R>(
    host: &Host<E, R>,
    request: &ReconfigureRequest,
) -> anyhow::Result<Answer> {
    let vm = request.name.vm();
    if Descriptor::find(&request.disk)? == Found::Folder {
        return Ok(Answer::done());
    }
    let _lock = VmLock::acquire(&host.paths, vm, LOCK_WAIT)?;
    context::of(host, vm, request.disk.clone()).await?;
    Ok(Answer::done())
}
