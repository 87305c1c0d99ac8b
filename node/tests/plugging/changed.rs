//! NICs that change while their VM runs, by requests to `onedock-node`.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use onedock_common::VmId;
use onedock_common::state::boot::Nic;
use onedock_common::types::nic::Bandwidth;
use onedock_node::namespace::Process;
use onedock_node::network::plug;
use onedock_node::request::Request;
use onedock_tests::wait::wait_until;

use crate::{container, exists, ip, nic, on_a_host, tc};

/// A process with a network of its own in place of a container's first one, recorded as the runtime
/// records it.
pub(crate) struct RunningVm {
    first: Child,
    process: Process,
}

impl RunningVm {
    /// With its own `/run/onedock`, which ends with the thread of the test.
    pub(crate) fn start(nics: &[Nic]) -> Result<Self> {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        fs::create_dir_all("/run/onedock")?;
        mount(
            Some("tmpfs"),
            "/run/onedock",
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=700"),
        )?;
        let first = Command::new("unshare")
            .args(["--net", "sleep", "1000"])
            .spawn()?;
        let pid = i32::try_from(first.id())?;
        let own = fs::read_link("/proc/thread-self/ns/net")?;
        let apart = || {
            let there = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
            (there != own).then_some(())
        };
        wait_until("a network of its own", || Ok(apart().is_some()))?;
        let vm = Self {
            first,
            process: Process::of(pid)?,
        };
        plug::plug(VmId::new(5), &container(), nics, &vm.process.network()?)?;
        let record = serde_json::json!({
            "runtime": "/usr/bin/crun",
            "vm": {
                "id": 5,
                "root": "/none",
                "stubs": [],
                "nics": nics,
                "process": vm.process,
            },
        });
        let folder = Path::new("/run/onedock/containers");
        fs::create_dir(folder)?;
        fs::write(record_file(), record.to_string())?;
        Ok(vm)
    }

    pub(crate) fn inside(&self, arguments: &str) -> Result<String> {
        self.run("ip", arguments)
    }

    /// The number of eth0, and that of its host end.
    fn index(&self) -> Result<String> {
        let shown = self.inside("-o link show eth0")?;
        let (index, _) = shown.split_once(": <").context("no link")?;
        Ok(index.to_owned())
    }

    pub(crate) fn run(&self, program: &str, arguments: &str) -> Result<String> {
        let output = Command::new("nsenter")
            .args(["--net", "-t", &self.process.id().to_string(), program])
            .args(arguments.split(' '))
            .output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The NICs as they are recorded.
    fn recorded(&self) -> Result<Vec<Nic>> {
        let record: serde_json::Value = serde_json::from_slice(&fs::read(record_file())?)?;
        Ok(serde_json::from_value(record["vm"]["nics"].clone())?)
    }
}

impl Drop for RunningVm {
    fn drop(&mut self) {
        let _ = self.first.kill();
        let _ = self.first.wait();
    }
}

fn record_file() -> String {
    format!("/run/onedock/containers/{}.json", container())
}

pub(crate) fn change(vm: u32, nics: &[Nic]) -> Result<()> {
    let request = Request::ChangeNics {
        vm: VmId::new(vm),
        container: container(),
        nics: nics.to_vec(),
    };
    let mut child = Command::new(env!("CARGO_BIN_EXE_onedock-node"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(&serde_json::to_vec(&request)?)?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let error = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{}", error.trim());
    Ok(())
}

#[test]
fn a_nic_comes_and_goes_while_the_other_stays() -> Result<()> {
    on_a_host(|_| {
        let mut first = nic(5, 0, "10.1.0.5/16");
        first.gateway = Some("10.1.0.1".parse()?);
        let vm = RunningVm::start(std::slice::from_ref(&first))?;
        let index = vm.index()?;
        let mut further = nic(5, 3, "10.2.0.5/16");
        further.outbound = Some(Bandwidth {
            average: 1_000_000,
            peak: None,
            burst: None,
        });
        let both = [first.clone(), further];
        for _ in 0..2 {
            change(5, &both)?;
            ensure!(
                vm.inside("addr show eth3")?.contains("inet 10.2.0.5/16"),
                "no address"
            );
            ensure!(ip("link show one-5-3")?.contains("master br0"), "no port");
            ensure!(
                vm.run("tc", "qdisc show dev eth3")?.contains("rate 8Mbit"),
                "no bound"
            );
            ensure!(vm.index()? == index, "the first NIC is another");
            ensure!(vm.recorded()? == both, "{:?}", vm.recorded()?);
        }
        for _ in 0..2 {
            change(5, std::slice::from_ref(&first))?;
            ensure!(
                !exists("one-5-3")? && vm.inside("link show eth3").is_err(),
                "left"
            );
            ensure!(
                vm.inside("route")?.contains("default via 10.1.0.1"),
                "no route"
            );
            ensure!(vm.recorded()? == [first.clone()], "{:?}", vm.recorded()?);
        }
        change(5, &[])?;
        ensure!(!exists("one-5-0")? && vm.recorded()?.is_empty(), "left");
        Ok(())
    })
}

#[test]
fn addresses_routes_and_bandwidths_change_without_the_link() -> Result<()> {
    on_a_host(|_| {
        let mut before = nic(5, 0, "10.1.0.5/16");
        before.addresses.push("10.1.0.6/16".parse()?);
        before.addresses.push("fd00::5/64".parse()?);
        before.gateway = Some("10.1.0.1".parse()?);
        before.routes = vec!["10.8.0.0/16 via 10.1.0.9".parse()?];
        let slow = Some(Bandwidth {
            average: 1_000_000,
            peak: None,
            burst: None,
        });
        (before.inbound, before.outbound) = (slow, slow);
        let vm = RunningVm::start(&[before.clone()])?;
        let index = vm.index()?;
        // The kernel removes the second address of a network with the first.
        let mut after = nic(5, 0, "10.1.0.6/16");
        after.addresses.push("10.1.0.7/16".parse()?);
        after.gateway = Some("10.1.0.2".parse()?);
        after.routes = vec!["10.9.0.0/16 via 10.1.0.9".parse()?];
        change(5, &[after.clone()])?;
        let shown = vm.inside("addr show eth0")? + &vm.inside("route")?;
        for part in [
            "inet 10.1.0.6/16",
            "inet 10.1.0.7/16",
            "default via 10.1.0.2",
            "10.9.0.0/16 via 10.1.0.9",
        ] {
            ensure!(shown.contains(part), "no {part:?} in {shown}");
        }
        for gone in ["10.1.0.5/16", "fd00::5", "via 10.1.0.1 ", "10.8.0.0/16"] {
            ensure!(!shown.contains(gone), "{gone:?} in {shown}");
        }
        ensure!(vm.index()? == index, "another link");
        ensure!(tc("qdisc show dev one-5-0")?.contains("noqueue"), "bound");
        ensure!(
            vm.run("tc", "qdisc show dev eth0")?.contains("noqueue"),
            "bound"
        );
        ensure!(vm.recorded()? == [after], "{:?}", vm.recorded()?);
        change(5, &[before.clone()])?;
        ensure!(
            tc("qdisc show dev one-5-0")?.contains("rate 8Mbit"),
            "not bound"
        );
        ensure!(vm.inside("addr show eth0")?.contains("fd00::5"), "no IPv6");
        Ok(())
    })
}

#[test]
fn a_change_that_fails_leaves_the_other_nics_and_can_be_taken_back() -> Result<()> {
    on_a_host(|_| {
        let first = nic(5, 0, "10.1.0.5/16");
        let vm = RunningVm::start(std::slice::from_ref(&first))?;
        let mut elsewhere = nic(5, 1, "10.1.0.6/16");
        elsewhere.bridge = "none0".parse()?;
        for (nics, reason) in [
            (
                vec![first.clone(), elsewhere],
                "bridge none0 of NIC 1 does not exist",
            ),
            (
                vec![first.clone(), nic(5, 0, "10.1.0.7/16")],
                "two NICs of the VM, 0 and 0",
            ),
        ] {
            let error = change(5, &nics).unwrap_err().to_string();
            ensure!(error.contains(reason), "{error}");
            ensure!(vm.inside("addr show eth0")?.contains("10.1.0.5/16"), "lost");
        }
        change(5, std::slice::from_ref(&first))?;
        ensure!(vm.recorded()? == [first.clone()], "{:?}", vm.recorded()?);
        // A device of somebody else is not touched.
        ip("link add one-5-1 type veth peer name foreign")?;
        let error = change(5, &[first.clone(), nic(5, 1, "10.1.0.6/16")]).unwrap_err();
        ensure!(
            error.to_string().contains("is in the way of NIC 1"),
            "{error}"
        );
        ensure!(exists("one-5-1")?, "a foreign device was removed");
        for other in [6, 4] {
            let error = change(other, &[]).unwrap_err().to_string();
            ensure!(error.contains("does not run"), "{error}");
        }
        ensure!(exists("one-5-0")?, "another VM's NIC was removed");
        Ok(())
    })
}

#[test]
fn neighbours_hear_of_a_further_address_at_once() -> Result<()> {
    on_a_host(|_| {
        let first = nic(5, 0, "10.1.0.5/16");
        let _vm = RunningVm::start(std::slice::from_ref(&first))?;
        let mac = first.mac.to_string();
        // What the host believes, until it hears otherwise.
        ip("neigh replace 10.1.0.9 dev br0 lladdr 02:00:00:00:00:99 nud stale")?;
        let mut with_alias = first.clone();
        with_alias.addresses.push("10.1.0.9/16".parse()?);
        change(5, &[with_alias])?;
        wait_until("the neighbour's new address", || {
            Ok(ip("neigh show 10.1.0.9")?.contains(&mac))
        })
    })
}

#[test]
fn what_a_killed_call_has_left_half_done_is_done_by_the_next() -> Result<()> {
    on_a_host(|_| {
        let mut first = nic(5, 0, "10.1.0.5/16");
        first.gateway = Some("10.1.0.1".parse()?);
        let vm = RunningVm::start(std::slice::from_ref(&first))?;
        // Killed after it had recorded what it was about to do.
        let mut after = nic(5, 0, "10.1.0.7/16");
        after.metric = Some(9);
        let mut record: serde_json::Value = serde_json::from_slice(&fs::read(record_file())?)?;
        record["vm"]["former_nics"] = record["vm"]["nics"].clone();
        record["vm"]["nics"] = serde_json::to_value([&after])?;
        fs::write(record_file(), record.to_string())?;
        change(5, std::slice::from_ref(&after))?;
        let shown = vm.inside("addr show eth0")?;
        ensure!(shown.contains("10.1.0.7/16"), "{shown}");
        ensure!(!shown.contains("10.1.0.5/16"), "{shown}");
        let routes = vm.inside("route")?;
        ensure!(!routes.contains("default"), "{routes}");
        ensure!(vm.recorded()? == [after], "{:?}", vm.recorded()?);
        Ok(())
    })
}

#[test]
fn a_nic_that_a_killed_call_has_made_and_not_bounded_is_bounded_by_the_next() -> Result<()> {
    on_a_host(|_| {
        let mut both = [nic(5, 0, "10.1.0.5/16"), nic(5, 1, "10.1.0.6/16")];
        let vm = RunningVm::start(&both)?;
        both[1].inbound = Some(Bandwidth {
            average: 1_000_000,
            peak: None,
            burst: None,
        });
        let mut record: serde_json::Value = serde_json::from_slice(&fs::read(record_file())?)?;
        record["vm"]["former_nics"] = serde_json::to_value(&both[..1])?;
        record["vm"]["nics"] = serde_json::to_value(&both)?;
        fs::write(record_file(), record.to_string())?;
        change(5, &both)?;
        ensure!(
            tc("qdisc show dev one-5-1")?.contains("rate 8Mbit"),
            "not bound"
        );
        ensure!(vm.recorded()? == both, "{:?}", vm.recorded()?);
        Ok(())
    })
}

#[test]
fn a_default_route_that_stood_behind_another_comes_forward() -> Result<()> {
    on_a_host(|_| {
        let mut both = [nic(5, 0, "10.1.0.5/16"), nic(5, 1, "10.2.0.5/16")];
        both[0].gateway = Some("10.1.0.1".parse()?);
        both[1].gateway = Some("10.2.0.1".parse()?);
        let vm = RunningVm::start(&both)?;
        // The kernel takes one route of a metric.
        ensure!(
            vm.inside("route")?.matches("default").count() == 1,
            "two routes"
        );
        change(5, &both[1..])?;
        ensure!(
            vm.inside("route")?.contains("default via 10.2.0.1"),
            "no route"
        );
        Ok(())
    })
}

#[test]
fn two_changes_at_once_are_one_after_the_other() -> Result<()> {
    on_a_host(|_| {
        let first = nic(5, 0, "10.1.0.5/16");
        let vm = RunningVm::start(std::slice::from_ref(&first))?;
        let network = vm.process.network()?;
        let held = network.lock(std::time::Duration::ZERO)?;
        ensure!(held.is_some(), "held by nobody");
        let other = vm.process.network()?;
        ensure!(
            other.lock(std::time::Duration::ZERO)?.is_none(),
            "held twice"
        );
        drop((held, network, other));
        change(5, &[first, nic(5, 1, "10.1.0.6/16")])
    })
}

#[test]
fn a_dead_vm_gets_no_nic() -> Result<()> {
    on_a_host(|_| {
        let first = nic(5, 0, "10.1.0.5/16");
        let mut vm = RunningVm::start(std::slice::from_ref(&first))?;
        vm.first.kill()?;
        vm.first.wait()?;
        let error = change(5, &[first, nic(5, 1, "10.1.0.6/16")]).unwrap_err();
        ensure!(error.to_string().contains("is gone"), "{error}");
        ensure!(!exists("one-5-1")?, "a NIC of nobody");
        Ok(())
    })
}
