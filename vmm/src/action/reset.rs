//! `reset`: kill and start of the same container.

use onedock_common::engine::Engine;
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::lock::VmLock;

use super::LOCK_WAIT;
use super::reboot::again;
use super::shutdown::How;
use crate::Host;
use crate::request::DeployedRequest;
use onedock_node::client::Root;

pub(super) async fn run<E: Engine, R: Root>(
    host: &Host<E, R>,
    request: &DeployedRequest,
    document: &[u8],
) -> anyhow::Result<Answer> {
    let _lock = VmLock::acquire(&host.paths, request.name.vm(), LOCK_WAIT)?;
    again(host, request.name, How::AtOnce, document).await
}
