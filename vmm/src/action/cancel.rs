//! `cancel`: `shutdown` without asking. It succeeds when the container is already gone, because
//! `oned` cancels stopped VMs too, and again after a host's reboot.

use onedock_common::engine::Engine;
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::lock::VmLock;

use super::LOCK_WAIT;
use super::shutdown::{How, end};
use crate::Host;
use crate::request::DeployedRequest;
use onedock_node::client::Root;

pub(super) async fn run<E: Engine, R: Root>(
    host: &Host<E, R>,
    request: &DeployedRequest,
) -> anyhow::Result<Answer> {
    let _lock = VmLock::acquire(&host.paths, request.name.vm(), LOCK_WAIT)?;
    end(host, request.name, How::AtOnce).await
}
