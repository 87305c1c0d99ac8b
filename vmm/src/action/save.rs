//! `save`: suspend freezes the VM where it is; stop and migrate end its processes and keep its
//! disks, which the transfer manager moves then (`docs/decisions/0008-suspend.md`).

use anyhow::{Context as _, ensure};
use onedock_common::engine::{ContainerInfo, Engine};
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::vm::Vm;
use onedock_common::state::boot::boot_id;
use onedock_common::state::files;
use onedock_common::state::lock::VmLock;

use super::shutdown::{How, end_this};
use super::start::with_rollback;
use super::{LOCK_WAIT, running};
use crate::Host;
use crate::checkpoint::{Checkpoint, Saved};
use crate::request::CheckpointRequest;
use onedock_node::client::Root;

/// LCM_STATE while `onevm suspend` saves (`include/VirtualMachine.h`, SAVE_SUSPEND). 5 is stop,
/// 7 is migrate.
const SUSPEND: u32 = 6;

pub(super) async fn run<E: Engine, R: Root>(
    host: &Host<E, R>,
    request: &CheckpointRequest,
    document: &[u8],
) -> anyhow::Result<Answer> {
    let vm = Vm::from_action(document)?;
    running::ensure_same(&vm, request.name)?;
    let _lock = VmLock::acquire(&host.paths, vm.id, LOCK_WAIT)?;
    let container = running::there(host, request.name).await?;
    let boot_id = boot_id().context("this boot of the host cannot be read")?;
    let checkpoint = |saved| Checkpoint::new(vm.id, saved, container.id.clone(), boot_id.clone());
    if vm.lcm_state == SUSPEND {
        return freeze(host, request, &container, &checkpoint(Saved::Frozen)).await;
    }
    checkpoint(Saved::Stopped).write(&request.checkpoint)?;
    let grace = How::Gently(host.config.stop_grace);
    let ended = end_this(host, request.name, &container, grace).await;
    if ended.is_err() {
        let _ = files::remove(&request.checkpoint);
    }
    ended
}

async fn freeze<E: Engine, R>(
    host: &Host<E, R>,
    request: &CheckpointRequest,
    container: &ContainerInfo,
    checkpoint: &Checkpoint,
) -> anyhow::Result<Answer> {
    ensure!(
        container.running,
        "VM {} does not run any more (exit code {}), so there is nothing to suspend",
        request.name.vm(),
        container.exit_code
    );
    let frozen = async {
        if !container.paused {
            host.engine.pause(&container.id).await?;
        }
        checkpoint.write(&request.checkpoint)
    };
    let Err(error) = frozen.await else {
        return Ok(Answer::done());
    };
    let goes_on = async {
        files::remove(&request.checkpoint)?;
        Ok(host.engine.unpause(&container.id).await?)
    };
    Err(with_rollback(error, goes_on).await)
}
