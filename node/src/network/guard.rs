//! A guard at the host ends of NICs on bridges that the administrator has named: what a VM sends with
//! an address that is not its own, and what routers, switches and DHCP servers send, is dropped
//! before the bridge sees it (docs/decisions/0042-guarded-bridges.md; attacks 28 and 30).
//!
//! One chain of nftables for each host end, at its ingress. OpenNebula's own filters see IP packets
//! alone, and stay what they are.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnetwork::IpNetwork;
use onedock_common::process::{Command, ProcessError};
use onedock_common::state::boot::Nic;
use onedock_common::state::files;
use onedock_common::types::nic::{Autoconf, BridgeKind};
use onedock_common::{IfName, Mac, VmId};
use thiserror::Error;

use crate::network::open_vswitch::{self, SwitchError};
use crate::network::token_bucket::LEAST_BURST;

/// The bridges, one a line; `*` stands for all. `onedock setup node --guard-bridge` writes it.
const BRIDGES: &str = "/etc/onedock/guarded-bridges";
const LARGEST: u64 = 64 * 1024;

const TOOL: &str = "nft";
const TABLE: &str = "netdev onedock";
const LIMIT: Duration = Duration::from_secs(10);
/// How much of a reason is passed on, in bytes.
const QUOTED: usize = 500;

/// Broadcasts and multicasts of one NIC that reach the bridge in a second, about 1.5 MB at most.
const STORM: u32 = 1000;

/// Why a NIC is not guarded.
#[derive(Debug, Error)]
pub enum GuardError {
    #[error("{BRIDGES} cannot be read: {0}")]
    List(#[source] io::Error),
    /// The tool is not installed.
    #[error(
        "{TOOL} is not installed on this host; the bridges in {BRIDGES} need it (package nftables)"
    )]
    NoTool,
    /// It cannot be written in a script of the tool.
    #[error(
        "the host end {0} cannot be guarded by this name; give the NIC another TARGET, or none"
    )]
    Name(IfName),
    /// It takes frames before the kernel's hooks do.
    #[error(
        "the Open vSwitch bridge {0} has datapath_type=netdev, which no guard stands before; take it out of {BRIDGES}, or use the kernel's datapath"
    )]
    Userspace(IfName),
    #[error(transparent)]
    Switch(#[from] SwitchError),
    /// The tool or the kernel refused.
    #[error(
        "the guard of the host end {host} cannot be set: {reason}; update nftables and the kernel, or take the bridge out of {BRIDGES}"
    )]
    Refused {
        /// NIC/TARGET.
        host: IfName,
        /// Its error.
        reason: String,
    },
}

/// Guards the host end of a NIC, if its bridge is guarded, in place of an earlier guard.
pub(super) fn set(vm: VmId, nic: &Nic) -> Result<(), GuardError> {
    let Some(guarded) = bridges()? else {
        return Ok(());
    };
    if !guarded
        .iter()
        .any(|name| name == "*" || name == nic.bridge.as_str())
    {
        // It may have been guarded before.
        remove(vm, [nic]);
        return Ok(());
    }
    if nic.bridge_kind == BridgeKind::OpenVSwitch && open_vswitch::is_userspace(&nic.bridge)? {
        return Err(GuardError::Userspace(nic.bridge.clone()));
    }
    if nic.host.as_str().contains('"') {
        return Err(GuardError::Name(nic.host.clone()));
    }
    run(&rules(nic, &chain_of(vm, nic))).map_err(|failure| match failure {
        Failure::NoTool => GuardError::NoTool,
        Failure::Refused(reason) => GuardError::Refused {
            host: nic.host.clone(),
            reason,
        },
    })
}

/// Removes the guards of NICs that are gone. One that stays holds nobody up: it has no link any more, and
/// the next NIC of its number takes its place.
pub(super) fn remove<'a>(vm: VmId, nics: impl IntoIterator<Item = &'a Nic>) {
    if matches!(bridges(), Ok(None)) {
        return;
    }
    let script: String = nics
        .into_iter()
        .map(|nic| without(&chain_of(vm, nic)))
        .collect();
    let _ = run(&script);
}

/// The names in the list; none where there never was one.
fn bridges() -> Result<Option<Vec<String>>, GuardError> {
    match files::read_bounded(Path::new(BRIDGES), LARGEST) {
        Ok(bytes) => Ok(Some(names(&String::from_utf8_lossy(&bytes)))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(GuardError::List(e)),
    }
}

fn names(text: &str) -> Vec<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// The name of a NIC's chain, which is no other VM's whatever the NIC's TARGET is.
fn chain_of(vm: VmId, nic: &Nic) -> String {
    format!("vm{vm}-nic{}", nic.id)
}

/// Takes the chain away, whether it is there or not.
fn without(chain: &str) -> String {
    ["add table", "add chain", "flush chain", "delete chain"]
        .map(|verb| match verb {
            "add table" => format!("{verb} {TABLE}\n"),
            _ => format!("{verb} {TABLE} {chain}\n"),
        })
        .concat()
}

/// The chain anew, in one transaction: frames pass by the old rules or by the new ones.
fn rules(nic: &Nic, chain: &str) -> String {
    let (host, mac) = (&nic.host, nic.mac);
    let mut text = without(chain);
    let _ = writeln!(
        text,
        "add chain {TABLE} {chain} {{ type filter hook ingress device \"{host}\" priority 0; policy accept; }}"
    );
    let mut drop = |what: &str| {
        let _ = writeln!(text, "add rule {TABLE} {chain} {what} drop");
    };
    drop(&format!("ether saddr != {mac}"));
    // No tagged frames, no spanning tree, no discovery of switches.
    drop("ether type != { ip, ip6, arp }");
    drop(&format!("arp saddr ether != {mac}"));
    // What DHCP servers answer, and what routers say to each other and to hosts.
    drop("udp sport { 67, 547 }");
    drop("udp dport { 68, 546, 1985 }");
    drop("meta l4proto 112");
    drop("icmp type redirect");
    drop("igmp type membership-query");
    drop("icmpv6 type { nd-router-advert, nd-redirect, mld-listener-query }");
    // Behind a fragment header a guard cannot read. Neighbour discovery is not allowed there (RFC 6980).
    drop("frag nexthdr { 0, 43, 44, 51, 58, 60, 135, 139, 140 }");
    let leases = leases(nic);
    let own: Vec<String> = leases
        .iter()
        .filter(|lease| lease.is_ipv4())
        .map(ToString::to_string)
        .collect();
    if !leases.is_empty() {
        let set = |first: &str| {
            let first = (!first.is_empty()).then(|| first.to_owned());
            first
                .iter()
                .chain(&own)
                .cloned()
                .collect::<Vec<_>>()
                .join(", ")
        };
        drop(&format!("arp saddr ip != {{ {} }}", set("0.0.0.0")));
        drop(&format!("ip saddr != {{ {} }}", set("0.0.0.0")));
        // A probe asks whether an address is free, and keeps whoever wants it from it.
        if own.is_empty() {
            drop("arp saddr ip 0.0.0.0");
        } else {
            drop(&format!(
                "arp saddr ip 0.0.0.0 arp daddr ip != {{ {} }}",
                set("")
            ));
        }
    }
    if nic.autoconf == Autoconf::NoIpv6 {
        drop("ether type ip6");
    } else {
        let own_interface = interface(mac);
        let mut set = "::".to_owned();
        let mut targets = format!("@th,128,64 != {own_interface:#018x}");
        for lease in leases {
            let IpAddr::V6(address) = lease else { continue };
            let _ = write!(set, ", {address}");
            let _ = write!(targets, " @th,64,128 != {:#034x}", u128::from(address));
        }
        // Whatever the prefix that a router gives, the rest is made of the MAC.
        drop(&format!(
            "ip6 saddr != {{ {set} }} ip6 saddr & ::ffff:ffff:ffff:ffff != ::{}",
            last_half(own_interface)
        ));
        drop(&format!("icmpv6 type nd-neighbor-advert {targets}"));
        drop(&format!(
            "ip6 saddr :: icmpv6 type nd-neighbor-solicit {targets}"
        ));
    }
    if let Some(bandwidth) = nic.outbound {
        // A program with a raw socket can pass the queue at the VM's own end.
        let rate = bandwidth.average.saturating_add(bandwidth.average / 10);
        let burst = bandwidth
            .burst
            .unwrap_or(0)
            .max(bandwidth.average)
            .max(LEAST_BURST);
        drop(&format!(
            "limit rate over {rate} bytes/second burst {} bytes",
            burst.min(u32::MAX.into())
        ));
    }
    drop(&format!(
        "meta pkttype {{ broadcast, multicast }} limit rate over {STORM}/second burst {STORM} packets"
    ));
    text
}

/// What the NIC may send with. A boot spec of an earlier version has no leases.
fn leases(nic: &Nic) -> Vec<IpAddr> {
    if nic.leases.is_empty() {
        nic.addresses.iter().map(IpNetwork::ip).collect()
    } else {
        nic.leases.clone()
    }
}

/// The last half of the addresses that the kernel makes of a MAC (RFC 4291, appendix A).
fn interface(mac: Mac) -> u64 {
    let [a, b, c, d, e, f] = mac.octets();
    u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

fn last_half(interface: u64) -> String {
    let parts = [48, 32, 16, 0].map(|shift| format!("{:x}", (interface >> shift) & 0xffff));
    parts.join(":")
}

/// Why a script has no effect.
enum Failure {
    NoTool,
    Refused(String),
}

fn run(script: &str) -> Result<(), Failure> {
    let output = Command::new(TOOL)
        .bare()
        .args(["-f", "-"])
        .input(script.as_bytes())
        .within(LIMIT)
        .run();
    match output {
        Ok(output) if output.succeeded() => Ok(()),
        Ok(output) => Err(Failure::Refused(output.reason(QUOTED))),
        Err(ProcessError::NotInstalled { .. }) => Err(Failure::NoTool),
        Err(error) => Err(Failure::Refused(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    #[test]
    fn a_list_of_bridges_has_one_a_line_and_remarks() {
        let text = "# of the tenants\n\n onebr0 \nonebr1\n#onebr2\n";
        assert_eq!(names(text), ["onebr0", "onebr1"]);
        assert_eq!(names(""), [""; 0]);
    }

    #[test]
    fn a_nic_of_an_earlier_boot_spec_is_held_to_the_addresses_that_it_has() {
        let mut nic: Nic = serde_json::from_value(serde_json::json!({
            "id": 0, "host": "one-5-0", "bridge": "br0", "mac": "02:00:0a:01:00:00",
            "mtu": null, "addresses": ["10.1.0.5/16", "fd00::5/64"],
            "gateway": null, "gateway6": null, "metric": null,
        }))
        .unwrap();
        let text = rules(&nic, "vm5-nic0");
        assert!(
            text.contains("ip saddr != { 0.0.0.0, 10.1.0.5 } drop"),
            "{text}"
        );
        assert!(text.contains("ip6 saddr != { ::, fd00::5 }"), "{text}");
        nic.leases = vec!["10.1.0.9".parse().unwrap()];
        let text = rules(&nic, "vm5-nic0");
        assert!(
            text.contains("ip saddr != { 0.0.0.0, 10.1.0.9 } drop"),
            "{text}"
        );
    }

    #[test]
    fn the_last_half_of_an_address_is_made_of_the_mac() {
        let own = interface("02:00:0a:4d:00:2a".parse().unwrap());
        assert_eq!(last_half(own), "0:aff:fe4d:2a");
        let address: Ipv6Addr = "fe80::aff:fe4d:2a".parse().unwrap();
        assert_eq!(address.octets()[8..], own.to_be_bytes());
    }
}
