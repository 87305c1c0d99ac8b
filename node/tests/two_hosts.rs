//! VMs on two hosts that share a network as OpenNebula's drivers `vxlan` and `fw` lay it: each host
//! has an engine and a network of its own, a cable joins them, and on each end a bridge has a vxlan
//! device over the cable. Docker's own policy (FORWARD DROP) is on, as on every node.
#![allow(clippy::unwrap_used, reason = "fixed values of a test")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use onedock_common::ContainerId;
use onedock_common::state::boot::BootSpec;
use onedock_tests::test_host::{BRIDGE, CRUN, RUNC, TestHost, boot_spec, nic};

/// The VM's page, on two ports. The big file needs packets of full size.
const WEB: &str = "busybox mkdir -p /www; echo page of $HOSTNAME >/www/index.html; \
    busybox dd if=/dev/zero of=/www/big bs=1M count=1 2>/dev/null; \
    httpd -p 80 -h /www; exec httpd -f -p 8080 -h /www";

struct Host(TestHost);

impl Host {
    fn start(behind: &str) -> Result<Self> {
        TestHost::start(env!("CARGO_BIN_EXE_onedock-runtime"), behind, &[]).map(Self)
    }

    fn run(&self, line: &str) -> Result<String> {
        let words: Vec<&str> = line.split(' ').collect();
        self.0.engine.run(words[0], &words[1..])
    }

    /// Its end of the network (`vnm/vxlan/pre`) and what Docker does to it.
    fn join(&self, cable: &str, address: &str) -> Result<()> {
        for line in [
            format!("ip address add {address} dev {cable}"),
            format!("ip link set {cable} up"),
            format!("ip link add {BRIDGE} mtu 1450 type bridge"),
            format!("ip link set {BRIDGE} up"),
            format!(
                "ip link add {cable}.5 mtu 1450 type vxlan id 5 group 239.0.0.5 ttl 16 dev {cable} dstport 8472"
            ),
            format!("ip link set {cable}.5 master {BRIDGE}"),
            format!("ip link set {cable}.5 up"),
            "iptables -P FORWARD DROP".into(),
            "ip6tables -P FORWARD DROP".into(),
        ] {
            self.run(&line)?;
        }
        self.0.engine.inside(|| {
            for tool in ["iptables", "ip6tables"] {
                let switch = format!("/proc/sys/net/bridge/bridge-nf-call-{tool}");
                if Path::new(&switch).exists() {
                    fs::write(&switch, "1\n")?;
                }
            }
            Ok(())
        })
    }

    fn vm(&self, vm: u8) -> Result<Vm<'_>> {
        let id = self.0.start_vm(&spec(vm)?)?;
        let vm = Vm { host: self, vm, id };
        vm.wait_until_it_serves()?;
        Ok(vm)
    }

    /// The rules of a security group that lets in port 80 alone, for one NIC, and those against
    /// forged MAC addresses, as `security_groups_iptables.rb` (`nic_pre`, `nic_post`) lays them.
    fn allow_only_port_80(&self, vm: u8) -> Result<()> {
        let nic = format!("one-{vm}-0");
        let jump = "-I opennebula -m physdev --physdev-is-bridged";
        for rule in [
            format!("-N {nic}-i"),
            format!("-N {nic}-o"),
            format!("{jump} --physdev-out {nic} -j {nic}-i"),
            format!("{jump} --physdev-in {nic} -j {nic}-o"),
            format!("-A {nic}-i -m state --state ESTABLISHED,RELATED -j RETURN"),
            format!("-A {nic}-o -m state --state ESTABLISHED,RELATED -j RETURN"),
            format!("-A {nic}-o -m mac ! --mac-source {} -j DROP", mac(vm)),
            format!("-A {nic}-i -p tcp -m multiport --dports 80 -j RETURN"),
            format!("-A {nic}-i -j DROP"),
        ] {
            self.run(&format!("iptables {rule}"))?;
        }
        Ok(())
    }

    /// How often the chain of OpenNebula is jumped to.
    fn jumps(&self) -> Result<usize> {
        Ok(self
            .run("iptables -S FORWARD")?
            .matches("-j opennebula")
            .count())
    }
}

struct Vm<'a> {
    host: &'a Host,
    vm: u8,
    id: ContainerId,
}

impl Vm<'_> {
    fn address(&self) -> String {
        format!("10.79.0.{}", self.vm)
    }

    fn exec(&self, line: &str) -> Result<String> {
        let mut arguments = vec!["exec", self.id.as_str()];
        arguments.extend(line.split(' '));
        self.host.0.engine.docker(&arguments)
    }

    /// A start has answered before the program in the VM serves.
    fn wait_until_it_serves(&self) -> Result<()> {
        let begin = Instant::now();
        loop {
            match self.ask("127.0.0.1", 8080, "index.html") {
                Ok(_) => return Ok(()),
                Err(e) if begin.elapsed() > Duration::from_secs(20) => return Err(e),
                Err(_) => onedock_common::wait::pause(Duration::from_millis(50)),
            }
        }
    }

    fn restart(&self) -> Result<()> {
        let id = self.id.as_str();
        self.host.0.engine.docker(&["restart", "-t", "0", id])?;
        self.wait_until_it_serves()
    }

    /// What the other VM's port answers this one; an error when nothing comes.
    fn ask(&self, other: &str, port: u16, file: &str) -> Result<String> {
        // Debian's static busybox dies of wget's own -T.
        let url = format!("http://{other}:{port}/{file}");
        self.exec(&format!("busybox timeout 3 wget -q -O - {url}"))
    }

    fn page(&self) -> String {
        format!("page of web{}", self.vm)
    }

    /// Every port of the other answers, also in IPv6 and with packets of full size.
    fn reaches(&self, other: &Vm<'_>) -> Result<()> {
        for address in [other.address(), format!("[fd79::{}]", other.vm)] {
            for port in [80, 8080] {
                let page = self.ask(&address, port, "index.html")?;
                ensure!(page == other.page(), "{address}:{port} answered {page:?}");
            }
        }
        let size = self.exec(&format!(
            "busybox timeout 5 wget -q -O /big http://{}/big",
            other.address()
        ));
        size.and_then(|_| self.exec("busybox stat -c %s /big"))
            .and_then(|size| {
                ensure!(size == "1048576", "{size} bytes of the big file");
                Ok(())
            })
    }
}

fn mac(vm: u8) -> String {
    format!("02:00:0a:4d:00:{vm:02x}")
}

fn spec(vm: u8) -> Result<BootSpec> {
    let number = u32::from(vm);
    let mut nic = nic(number, 0, &format!("10.79.0.{vm}/24"))?;
    nic.addresses.push(format!("fd79::{vm}/64").parse()?);
    Ok(BootSpec {
        args: ["/bin/sh", "-c", WEB].map(String::from).to_vec(),
        nics: vec![nic],
        ..boot_spec(number)?
    })
}

/// Two hosts with a cable between them.
fn hosts(behind: &str) -> Result<(Host, Host)> {
    let (first, second) = (Host::start(behind)?, Host::start(behind)?);
    first.run("ip link add cable0 type veth peer name cable1")?;
    let there = second.0.engine.daemon();
    first.run(&format!("ip link set cable1 netns {there}"))?;
    first.join("cable0", "192.0.2.1/24")?;
    second.join("cable1", "192.0.2.2/24")?;
    Ok((first, second))
}

#[test]
fn vms_on_two_hosts_reach_each_other_over_vxlan() -> Result<()> {
    let (first, second) = hosts(CRUN)?;
    let (one, two) = (first.vm(1)?, second.vm(2)?);
    let three = second.vm(3)?;
    for (from, to) in [(&one, &two), (&two, &one), (&one, &three), (&three, &two)] {
        from.reaches(to)
            .map_err(|e| e.context(format!("from VM {} to VM {}", from.vm, to.vm)))?;
    }
    // Its host end is another one after a restart.
    two.restart()?;
    one.reaches(&two)?;
    for host in [&first, &second] {
        ensure!(
            host.jumps()? == 1,
            "the chain is jumped to {} times",
            host.jumps()?
        );
    }
    Ok(())
}

#[test]
fn a_security_group_holds_on_its_host_and_between_hosts() -> Result<()> {
    let (first, second) = hosts(RUNC)?;
    let (one, two) = (first.vm(1)?, second.vm(2)?);
    let three = second.vm(3)?;
    one.reaches(&two)?;
    second.allow_only_port_80(2)?;
    let group_holds = || -> Result<()> {
        for from in [&one, &three] {
            let page = from.ask(&two.address(), 80, "index.html")?;
            ensure!(page == two.page(), "{page:?}");
            ensure!(
                from.ask(&two.address(), 8080, "index.html").is_err(),
                "VM {} reaches a port that its group does not open",
                from.vm
            );
            // What the VM itself asks for comes back.
            let page = two.ask(&from.address(), 8080, "index.html")?;
            ensure!(page == from.page(), "{page:?}");
        }
        Ok(())
    };
    group_holds()?;
    // The rules name the host end, which is there again under its name.
    two.restart()?;
    group_holds().map_err(|e| e.context("after a restart"))?;
    ensure!(second.jumps()? == 1, "the chain is there more than once");
    Ok(())
}
