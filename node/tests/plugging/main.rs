//! NICs against the kernel, in network namespaces of the test's own; needs root.
#![allow(clippy::unwrap_used, reason = "fixed values of a test")]

mod bandwidth;
mod changed;
mod guarded;
mod inside;
mod open_vswitch;

use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sched::{CloneFlags, unshare};
use onedock_common::state::boot::Nic;
use onedock_common::{ContainerId, VmId};
use onedock_node::namespace::{Network, Process};
use onedock_node::network::links;
use onedock_node::network::{PlugError, plug};

/// A host and a container: two network namespaces that end with the threads and descriptors of
/// the test.
struct TestNetwork {
    container: Network,
}

/// The network of a process that was a container's.
fn new_network() -> Result<Network> {
    let process = thread::spawn(|| -> Result<Child> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(Command::new("sleep").arg("1000").spawn()?)
    });
    let mut process = process.join().unwrap()?;
    let network = Process::of(i32::try_from(process.id())?).and_then(|p| p.network());
    process.kill()?;
    process.wait()?;
    Ok(network?)
}

/// Runs a test in a host's network of its own.
fn on_a_host(test: impl FnOnce(&TestNetwork) -> Result<()> + Send + 'static) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "this test needs root: it makes network namespaces"
    );
    thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        ip("link add br0 type bridge")?;
        ip("link set br0 up mtu 1400")?;
        ip("address add 10.1.0.1/16 dev br0")?;
        test(&TestNetwork {
            container: new_network()?,
        })
    })
    .join()
    .unwrap()
}

fn ip(arguments: &str) -> Result<String> {
    run(&format!("ip {arguments}"))
}

fn tc(arguments: &str) -> Result<String> {
    run(&format!("tc {arguments}"))
}

fn run(line: &str) -> Result<String> {
    let (program, arguments) = line.split_once(' ').unwrap_or((line, ""));
    let output = Command::new(program).args(arguments.split(' ')).output()?;
    ensure!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

impl TestNetwork {
    fn inside(&self, arguments: &str) -> Result<String> {
        self.container
            .within(|| ip(arguments).map_err(Wrapped))
            .map_err(|e| e.0)
    }

    fn plug(&self, vm: u32, nics: &[Nic]) -> Result<(), PlugError> {
        plug::plug(VmId::new(vm), &container(), nics, &self.container)
    }
}

/// An error that namespace work can answer.
#[derive(Debug)]
struct Wrapped(anyhow::Error);

impl From<onedock_node::namespace::NamespaceError> for Wrapped {
    fn from(error: onedock_node::namespace::NamespaceError) -> Self {
        Self(error.into())
    }
}

fn container() -> ContainerId {
    "ab".repeat(32).parse().unwrap()
}

fn nic(vm: u32, id: u32, address: &str) -> Nic {
    Nic {
        bridge: "br0".parse().unwrap(),
        mac: format!("02:00:0a:01:{:02x}:{:02x}", id / 256, id % 256)
            .parse()
            .unwrap(),
        ..onedock_tests::test_host::nic(vm, id, address).unwrap()
    }
}

fn exists(name: &str) -> Result<bool> {
    let found: Result<bool, PlugError> =
        links::with(async |links| Ok(links.find(name).await?.is_some()));
    Ok(found?)
}

#[test]
fn a_nic_takes_the_bridges_mtu_or_its_own_and_keeps_the_bridges_mac_stable() -> Result<()> {
    on_a_host(|network| {
        let mut own = nic(5, 1, "10.1.0.6/16");
        own.mtu = Some(1300);
        network.plug(5, &[nic(5, 0, "10.1.0.5/16"), own])?;
        ensure!(
            network.inside("link show eth0")?.contains("mtu 1400"),
            "the bridge's"
        );
        ensure!(
            network.inside("link show eth1")?.contains("mtu 1300"),
            "its own"
        );
        ensure!(
            ip("link show one-5-0")?.contains("link/ether fe:"),
            "the near end's address"
        );
        ensure!(
            ip("link show one-5-0")?.contains("master br0"),
            "a port of the bridge"
        );
        ensure!(
            ip("link show one-5-0")?.contains("alias onedock:5:abababababab"),
            "the owner"
        );
        ensure!(
            !ip("addr show one-5-0")?.contains("inet6"),
            "a port that listens to what a VM sends"
        );
        plug::pull(VmId::new(5), &["one-5-0".parse()?, "one-5-1".parse()?])?;
        ensure!(!exists("one-5-0")? && !exists("one-5-1")?, "left");
        Ok(())
    })
}

#[test]
fn fault_54_odd_addresses_and_gateways_have_a_defined_result() -> Result<()> {
    on_a_host(|network| {
        // IPv6 alone, with a gateway that is link-local; no address at all; the same address
        // twice; two default routes of one metric; a gateway outside the NIC's network.
        let mut six = nic(5, 0, "fd00::5/64");
        six.gateway6 = Some("fe80::1".parse()?);
        let mut bare = nic(5, 1, "10.1.0.9/16");
        bare.addresses.clear();
        let mut twice = nic(5, 2, "10.1.0.5/16");
        twice.addresses.push(twice.addresses[0]);
        twice.gateway = Some("10.1.0.1".parse()?);
        let mut outside = nic(5, 3, "10.1.0.5/32");
        outside.gateway = Some("192.168.9.1".parse()?);
        outside.metric = Some(50);
        let mut second = nic(5, 4, "10.1.0.8/16");
        second.gateway = Some("10.1.0.2".parse()?);
        network.plug(5, &[six, bare, twice, outside, second])?;
        let routes = network.inside("route")?;
        ensure!(routes.contains("default via 10.1.0.1 dev eth2"), "{routes}");
        ensure!(
            routes.contains("default via 192.168.9.1 dev eth3 proto static metric 50 onlink"),
            "{routes}"
        );
        ensure!(
            !routes.contains("default via 10.1.0.2"),
            "the first stays: {routes}"
        );
        ensure!(
            network
                .inside("-6 route")?
                .contains("default via fe80::1 dev eth0"),
            "IPv6"
        );
        ensure!(
            !network
                .inside("-6 addr")?
                .contains("fd00::5/64 scope global tentative"),
            "usable"
        );
        ensure!(
            network.inside("link show eth1")?.contains(",UP"),
            "without an address"
        );
        Ok(())
    })
}

#[test]
fn fault_51_a_foreign_device_stays_and_our_stale_one_is_replaced() -> Result<()> {
    on_a_host(|network| {
        ip("link add one-5-1 type veth peer name foreign")?;
        let nics = [nic(5, 0, "10.1.0.5/16"), nic(5, 1, "10.1.0.6/16")];
        let refused = network.plug(5, &nics);
        ensure!(
            matches!(refused, Err(PlugError::NameTaken { .. })),
            "{refused:?}"
        );
        ensure!(!exists("one-5-0")?, "what was plugged so far is pulled");
        plug::pull(VmId::new(5), &["one-5-1".parse()?])?;
        ensure!(exists("one-5-1")?, "a foreign device was removed");
        // Another VM's is foreign too; so is one whose alias only begins alike.
        for alias in [
            "onedock:6:abababababab",
            "onedock:55:abababababab",
            "onedock",
        ] {
            ip(&format!("link set one-5-1 alias {alias}"))?;
            ensure!(
                matches!(network.plug(5, &nics), Err(PlugError::NameTaken { .. })),
                "{alias}"
            );
        }
        ip("link set one-5-1 alias onedock:5:0123456789ab")?;
        network.plug(5, &nics)?;
        ensure!(!exists("foreign")?, "the stale pair is gone");
        Ok(())
    })
}

#[test]
fn fault_49_every_unusable_bridge_is_named_with_its_nic() -> Result<()> {
    on_a_host(|network| {
        ip("link add down0 type bridge")?;
        for (bridge, text) in [
            ("gone0", "bridge gone0 of NIC 0 does not exist on this host"),
            ("lo", "lo of NIC 0 is not a Linux bridge"),
            ("down0", "bridge down0 of NIC 0 is down"),
        ] {
            let mut nic = nic(5, 0, "10.1.0.5/16");
            nic.bridge = bridge.parse()?;
            for refused in [
                plug::check(VmId::new(5), &[nic.clone()]),
                network.plug(5, &[nic]),
            ] {
                let error = refused.unwrap_err().to_string();
                ensure!(error.starts_with(text), "{error}");
            }
        }
        let mut huge = nic(5, 0, "10.1.0.5/16");
        huge.mtu = Some(70_000);
        let error = network.plug(5, &[huge]).unwrap_err().to_string();
        ensure!(
            error.starts_with("NIC 0 on bridge br0: making the pair one-5-0 failed"),
            "{error}"
        );
        Ok(())
    })
}

#[test]
fn host_ends_that_outlive_their_namespace_for_50_ms_are_removed() -> Result<()> {
    on_a_host(|network| {
        network.plug(5, &[nic(5, 0, "10.1.0.5/16")])?;
        ip("link add one-5-1 type veth peer name foreign")?;
        let begin = Instant::now();
        // The namespace lives on, as when another process holds it.
        plug::pull_after_death(
            VmId::new(5),
            &[nic(5, 0, "10.1.0.5/16"), nic(5, 1, "10.1.0.6/16")],
        )?;
        ensure!(
            !exists("one-5-0")? && exists("one-5-1")?,
            "ours goes, the foreign one stays"
        );
        ensure!(
            begin.elapsed() < Duration::from_secs(2),
            "it took {:?}",
            begin.elapsed()
        );
        Ok(())
    })
}

#[test]
fn onedock_node_answers_one_request_and_refuses_all_else() -> Result<()> {
    use std::io::Write;
    on_a_host(|network| {
        network.plug(5, &[nic(5, 0, "10.1.0.5/16")])?;
        let ask = |arguments: &[&str], request: &[u8]| -> Result<(bool, String, String)> {
            let mut child = Command::new(env!("CARGO_BIN_EXE_onedock-node"))
                .args(arguments)
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()?;
            let mut stdin = child.stdin.take().unwrap();
            // The program may refuse before it has read all.
            let _ = stdin.write_all(request);
            drop(stdin);
            let output = child.wait_with_output()?;
            let text = |bytes| String::from_utf8(bytes);
            Ok((
                output.status.success(),
                text(output.stdout)?,
                text(output.stderr)?,
            ))
        };
        let good = br#"{"action":"unplug","vm":5,"host_ends":["one-5-0","one-5-9"]}"#;
        for (arguments, request) in [
            (&["--help"][..], &good[..]),
            (&[], br#"{"action":"run","command":"id"}"#),
            (
                &[],
                br#"{"action":"unplug","vm":5,"host_ends":["one-5-0"],"x":1}"#,
            ),
            (&[], &[b' '; 70_000]),
            (&[], b""),
        ] {
            let (done, out, err) = ask(arguments, request)?;
            ensure!(
                !done && out.is_empty() && err.lines().count() == 1,
                "{out} {err}"
            );
        }
        let other = br#"{"action":"unplug","vm":6,"host_ends":["one-5-0"]}"#;
        ensure!(
            ask(&[], other)?.0 && exists("one-5-0")?,
            "another VM's link was removed"
        );
        for _ in 0..2 {
            ensure!(
                ask(&[], good)? == (true, "{\"done\":true}\n".into(), String::new()),
                "unplug"
            );
            ensure!(!exists("one-5-0")?, "not removed");
        }
        Ok(())
    })
}

#[test]
fn what_the_kernel_would_answer_with_a_number_is_reported_with_its_reason_and_leaves_nothing()
-> Result<()> {
    on_a_host(|network| {
        let refused = |nics: &[Nic], expected: &str| -> Result<()> {
            let checked = plug::check(VmId::new(5), nics).unwrap_err().to_string();
            ensure!(checked.contains(expected), "{checked}");
            let plugged = network.plug(5, nics).unwrap_err().to_string();
            ensure!(plugged == checked, "{plugged}");
            ensure!(!exists("one-5-0")? && !exists("one-5-1")?, "left");
            Ok(())
        };
        let first = nic(5, 0, "10.1.0.5/16");
        // The NIC's own MTU, and the bridge's.
        let mut small = nic(5, 1, "fd00::5/64");
        small.mtu = Some(1279);
        refused(
            &[first.clone(), small.clone()],
            "NIC 1 on bridge br0 has an IPv6 address and an MTU of 1279, and IPv6 needs at least 1280",
        )?;
        small.mtu = None;
        ip("link set br0 mtu 1000")?;
        refused(&[first.clone(), small.clone()], "an MTU of 1000")?;
        network.plug(5, &[nic(5, 0, "10.1.0.5/16")])?;
        plug::pull(VmId::new(5), &["one-5-0".parse()?])?;
        ip("link set br0 mtu 1280")?;
        network.plug(5, &[small])?;
        plug::pull(VmId::new(5), &["one-5-1".parse()?])?;

        let mut same = nic(5, 1, "10.1.0.6/16");
        same.host = first.host.clone();
        refused(
            &[first.clone(), same],
            "0 and 1, have the same TARGET (one-5-0)",
        )?;
        let mut same = nic(5, 1, "10.1.0.6/16");
        same.mac = first.mac;
        refused(
            &[first.clone(), same.clone()],
            "have the same MAC (02:00:0a:01:00:00) on the bridge br0",
        )?;
        ip("link add br1 type bridge")?;
        ip("link set br1 up")?;
        same.bridge = "br1".parse()?;
        network.plug(5, &[first, same])?;
        plug::pull(VmId::new(5), &["one-5-0".parse()?, "one-5-1".parse()?])?;
        Ok(())
    })
}

#[test]
fn a_thousand_cycles_leave_no_link() -> Result<()> {
    on_a_host(|network| {
        let count = || Ok::<_, anyhow::Error>(ip("-o link")?.lines().count());
        let before = count()?;
        let nics = [nic(5, 0, "10.1.0.5/16"), nic(5, 1, "10.1.0.6/16")];
        let ends = ["one-5-0".parse()?, "one-5-1".parse()?];
        for _ in 0..500 {
            network.plug(5, &nics)?;
            plug::pull(VmId::new(5), &ends)?;
        }
        ensure!(count()? == before, "{} links of {before}", count()?);
        ensure!(
            network.inside("-o link")?.lines().count() == 1,
            "left inside"
        );
        Ok(())
    })
}
