//! The host ends of a VM's NICs after it has stopped. OpenNebula's `clean`, which follows, counts
//! what is on the bridge, so the answer waits until they are gone: the kernel removes them with
//! the namespace, some milliseconds after the last process.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::net::if_::if_nametoindex;
use onedock_common::{IfName, VmId};
use onedock_node::request::Request;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

/// How long the kernel is given before the ends are removed by name.
const KERNEL: Duration = Duration::from_millis(50);
/// How long removing them by name may take.
const REMOVAL: Duration = Duration::from_secs(10);
/// The one program that may do it, by the one line in sudoers.
const NODE: &str = "/usr/lib/onedock/onedock-node";

/// Waits until none of `ends` is there, and has those removed that stay.
pub(crate) async fn gone(vm: VmId, ends: &[IfName]) -> anyhow::Result<()> {
    if vanish(ends, KERNEL).await {
        return Ok(());
    }
    tracing::info!("host ends outlived their namespace, removing them by name");
    unplug(vm, ends).await?;
    if vanish(ends, KERNEL).await {
        return Ok(());
    }
    let left: Vec<&str> = ends
        .iter()
        .filter(|e| exists(e))
        .map(IfName::as_str)
        .collect();
    bail!(
        "the VM has stopped but its host interface {} is still there; remove it with: ip link delete {}",
        left.join(", "),
        left.join(" ")
    )
}

fn exists(end: &IfName) -> bool {
    if_nametoindex(end.as_str()).is_ok()
}

async fn vanish(ends: &[IfName], within: Duration) -> bool {
    let deadline = Instant::now() + within;
    while ends.iter().any(exists) {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(Duration::from_millis(2)).await;
    }
    true
}

async fn unplug(vm: VmId, ends: &[IfName]) -> anyhow::Result<()> {
    let request = serde_json::to_vec(&Request::Unplug {
        vm,
        host_ends: ends.to_vec(),
    })?;
    let root = nix::unistd::geteuid().is_root();
    let mut command = if root {
        Command::new(NODE)
    } else {
        Command::new("/usr/bin/sudo")
    };
    if !root {
        command.args(["-n", NODE]);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {NODE}; run 'onedock setup node' on this host"))?;
    // One that refuses stops reading; its reason is on standard error, not in the broken pipe.
    let sent = match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(&request).await,
        None => Ok(()),
    };
    let output = timeout(REMOVAL, child.wait_with_output())
        .await
        .with_context(|| format!("{NODE} did not end within {} s", REMOVAL.as_secs()))??;
    if !output.status.success() {
        bail!("{NODE}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    sent.with_context(|| format!("{NODE} took no request"))
}
