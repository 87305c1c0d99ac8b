//! The bound of a disk that is a container's layer.

use onedock_common::engine::Engine;
use onedock_common::{ContainerId, DiskId};
use onedock_node::client::Root;
use onedock_node::request::Request;

use crate::Host;

/// Whether a layer is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// It holds no more than it was asked for.
    Kept,
    /// The storage of this host's engine keeps no quotas.
    Nothing,
}

/// Lets a layer hold so many MiB. What an engine answers to a size at creation says nothing: with
/// containerd's image store it takes any and keeps none.
pub(super) async fn bound<E: Engine, R: Root>(
    host: &Host<E, R>,
    container: &ContainerId,
    size_mib: u64,
) -> anyhow::Result<Bound> {
    let asked = Request::BoundLayer {
        container: container.clone(),
        size_mib,
    };
    let unbounded = host.root.call(&asked).await?.unbounded;
    Ok(if unbounded {
        Bound::Nothing
    } else {
        Bound::Kept
    })
}

/// The same for a disk that was just made: it is used without a bound too, which the VM's log says.
pub(super) async fn bound_new<E: Engine, R: Root>(
    host: &Host<E, R>,
    disk: DiskId,
    container: &ContainerId,
    size_mib: Option<u64>,
    notes: &mut Vec<String>,
) {
    let Some(size_mib) = size_mib else { return };
    match bound(host, container, size_mib).await {
        Ok(Bound::Kept) => {}
        Ok(Bound::Nothing) => notes.push(format!(
            "DISK {disk} has no bound of {size_mib} MiB, because the storage of this host's Docker engine keeps no quotas"
        )),
        Err(e) => notes.push(format!("DISK {disk} has no bound of {size_mib} MiB: {e:#}")),
    }
}
