//! `resize`: CPU, VCPU and MEMORY of the running container, up and down. Less memory than its
//! processes hold is refused: on cgroup v2 the kernel would kill them for it.

use anyhow::{Context as _, bail};
use onedock_common::engine::Engine;
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::vm::Vm;
use onedock_common::state::lock::VmLock;

use super::attach_disk::allow;
use super::{LOCK_WAIT, running};
use crate::request::DeployedRequest;
use crate::{Host, options, plan};

pub(super) async fn run<E: Engine, R>(
    host: &Host<E, R>,
    request: &DeployedRequest,
    document: &[u8],
) -> anyhow::Result<Answer> {
    let vm = Vm::from_action(document)?;
    running::ensure_same(&vm, request.name)?;
    let _lock = VmLock::acquire(&host.paths, vm.id, LOCK_WAIT)?;
    let container = running::there(host, request.name).await?;
    let (options, note) = options::of_running(host, "resize", &vm, &container);
    let limits = plan::limits(&vm, &host.config, &options);
    if container.running && limits.memory < container.limits.memory {
        let held = host
            .engine
            .memory_held(&container.id)
            .await
            .context("what the VM's processes hold of its memory cannot be read")?;
        if let Some(held) =
            held.filter(|held| i64::try_from(*held).is_ok_and(|h| h >= limits.memory))
        {
            bail!(
                "MEMORY cannot be lowered to {} MB, because the VM's processes hold {} MB of it; nothing was changed",
                limits.memory >> 20,
                held.div_ceil(1 << 20)
            );
        }
    }
    allow(host, &vm, &container).await?;
    Ok(Answer::done().with_notes(note.into_iter().collect()))
}
