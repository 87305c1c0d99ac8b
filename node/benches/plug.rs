//! What plugging one NIC costs, beside `ip` by hand, in turns and in one run: `make bench`, or, as
//! root, `cargo bench -p onedock-node --bench plug`.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sched::{CloneFlags, unshare};
use onedock_common::state::boot::Nic;
use onedock_common::types::nic::{Autoconf, BridgeKind};
use onedock_common::{ContainerId, NicId, VmId};
use onedock_node::namespace::{Network, Process};
use onedock_node::network::plug;

const ROUNDS: u8 = 100;

fn main() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the bench needs root: it makes network namespaces of its own"
    );
    thread::spawn(bench)
        .join()
        .map_err(|_| anyhow!("the bench has panicked"))?
}

fn bench() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    ip("link add br0 type bridge")?;
    ip("link set br0 up")?;
    ip("address add 10.1.0.1/16 dev br0")?;
    let (mut ours, mut by_hand) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let network = network()?;
        let container: ContainerId = "ab".repeat(32).parse()?;
        let begun = Instant::now();
        plug::plug(
            VmId::new(round.into()),
            &container,
            &[nic(round)?],
            &network,
        )?;
        ours.push(begun.elapsed());

        let begun = Instant::now();
        ip(&format!("link add h{round} type veth peer name p{round}"))?;
        ip(&format!("link set h{round} master br0 up"))?;
        ip(&format!("address add 10.1.1.{round}/16 dev p{round}"))?;
        ip(&format!("link set p{round} up"))?;
        by_hand.push(begun.elapsed());
        ip(&format!("link del h{round}"))?;
    }
    let plugged = ip("-o link show master br0")?.lines().count();
    ensure!(plugged > 0, "no NIC is on the bridge");
    let (median, p99) = quantiles(ours)?;
    let (median_by_hand, _) = quantiles(by_hand)?;
    println!(
        "plugging one NIC: median {median:.1?}, p99 {p99:.1?}; {:.2} x ip by hand ({median_by_hand:.1?})",
        median.as_secs_f64() / median_by_hand.as_secs_f64()
    );
    Ok(())
}

/// The network of a process that was a container's.
fn network() -> Result<Network> {
    let process = thread::spawn(|| -> Result<Child> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(Command::new("sleep").arg("1000").spawn()?)
    });
    let mut process = process
        .join()
        .map_err(|_| anyhow!("a namespace could not be made"))??;
    let network = Process::of(i32::try_from(process.id())?).and_then(|p| p.network());
    process.kill()?;
    process.wait()?;
    Ok(network?)
}

fn nic(round: u8) -> Result<Nic> {
    Ok(Nic {
        id: NicId::new(0),
        host: format!("one-{round}-0").parse()?,
        bridge: "br0".parse()?,
        mac: format!("02:00:0a:01:00:{round:02x}").parse()?,
        mtu: None,
        addresses: vec![format!("10.1.0.{}/16", round + 1).parse()?],
        gateway: Some("10.1.0.1".parse()?),
        gateway6: None,
        metric: None,
        metric6: None,
        bridge_kind: BridgeKind::Linux,
        vlan: None,
        routes: Vec::new(),
        autoconf: Autoconf::Kernel,
        inbound: None,
        outbound: None,
    })
}

fn quantiles(mut times: Vec<Duration>) -> Result<(Duration, Duration)> {
    times.sort();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len() - 1));
    let (median, p99) = (at(50), at(99));
    Ok((*median.context("no times")?, *p99.context("no times")?))
}

fn ip(arguments: &str) -> Result<String> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    ensure!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
