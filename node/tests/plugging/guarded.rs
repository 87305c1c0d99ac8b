//! Frames that a VM forges, on a bridge that is guarded and on one that is not.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::ifaddrs::getifaddrs;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};
use onedock_common::VmId;
use onedock_common::state::boot::Nic;
use onedock_common::types::nic::Autoconf;
use onedock_node::namespace::Network;
use onedock_node::network::plug;

use crate::changed::{RunningVm, change};
use crate::{TestNetwork, Wrapped, new_network, nic, on_a_host, run};

const MAC: [u8; 6] = [2, 0, 0x0a, 1, 0, 0];
const NEIGHBOUR: [u8; 6] = [2, 0, 0x0a, 1, 1, 6];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
const ALL: [u8; 6] = [0xff; 6];
const IP: [u8; 4] = [10, 1, 0, 5];
const OTHER_IP: [u8; 4] = [10, 1, 0, 6];

/// How long a frame is waited for that must not come.
const QUIET: Duration = Duration::from_millis(300);

/// A frame that ends with its own name, by which it is found again.
struct Frame {
    name: &'static str,
    bytes: Vec<u8>,
}

fn frame(name: &'static str, to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Frame {
    let mut bytes = [&to[..], &from, &kind.to_be_bytes(), payload].concat();
    if !bytes.ends_with(name.as_bytes()) {
        // Longer than what the kernel pads.
        bytes.resize(bytes.len().max(60), 0);
        bytes.extend(name.as_bytes());
    }
    Frame { name, bytes }
}

/// An ARP answer to the neighbour: `ip` is at `mac`.
fn arp(mac: [u8; 6], ip: [u8; 4]) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 2];
    [&head[..], &mac, &ip, &NEIGHBOUR, &OTHER_IP].concat()
}

/// Asks whether an address is free.
fn probe(ip: [u8; 4]) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    [&head[..], &MAC, &[0; 4], &[0; 6], &ip].concat()
}

/// A packet over IPv4 whose header the host finds right.
fn packet(name: &str, from: [u8; 4], protocol: u8, head: &[u8]) -> Vec<u8> {
    let data = [head, &[0; 40], name.as_bytes()].concat();
    let length = u8::try_from(20 + data.len()).unwrap();
    let mut ip = [0x45, 0, 0, length, 0, 1, 0, 0, 64, protocol, 0, 0].to_vec();
    ip.extend([from, [255; 4]].concat());
    let sum: u32 = ip
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [ip, data].concat()
}

fn udp(name: &str, from: [u8; 4], ports: [u16; 2]) -> Vec<u8> {
    let [source, destination] = ports.map(u16::to_be_bytes);
    packet(
        name,
        from,
        17,
        &[source, destination, [0; 2], [0; 2]].concat(),
    )
}

fn address(text: &str) -> [u8; 16] {
    text.parse::<std::net::Ipv6Addr>().unwrap().octets()
}

/// A frame to all with a packet over IPv6.
fn ipv6(name: &'static str, from: &str, next: u8, data: &[u8]) -> Frame {
    let data = [data, &[0; 40], name.as_bytes()].concat();
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    let head = [&[0x60, 0, 0, 0][..], &length, &[next, 255]].concat();
    let packet = [&head[..], &address(from), &address("ff02::1"), &data].concat();
    frame(name, ALL, MAC, 0x86dd, &packet)
}

/// A neighbour advertisement for `target`, a router advertisement and the like.
fn icmp(name: &'static str, from: &str, kind: u8, target: &str) -> Frame {
    let head = [kind, 0, 0, 0, 0x20, 0, 0, 0];
    ipv6(name, from, 58, &[&head[..], &address(target)].concat())
}

fn ipv4(name: &'static str, mac: [u8; 6], ip: [u8; 4], ports: [u16; 2]) -> Frame {
    frame(name, ALL, mac, 0x0800, &udp(name, ip, ports))
}

fn udp6(name: &'static str, from: &str, ports: [u16; 2]) -> Frame {
    let [source, destination] = ports.map(u16::to_be_bytes);
    ipv6(
        name,
        from,
        17,
        &[source, destination, [0; 2], [0; 2]].concat(),
    )
}

/// A packet of another protocol over IPv4.
fn other(name: &'static str, protocol: u8, head: &[u8]) -> Frame {
    frame(name, ALL, MAC, 0x0800, &packet(name, IP, protocol, head))
}

/// The address that the kernel makes of [`MAC`].
const LINK_LOCAL: &str = "fe80::aff:fe01:0";

/// What a VM may send.
fn own() -> Vec<Frame> {
    vec![
        frame("own ARP", ALL, MAC, 0x0806, &arp(MAC, IP)),
        frame("an ARP probe", ALL, MAC, 0x0806, &probe(IP)),
        ipv4("own UDP", MAC, IP, [1067, 53]),
        ipv4("a DHCP request", MAC, [0; 4], [68, 67]),
        other("an echo request", 1, &[8, 0, 0, 0]),
        other("an IGMP report", 2, &[0x16, 0, 0, 0]),
        udp6("own IPv6", "fd00::5", [1067, 53]),
        icmp("own NA", "fd00::5", 136, "fd00::5"),
        icmp("own link-local NA", LINK_LOCAL, 136, LINK_LOCAL),
        icmp("a prefix of a router", "fd77::aff:fe01:0", 128, "::"),
        icmp("a router solicitation", "::", 133, "::"),
        icmp("own duplicate address", "::", 135, "fd00::5"),
        icmp("a neighbour solicitation", "fd00::5", 135, "fd00::6"),
    ]
}

/// What it may not.
fn forged() -> Vec<Frame> {
    let tagged = |name| [&[0, 7, 0x08, 0][..], &udp(name, IP, [1067, 53])].concat();
    // A fragment header, and what follows it in the first fragment.
    let fragment = [&[58, 0, 0, 1, 0, 0, 0, 1, 134, 0, 0, 0][..], &[0; 20]].concat();
    // The same whose next header is one more extension header, cut off.
    let hidden = [&[60, 0, 0, 1, 0, 0, 0, 1, 58, 0, 1, 4][..], &[0; 4]].concat();
    vec![
        ipv4("a MAC", OTHER, IP, [1067, 53]),
        ipv4("an IP", MAC, OTHER_IP, [1067, 53]),
        frame("an ARP answer", NEIGHBOUR, MAC, 0x0806, &arp(MAC, OTHER_IP)),
        frame("a probe for another", ALL, MAC, 0x0806, &probe(OTHER_IP)),
        frame("a MAC within ARP", NEIGHBOUR, MAC, 0x0806, &arp(OTHER, IP)),
        ipv4("a DHCP answer", MAC, IP, [67, 68]),
        ipv4("one of another port", MAC, IP, [1067, 68]),
        ipv4("HSRP", MAC, IP, [1985, 1985]),
        other("an ICMP redirect", 1, &[5, 1, 0, 0]),
        other("an IGMP query", 2, &[0x11, 0, 0, 0]),
        other("VRRP", 112, &[0x21, 1, 255, 1]),
        udp6("an IPv6", "fd00::6", [1067, 53]),
        icmp("a link-local IPv6", "fe80::1", 128, "::"),
        icmp("an NA", LINK_LOCAL, 136, "fd00::6"),
        icmp("another's duplicate address", "::", 135, "fd00::6"),
        icmp("an RA", LINK_LOCAL, 134, "::"),
        icmp("a redirect", LINK_LOCAL, 137, "fd00::1"),
        icmp("an MLD query", LINK_LOCAL, 130, "::"),
        ipv6("an RA in fragments", LINK_LOCAL, 44, &fragment),
        ipv6("a hidden RA", LINK_LOCAL, 44, &hidden),
        udp6("a DHCPv6 answer", LINK_LOCAL, [547, 546]),
        udp6("another port of DHCPv6", LINK_LOCAL, [1067, 546]),
        frame("a VLAN tag", ALL, MAC, 0x8100, &tagged("a VLAN tag")),
        frame("two VLAN tags", ALL, MAC, 0x88a8, &tagged("two VLAN tags")),
        frame("spanning tree", STP, MAC, 38, &[0x42, 0x42, 3, 0, 0, 0, 0]),
        frame("discovery", CDP, MAC, 40, &[0xaa, 0xaa, 3, 0, 0, 0x0c]),
    ]
}

/// Where switches listen.
const STP: [u8; 6] = [1, 0x80, 0xc2, 0, 0, 0];
const CDP: [u8; 6] = [1, 0, 0x0c, 0xcc, 0xcc, 0xcc];

/// A socket for whole frames, in a namespace; bound to a link to send there.
fn raw(network: &Network, link: Option<&str>) -> Result<OwnedFd> {
    let open = || -> Result<OwnedFd> {
        let kind = SockType::Raw;
        let flags = SockFlag::SOCK_NONBLOCK;
        let all = SockProtocol::EthAll;
        let socket = socket(AddressFamily::Packet, kind, flags, all)?;
        if let Some(link) = link {
            let found = getifaddrs()?.find(|found| {
                let has = found.address.is_some_and(|a| a.as_link_addr().is_some());
                found.interface_name == link && has
            });
            let address = found.and_then(|found| found.address).context("no link")?;
            bind(socket.as_raw_fd(), &address)?;
        }
        Ok(socket)
    };
    network.within(|| open().map_err(Wrapped)).map_err(|e| e.0)
}

/// The names of those of the frames that arrive.
fn arrived(from: &OwnedFd, to: &OwnedFd, frames: &[Frame]) -> Result<Vec<&'static str>> {
    let mut buffer = [0; 2048];
    while recv(to.as_raw_fd(), &mut buffer, MsgFlags::empty()).is_ok() {}
    for frame in frames {
        send(from.as_raw_fd(), &frame.bytes, MsgFlags::empty())?;
    }
    onedock_common::wait::pause(QUIET);
    let mut names = Vec::new();
    while let Ok(length) = recv(to.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        let there = buffer.get(..length).unwrap_or_default();
        let found = frames
            .iter()
            .find(|frame| there.ends_with(frame.name.as_bytes()));
        names.extend(found.map(|frame| frame.name));
    }
    Ok(names)
}

/// An `/etc` in which the thread may write.
fn own_etc() -> Result<tempfile::TempDir> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let folder = tempfile::tempdir()?;
    mount(
        Some("tmpfs"),
        folder.path(),
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )?;
    let (upper, work) = (folder.path().join("upper"), folder.path().join("work"));
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    let options = format!(
        "lowerdir=/etc,upperdir={},workdir={}",
        upper.display(),
        work.display()
    );
    mount(
        Some("overlay"),
        "/etc",
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )?;
    fs::create_dir_all("/etc/onedock")?;
    Ok(folder)
}

fn guard(bridges: &str) -> Result<()> {
    Ok(fs::write("/etc/onedock/guarded-bridges", bridges)?)
}

fn with_ipv6() -> Result<Nic> {
    let mut first = nic(5, 0, "10.1.0.5/16");
    first.addresses.push("fd00::5/64".parse()?);
    first.leases.push("fd00::5".parse()?);
    Ok(first)
}

fn neighbour() -> Result<Nic> {
    let mut second = nic(6, 0, "10.1.0.6/16");
    second.mac = "02:00:0a:01:01:06".parse()?;
    Ok(second)
}

#[test]
fn attack_28_and_30_what_a_vm_forges_passes_no_guarded_bridge() -> Result<()> {
    on_a_host(|network| {
        let _etc = own_etc()?;
        let second = TestNetwork {
            container: new_network()?,
        };
        second.plug(6, &[neighbour()?])?;
        let to = raw(&second.container, None)?;
        for (bridges, guarded) in [("# none\nbr1\n", false), ("br0\n", true), ("*\n", true)] {
            guard(bridges)?;
            network.plug(5, &[with_ipv6()?])?;
            let from = raw(&network.container, Some("eth0"))?;
            let names = arrived(&from, &to, &own())?;
            let all: Vec<&str> = own().iter().map(|frame| frame.name).collect();
            ensure!(
                names == all,
                "guarded {guarded}: {names:?} of its own arrive"
            );
            let names = arrived(&from, &to, &forged())?;
            if guarded {
                ensure!(names.is_empty(), "{names:?} arrive");
            } else {
                // Each would be seen if it were let through.
                ensure!(names.len() == forged().len(), "only {names:?} arrive");
            }
            plug::pull_after_death(VmId::new(5), &[with_ipv6()?])?;
        }
        plug::pull_after_death(VmId::new(6), &[neighbour()?])?;
        let left = run("nft list table netdev onedock")?;
        ensure!(!left.contains("chain"), "left: {left}");
        Ok(())
    })
}

#[test]
fn attack_30_a_storm_of_broadcasts_ends_at_a_guarded_bridge() -> Result<()> {
    on_a_host(|network| {
        let _etc = own_etc()?;
        guard("br0\n")?;
        network.plug(5, &[with_ipv6()?])?;
        let from = raw(&network.container, Some("eth0"))?;
        let one = frame("own ARP", ALL, MAC, 0x0806, &arp(MAC, IP));
        let sent = 20_000;
        let passed = || -> Result<u64> {
            let shown = run("ip -s -o link show br0")?;
            let (_, counts) = shown.split_once("RX:").context("no counts")?;
            let mut words = counts.split_whitespace().filter_map(|w| w.parse().ok());
            words.nth(1).context("no count of packets")
        };
        let before = passed()?;
        for _ in 0..sent {
            let _ = send(from.as_raw_fd(), &one.bytes, MsgFlags::empty());
        }
        let passed = passed()? - before;
        ensure!((1..sent / 2).contains(&passed), "{passed} of {sent} pass");
        Ok(())
    })
}

#[test]
fn an_alias_of_a_running_vm_may_send_from_its_attach_to_its_detach() -> Result<()> {
    on_a_host(|_| {
        let _etc = own_etc()?;
        guard("br0\n")?;
        let vm = RunningVm::start(&[with_ipv6()?])?;
        let mut with_alias = with_ipv6()?;
        with_alias.addresses.push("10.1.0.9/16".parse()?);
        with_alias.leases.push("10.1.0.9".parse()?);
        let reaches = || vm.run("ping", "-c 1 -W 1 -I 10.1.0.9 10.1.0.1").is_ok();
        change(5, &[with_alias])?;
        ensure!(reaches(), "the alias cannot send");
        // The address is still there, and nobody has leased it.
        change(5, &[with_ipv6()?])?;
        vm.inside("address add 10.1.0.9/16 dev eth0")?;
        ensure!(!reaches(), "the alias sends after its detach");
        change(5, &[])?;
        let left = run("nft list table netdev onedock")?;
        ensure!(!left.contains("chain"), "left: {left}");
        Ok(())
    })
}

#[test]
fn a_nic_without_ipv6_or_without_leased_addresses_is_guarded_by_its_mac() -> Result<()> {
    on_a_host(|network| {
        let _etc = own_etc()?;
        guard("br0\n")?;
        let second = TestNetwork {
            container: new_network()?,
        };
        second.plug(6, &[neighbour()?])?;
        let to = raw(&second.container, None)?;
        let mut bare = nic(5, 0, "10.1.0.5/16");
        bare.addresses.clear();
        bare.leases.clear();
        network.plug(5, &[bare.clone()])?;
        let from = raw(&network.container, Some("eth0"))?;
        let names = arrived(&from, &to, &forged())?;
        // Nobody has leased it addresses.
        ensure!(
            names == ["an IP", "an ARP answer", "a probe for another"],
            "{names:?} arrive"
        );
        plug::pull(VmId::new(5), &["one-5-0".parse()?])?;
        // Another VM's end with the same name of a host end takes no guard of this one.
        plug::pull_after_death(VmId::new(7), &[bare.clone()])?;
        bare.autoconf = Autoconf::NoIpv6;
        network.plug(5, &[bare])?;
        let from = raw(&network.container, Some("eth0"))?;
        let names = arrived(&from, &to, &own())?;
        let v4 = own();
        let v4: Vec<&str> = v4.iter().take(6).map(|frame| frame.name).collect();
        ensure!(names == v4, "{names:?} arrive");
        plug::pull_after_death(VmId::new(5), &[nic(5, 0, "10.1.0.5/16")])?;
        // METHOD=skip: the address is left to the VM, and is no other than the leased one.
        let mut skipped = nic(5, 0, "10.1.0.5/16");
        skipped.addresses.clear();
        network.plug(5, &[skipped])?;
        let from = raw(&network.container, Some("eth0"))?;
        let names = arrived(&from, &to, &forged())?;
        ensure!(names.is_empty(), "{names:?} arrive");
        Ok(())
    })
}
