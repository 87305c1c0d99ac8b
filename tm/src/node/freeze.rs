//! A running VM is frozen while its disks are copied, and is thawed however that ends: after an
//! error, at a signal, and when this process dies by the next action on the VM, which finds the
//! note that was written before.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use onedock_common::VmId;
use onedock_common::engine::{self, ContainerInfo, Engine};
use onedock_common::state::boot::BootSpec;
use onedock_common::state::journal::freezing;
use onedock_common::{ContainerId, DiskId};
use onedock_node::client::settle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::{NodeContext, container};

/// The longest that a VM is frozen.
const LONGEST: Duration = Duration::from_secs(600);

/// Thaws the VM if an action that froze it has died. The caller holds the VM's lock.
pub(crate) async fn thaw_left<E: Engine>(node: &NodeContext<'_, E>, vm: VmId) -> Result<()> {
    if !freezing::is_begun(&node.paths, vm) {
        return Ok(());
    }
    let mut own = engine::own(&node.engine, vm).await?;
    engine::thaw_left(&node.engine, &node.paths, vm, own.as_mut()).await?;
    Ok(())
}

/// An error if the VM runs. One that is suspended is ended, because its disks are to move or to be
/// replaced; its memory is given up.
pub(crate) async fn stopped<E: Engine>(node: &NodeContext<'_, E>, vm: VmId) -> Result<()> {
    let Some(found) = container::of_vm(node, vm).await?.filter(|c| c.running) else {
        return Ok(());
    };
    ensure!(
        found.paused,
        "the VM still runs; power it off first, nothing was changed"
    );
    tracing::warn!("the VM is suspended; its memory is given up");
    container::end(node, &found).await?;
    if node.helper.is_installed() {
        settle(&node.helper, vm, &found.id).await?;
    }
    Ok(())
}

/// An error if somebody may write to this disk. Nobody does if the VM does not run, or runs without
/// the disk, which was detached
/// (`mvds` of a persistent disk follows `detach_disk`). `container` is the disk's own, if it has one.
pub(crate) async fn idle<E: Engine>(
    node: &NodeContext<'_, E>,
    vm: VmId,
    disk: Option<DiskId>,
    container: Option<&ContainerId>,
) -> Result<()> {
    let running = container::of_vm(node, vm).await?.filter(|c| c.running);
    if let (Some(found), Some(disk)) = (running, disk)
        && container != Some(&found.id)
        // By a damaged one the disk may be in use.
        && let Ok(Some(spec)) = BootSpec::read(&node.paths, &found.id)
        && spec.disks.iter().all(|plugged| plugged.id != disk)
    {
        return Ok(());
    }
    stopped(node, vm).await
}

/// Does `work` while the VM is frozen, with its running container; without one when it does not
/// run. A VM that is suspended is frozen already, and stays so.
pub(crate) async fn during<E: Engine, T, F>(
    node: &NodeContext<'_, E>,
    vm: VmId,
    work: impl FnOnce(Option<ContainerInfo>) -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let container = container::of_vm(node, vm).await?.filter(|c| c.running);
    let Some(found) = container.as_ref().filter(|c| !c.paused) else {
        return work(container).await;
    };
    let id = found.id.clone();
    freezing::begin(&node.paths, vm).context("the freeze of the VM cannot be noted")?;
    let outcome = match node.engine.pause(&id).await {
        Ok(()) => interruptible(work(container)).await,
        Err(e) => Err(anyhow::Error::from(e).context("the VM cannot be frozen")),
    };
    // Whatever the answer was: an engine whose answer was lost may have frozen it.
    let thawed = engine::thaw(&node.engine, &node.paths, vm, &id).await;
    match (outcome, thawed) {
        (outcome, Ok(())) => outcome,
        (Ok(_), Err(e)) => Err(e.into()),
        (Err(first), Err(e)) => Err(first.context(format!("{e}; before that"))),
    }
}

/// Ends the work early at a signal, or when it takes too long.
async fn interruptible<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut end = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        done = timeout(LONGEST, work) => done.with_context(|| format!(
            "the VM's disk was not copied within {} s, the longest that a VM is frozen; power it off for this",
            LONGEST.as_secs()
        ))?,
        _ = end.recv() => bail!("the copy of the VM's disk was ended by a signal"),
        _ = interrupt.recv() => bail!("the copy of the VM's disk was ended by a signal"),
        _ = hangup.recv() => bail!("the copy of the VM's disk was ended by a signal"),
    }
}
