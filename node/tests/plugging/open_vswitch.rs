//! NICs on an Open vSwitch bridge, whose frames the switch's own process forwards here.

use std::fs;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use onedock_common::VmId;
use onedock_common::state::boot::Nic;
use onedock_common::types::nic::BridgeKind;
use onedock_node::network::plug;
use onedock_tests::wait::wait_until;

use crate::{TestNetwork, new_network, nic, on_a_host, run};

/// The switch's processes and files, in the namespaces of the test's thread.
struct Switch(Vec<Child>);

impl Switch {
    fn start() -> Result<Self> {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        fs::create_dir_all("/run/openvswitch")?;
        mount(
            Some("tmpfs"),
            "/run/openvswitch",
            Some("tmpfs"),
            MsFlags::empty(),
            none,
        )?;
        let database = "/run/openvswitch/conf.db";
        run(&format!(
            "ovsdb-tool create {database} /usr/share/openvswitch/vswitch.ovsschema"
        ))?;
        let mut switch = Self(Vec::new());
        switch.spawn(&format!(
            "ovsdb-server --remote=punix:/run/openvswitch/db.sock {database}"
        ))?;
        wait_until("the switch's database", || {
            Ok(run("ovs-vsctl --no-wait --timeout=1 init").is_ok())
        })?;
        switch.spawn("ovs-vswitchd --disable-system unix:/run/openvswitch/db.sock")?;
        run("ovs-vsctl --timeout=20 add-br ovs0 -- set bridge ovs0 datapath_type=netdev")?;
        Ok(switch)
    }

    fn spawn(&mut self, line: &str) -> Result<()> {
        let mut words = line.split(' ');
        let child = Command::new(words.next().context("no program")?)
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{line} (make test-deps installs it)"))?;
        self.0.push(child);
        Ok(())
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for child in self.0.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn port(vm: u32, address: &str, vlan: Option<&str>) -> Result<Nic> {
    let mut nic = nic(vm, 0, address);
    nic.bridge = "ovs0".parse()?;
    nic.bridge_kind = BridgeKind::OpenVSwitch;
    nic.mac = format!("02:00:0a:01:01:{vm:02x}").parse()?;
    nic.vlan = vlan.map(str::parse).transpose()?;
    Ok(nic)
}

fn reaches(from: &TestNetwork, address: &str) -> bool {
    let ping = format!("ping -c 1 -W 2 {address}");
    from.container
        .within(|| run(&ping).map_err(crate::Wrapped))
        .is_ok()
}

#[test]
fn vms_of_one_vlan_reach_each_other_and_a_port_keeps_its_tag_and_number_over_a_restart()
-> Result<()> {
    on_a_host(|first| {
        let _switch = Switch::start()?;
        let others = [new_network()?, new_network()?];
        let [second, third] = others.map(|container| TestNetwork { container });
        first.plug(5, &[port(5, "10.1.0.5/16", Some("42"))?])?;
        second.plug(6, &[port(6, "10.1.0.6/16", Some("42"))?])?;
        third.plug(7, &[port(7, "10.1.0.7/16", Some("43"))?])?;
        ensure!(reaches(first, "10.1.0.6"), "no way within a VLAN");
        ensure!(!reaches(first, "10.1.0.7"), "a way out of a VLAN");

        // What `post` of OpenNebula's driver sets of a port stays with it.
        run("ovs-vsctl set port one-6-0 tag=43")?;
        let number = run("ovs-vsctl get Interface one-6-0 ofport")?;
        plug::pull(VmId::new(6), &["one-6-0".parse()?])?;
        // Another port in between would take the number that is free.
        let fourth = TestNetwork {
            container: new_network()?,
        };
        fourth.plug(8, &[port(8, "10.1.0.8/16", Some("43"))?])?;
        second.plug(6, &[port(6, "10.1.0.6/16", Some("42"))?])?;
        ensure!(
            run("ovs-vsctl get port one-6-0 tag")?.trim() == "43",
            "another tag"
        );
        wait_until("the port's number", || {
            Ok(run("ovs-vsctl get Interface one-6-0 ofport")? == number)
        })?;
        wait_until("no way after a restart", || {
            Ok(reaches(&second, "10.1.0.7"))
        })?;
        ensure!(!reaches(&second, "10.1.0.5"), "a way out of a VLAN");
        Ok(())
    })
}

#[test]
fn a_port_of_somebody_else_is_neither_taken_nor_removed() -> Result<()> {
    on_a_host(|network| {
        let _switch = Switch::start()?;
        // A port without a link, and a bond, which has no interface of its name.
        run(
            "ovs-vsctl add-port ovs0 patch0 tag=7 -- set Interface patch0 type=patch options:peer=none",
        )?;
        run("ip link add b1 type veth peer name b2")?;
        run("ovs-vsctl add-bond ovs0 bond0 b1 b2")?;
        for name in ["patch0", "bond0"] {
            let mut foreign = port(5, "10.1.0.5/16", Some("42"))?;
            foreign.host = name.parse()?;
            for refused in [
                plug::check(VmId::new(5), &[foreign.clone()]),
                network.plug(5, &[foreign.clone()]),
            ] {
                let error = refused.unwrap_err().to_string();
                ensure!(
                    error.contains(&format!("a port {name} that is not")),
                    "{error}"
                );
            }
            plug::pull_after_death(VmId::new(5), &[foreign])?;
            let ports = run("ovs-vsctl list-ports ovs0")?;
            ensure!(ports.contains(name), "{name} is gone: {ports}");
        }
        // Nor is one of another VM, whose name a template can take.
        network.plug(5, &[port(5, "10.1.0.5/16", None)?])?;
        let other = TestNetwork {
            container: new_network()?,
        };
        let mut taken = port(6, "10.1.0.6/16", None)?;
        taken.host = "one-5-0".parse()?;
        let error = other.plug(6, &[taken.clone()]).unwrap_err().to_string();
        ensure!(error.contains("one-5-0"), "{error}");
        ensure!(
            run("ovs-vsctl list-ports ovs0")?.contains("one-5-0"),
            "the port of another VM is gone"
        );
        ensure!(
            run("ovs-vsctl get port patch0 tag")?.trim() == "7",
            "another tag"
        );
        let kind = run("ovs-vsctl get Interface patch0 type")?;
        ensure!(kind.trim() == "patch", "another type: {kind}");
        Ok(())
    })
}

#[test]
fn a_bridge_that_is_not_there_is_named_and_a_failed_plug_leaves_no_port() -> Result<()> {
    on_a_host(|network| {
        let _switch = Switch::start()?;
        let mut absent = port(5, "10.1.0.5/16", None)?;
        absent.bridge = "ovs9".parse()?;
        for refused in [
            plug::check(VmId::new(5), &[absent.clone()]),
            network.plug(5, &[absent.clone()]),
        ] {
            let error = refused.unwrap_err().to_string();
            ensure!(
                error.starts_with("NIC 0: there is no Open vSwitch bridge ovs9"),
                "{error}"
            );
        }
        let mut second = absent;
        second.id = onedock_common::NicId::new(1);
        second.host = "one-5-1".parse()?;
        network
            .plug(5, &[port(5, "10.1.0.5/16", None)?, second])
            .unwrap_err();
        let ports = run("ovs-vsctl list-ports ovs0")?;
        ensure!(ports.trim().is_empty(), "left: {ports}");
        Ok(())
    })
}
