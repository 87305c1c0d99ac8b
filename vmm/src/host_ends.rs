//! The host ends of a VM's NICs after it has stopped. OpenNebula's `clean`, which follows, counts
//! what is on the bridge, so the answer waits until they are gone: the kernel removes them with
//! the namespace, some milliseconds after the last process. A device of somebody else with the name of
//! a NIC does not keep a VM from its end.

use std::convert::Infallible;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use onedock_common::wait;
use onedock_common::{IfName, VmId};
use onedock_node::request::Request;

use onedock_node::client::Root;

/// How long the kernel is given before the ends are removed by name.
const KERNEL: Duration = Duration::from_millis(50);

/// Waits until none of `ends` is there, and has those removed that stay. Answers what to say of those
/// that are not this VM's.
pub(crate) async fn gone(
    root: &impl Root,
    vm: VmId,
    ends: &[IfName],
) -> anyhow::Result<Option<String>> {
    if vanish(ends, KERNEL).await {
        return Ok(None);
    }
    tracing::info!("host ends outlived their namespace, removing them by name");
    root.call(&Request::Unplug {
        vm,
        host_ends: ends.to_vec(),
    })
    .await?;
    if vanish(ends, KERNEL).await {
        return Ok(None);
    }
    // Root has removed every one of this VM's, or failed.
    let left: Vec<&str> = ends
        .iter()
        .filter(|e| exists(e))
        .map(IfName::as_str)
        .collect();
    Ok(Some(format!(
        "the VM has ended; a device that does not belong to it has the name of its NIC ({}) and was left alone: remove or rename that device before the VM is started again",
        left.join(", ")
    )))
}

fn exists(end: &IfName) -> bool {
    if_nametoindex(end.as_str()).is_ok()
}

async fn vanish(ends: &[IfName], within: Duration) -> bool {
    let gone = async || Ok::<_, Infallible>((!ends.iter().any(exists)).then_some(()));
    matches!(wait::until_async(within, gone).await, Ok(Some(())))
}
