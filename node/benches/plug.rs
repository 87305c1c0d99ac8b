//! What plugging one NIC costs, beside `ip` by hand, in turns and in one run: `make bench`, or, as
//! root, `cargo bench -p onedock-node --bench plug`.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sched::{CloneFlags, unshare};
use onedock_common::state::boot::Nic;
use onedock_common::{ContainerId, VmId};
use onedock_node::namespace::{Network, Process};
use onedock_node::network::plug;

const ROUNDS: u16 = 100;
/// How many ports the bridge has in the second part.
const PORTS: u16 = 900;
/// Where Debian's containernetworking-plugins has it.
const CNI: &str = "/usr/lib/cni/bridge";

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
    let (mut ours, mut by_hand, mut by_cni) = (Vec::new(), Vec::new(), Vec::new());
    // The namespaces live as long as their ends are ports.
    let mut networks = Vec::new();
    for round in 1..=ROUNDS {
        let (network, took) = plugged(round)?;
        networks.push(network);
        ours.push(took);

        let begun = Instant::now();
        ip(&format!("link add h{round} type veth peer name p{round}"))?;
        ip(&format!("link set h{round} master br0 up"))?;
        ip(&format!("address add 10.1.9.{round}/16 dev p{round}"))?;
        ip(&format!("link set p{round} up"))?;
        by_hand.push(begun.elapsed());
        ip(&format!("link del h{round}"))?;
        if Path::new(CNI).exists() {
            by_cni.push(cni(round)?);
        }
    }
    let (median, p99) = quantiles(ours)?;
    let (median_by_hand, _) = quantiles(by_hand)?;
    println!(
        "plugging one NIC: median {median:.1?}, p99 {p99:.1?}; {:.2} x ip by hand ({median_by_hand:.1?})",
        ratio(median, median_by_hand)
    );
    if by_cni.is_empty() {
        println!("{CNI} is not there (package containernetworking-plugins): not compared");
    } else {
        let (median_by_cni, _) = quantiles(by_cni)?;
        println!(
            "    {:.2} x the CNI plug-in bridge ({median_by_cni:.1?})",
            ratio(median, median_by_cni)
        );
    }
    for round in ROUNDS + 1..=PORTS {
        networks.push(plugged(round)?.0);
    }
    let ports = ip("-o link show master br0")?.lines().count();
    ensure!(ports >= PORTS.into(), "{ports} NICs are on the bridge");
    let mut full = Vec::new();
    for round in PORTS + 1..=PORTS + ROUNDS {
        let (network, took) = plugged(round)?;
        networks.push(network);
        full.push(took);
    }
    let (median, p99) = quantiles(full)?;
    println!("plugging one NIC beside {PORTS}: median {median:.1?}, p99 {p99:.1?}");
    Ok(())
}

/// Plugs the one NIC of a new container.
fn plugged(round: u16) -> Result<(Network, Duration)> {
    let network = network()?;
    let container: ContainerId = "ab".repeat(32).parse()?;
    let nic = nic(round)?;
    let begun = Instant::now();
    plug::plug(VmId::new(round.into()), &container, &[nic], &network)?;
    Ok((network, begun.elapsed()))
}

/// The same by the plug-in that others call, which makes a bridge of its own.
fn cni(round: u16) -> Result<Duration> {
    let mut process = Command::new("unshare")
        .args(["--net", "sleep", "1000"])
        .spawn()?;
    let path = format!("/proc/{}/ns/net", process.id());
    let own = fs::read_link("/proc/thread-self/ns/net")?;
    while fs::read_link(&path).is_ok_and(|there| there == own) {
        thread::yield_now();
    }
    let address = format!("10.2.{}.{}/16", round / 250, round % 250 + 2);
    let network = format!(
        r#"{{"cniVersion":"0.4.0","name":"bench","type":"bridge","bridge":"cni0",
            "ipam":{{"type":"static","addresses":[{{"address":"{address}","gateway":"10.2.0.1"}}]}}}}"#
    );
    let begun = Instant::now();
    let mut plugin = Command::new(CNI)
        .env("CNI_COMMAND", "ADD")
        .env("CNI_CONTAINERID", format!("bench{round}"))
        .env("CNI_NETNS", &path)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", "/usr/lib/cni")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = plugin.stdin.take().context("no standard input")?;
    stdin.write_all(network.as_bytes())?;
    drop(stdin);
    let output = plugin.wait_with_output()?;
    let took = begun.elapsed();
    process.kill()?;
    process.wait()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(took)
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
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

fn nic(round: u16) -> Result<Nic> {
    let [high, low] = round.to_be_bytes();
    let address = format!("10.1.{}.{}/16", round / 250, round % 250 + 2);
    Ok(Nic {
        bridge: "br0".parse()?,
        mac: format!("02:00:0a:01:{high:02x}:{low:02x}").parse()?,
        gateway: Some("10.1.0.1".parse()?),
        ..onedock_tests::test_host::nic(round.into(), 0, &address)?
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
