//! `restore`: a VM that `save` froze goes on; one that it stopped, or whose frozen processes are
//! gone, is started as `deploy` does it, with the template as it is now and on the host where it
//! is now (`docs/decisions/0008-suspend.md`).

use onedock_common::engine::Engine;
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::vm::Vm;
use onedock_common::state::files;
use onedock_common::state::lock::VmLock;

use super::start::Start;
use super::{LOCK_WAIT, running, template_notes};
use onedock_node::client::Root;

use crate::Host;
use crate::checkpoint::{Checkpoint, Saved};
use crate::request::CheckpointRequest;

pub(super) async fn run<E: Engine, R: Root>(
    host: &Host<E, R>,
    request: &CheckpointRequest,
    document: &[u8],
) -> anyhow::Result<Answer> {
    let vm = Vm::from_action_with(document, host.config.default_prefix)?;
    running::ensure_same(&vm, request.name)?;
    let _lock = VmLock::acquire(&host.paths, vm.id, LOCK_WAIT)?;
    let container = running::own(host, request.name).await?;
    let mut answer = match container.filter(|container| container.running) {
        Some(container) => {
            if container.paused {
                host.engine.unpause(&container.id).await?;
            }
            Answer::done()
        }
        None => {
            let start = Start {
                host,
                system_dir: &request.system_dir,
                vm: &vm,
            };
            let mut started = start.run().await?;
            started.notes.extend(lost(request, &vm));
            started
        }
    };
    files::remove(&request.checkpoint)?;
    answer
        .notes
        .extend(template_notes::before_restore("restore", &vm));
    Ok(answer)
}

/// What a VM that had to be started anew has lost. A checkpoint that cannot be read must not keep
/// it from starting.
fn lost(request: &CheckpointRequest, vm: &Vm) -> Option<String> {
    match Checkpoint::read(&request.checkpoint, vm.id) {
        Ok(Some(checkpoint)) if checkpoint.saved == Saved::Stopped => None,
        Ok(Some(_)) => Some(
            "restore: the VM was started anew and its memory is lost, because its frozen processes are not on this host any more (the host was rebooted, or the VM was moved)"
                .to_owned(),
        ),
        Ok(None) => Some("restore: there was no checkpoint, the VM was started anew".to_owned()),
        Err(e) => Some(format!("restore: {e:#}; the VM was started anew")),
    }
}
