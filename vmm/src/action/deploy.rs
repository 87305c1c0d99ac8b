//! `deploy`: the first one makes the container, every one starts it ([`super::start`]).

use anyhow::ensure;
use onedock_common::engine::Engine;
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::vm::Vm;
use onedock_common::state::lock::VmLock;

use super::start::Start;
use super::{LOCK_WAIT, template_notes};
use onedock_node::client::Root;

use crate::Host;
use crate::request::DeployRequest;

pub(super) async fn run<E: Engine, R: Root>(
    host: &Host<E, R>,
    request: &DeployRequest,
    document: &[u8],
) -> anyhow::Result<Answer> {
    let vm = Vm::from_deployment(document, host.config.default_prefix)?;
    ensure!(
        vm.id == request.vm,
        "the deployment file describes VM {}, not {}",
        vm.id,
        request.vm
    );
    let mut notes = template_notes::before_start("deploy", &vm)?;
    let _lock = VmLock::acquire(&host.paths, vm.id, LOCK_WAIT)?;
    let start = Start {
        host,
        system_dir: &request.system_dir,
        vm: &vm,
    };
    let answer = start.run().await?;
    notes.extend(answer.notes.iter().cloned());
    Ok(answer.with_notes(notes))
}
