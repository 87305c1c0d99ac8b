//! A guard at the host ends of NICs on bridges that the administrator has named: what a VM sends with
//! an address that is not its own, and what only routers, switches and DHCP servers send, is dropped
//! before the bridge sees it (docs/decisions/0042-guarded-bridges.md; attacks 28 and 30).
//!
//! One chain of nftables for each host end, at its ingress. OpenNebula's own filters see IP packets
//! alone, and stay what they are.

use std::fmt::Write as _;
use std::io;
use std::net::Ipv6Addr;
use std::path::Path;
use std::time::Duration;

use ipnetwork::IpNetwork;
use onedock_common::process::{Command, ProcessError};
use onedock_common::state::boot::Nic;
use onedock_common::state::files;
use onedock_common::types::nic::Autoconf;
use onedock_common::{IfName, Mac};
use thiserror::Error;

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
        "the host end {0} cannot be guarded by this name (a letter, then letters, digits, dots, hyphens and underscores); give the NIC another TARGET, or none"
    )]
    Name(IfName),
    /// The tool or the kernel refused.
    #[error("the guard of the host end {host} cannot be set: {reason}")]
    Refused {
        /// NIC/TARGET.
        host: IfName,
        /// Its error.
        reason: String,
    },
}

/// Guards the host end of a NIC, if its bridge is guarded, in place of an earlier guard.
pub(super) fn set(nic: &Nic) -> Result<(), GuardError> {
    let guarded = bridges()?;
    if guarded
        .iter()
        .any(|name| name == "*" || name == nic.bridge.as_str())
    {
        let chain = chain_of(&nic.host).ok_or_else(|| GuardError::Name(nic.host.clone()))?;
        run(&nic.host, &rules(nic, chain))?;
    }
    Ok(())
}

/// Removes the guards of host ends that are gone.
pub(super) fn remove<'a>(hosts: impl IntoIterator<Item = &'a IfName>) -> Result<(), GuardError> {
    if bridges()?.is_empty() {
        return Ok(());
    }
    for host in hosts {
        if let Some(chain) = chain_of(host) {
            run(host, &without(chain))?;
        }
    }
    Ok(())
}

/// The names in the list; none without one.
fn bridges() -> Result<Vec<String>, GuardError> {
    let text = match files::read_bounded(Path::new(BRIDGES), LARGEST) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(GuardError::List(e)),
    };
    Ok(names(&text))
}

fn names(text: &str) -> Vec<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// The name of a host end's chain. A host end can have a name that the tool reads as something else.
fn chain_of(host: &IfName) -> Option<&str> {
    let name = host.as_str();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    (begins && name.bytes().all(plain)).then_some(name)
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
    let mac = nic.mac;
    let mut text = without(chain);
    let _ = writeln!(
        text,
        "add chain {TABLE} {chain} {{ type filter hook ingress device \"{chain}\" priority 0; policy accept; }}"
    );
    let mut drop = |what: &str| {
        let _ = writeln!(text, "add rule {TABLE} {chain} {what} drop");
    };
    drop(&format!("ether saddr != {mac}"));
    // No tagged frames, no spanning tree, no discovery of switches.
    drop("ether type != { ip, ip6, arp }");
    drop(&format!("arp saddr ether != {mac}"));
    drop("udp sport { 67, 547 }");
    drop("icmpv6 type { nd-router-advert, nd-redirect }");
    // Neighbour discovery in fragments is how guards are passed, and is not allowed (RFC 6980).
    drop("meta l4proto ipv6-icmp exthdr frag exists");
    let own: Vec<String> = ipv4(nic);
    if !own.is_empty() {
        let own = own.join(", ");
        drop(&format!("arp saddr ip != {{ 0.0.0.0, {own} }}"));
        drop(&format!("ip saddr != {{ 0.0.0.0, {own} }}"));
    }
    if nic.autoconf == Autoconf::NoIpv6 {
        drop("ether type ip6");
    } else {
        let own = ipv6(nic);
        let own_interface = interface(nic.mac);
        let mut set = "::".to_owned();
        for address in &own {
            let _ = write!(set, ", {address}");
        }
        // Whatever the prefix that a router gives, the rest is made of the MAC.
        drop(&format!(
            "ip6 saddr != {{ {set} }} ip6 saddr & ::ffff:ffff:ffff:ffff != ::{}",
            last_half(own_interface)
        ));
        let mut targets = format!("@th,128,64 != {own_interface:#018x}");
        for address in own {
            let _ = write!(targets, " @th,64,128 != {:#034x}", u128::from(address));
        }
        drop(&format!("icmpv6 type nd-neighbor-advert {targets}"));
    }
    drop(&format!(
        "meta pkttype {{ broadcast, multicast }} limit rate over {STORM}/second burst {STORM} packets"
    ));
    text
}

fn ipv4(nic: &Nic) -> Vec<String> {
    let own = nic.addresses.iter().filter(|a| a.is_ipv4());
    own.map(|address| address.ip().to_string()).collect()
}

fn ipv6(nic: &Nic) -> Vec<Ipv6Addr> {
    nic.addresses
        .iter()
        .filter_map(|address| match address {
            IpNetwork::V6(own) => Some(own.ip()),
            IpNetwork::V4(_) => None,
        })
        .collect()
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

fn run(host: &IfName, script: &str) -> Result<(), GuardError> {
    let output = Command::new(TOOL)
        .bare()
        .args(["-f", "-"])
        .input(script.as_bytes())
        .within(LIMIT)
        .run();
    let reason = match output {
        Ok(output) if output.succeeded() => return Ok(()),
        Ok(output) => output.reason(QUOTED),
        Err(ProcessError::NotInstalled { .. }) => return Err(GuardError::NoTool),
        Err(error) => error.to_string(),
    };
    Err(GuardError::Refused {
        host: host.clone(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_bridges_has_one_a_line_and_remarks() {
        let text = "# of the tenants\n\n onebr0 \nonebr1\n#onebr2\n";
        assert_eq!(names(text), ["onebr0", "onebr1"]);
        assert_eq!(names(""), [""; 0]);
    }

    #[test]
    fn a_name_that_the_tool_reads_otherwise_is_guarded_by_none() {
        for good in ["one-5-0", "web", "tap_1.7"] {
            assert_eq!(chain_of(&good.parse().unwrap()), Some(good));
        }
        for bad in ["0web", "a;drop", "a{b", "a\"b", "_a", "a@b", "@a"] {
            assert_eq!(chain_of(&bad.parse().unwrap()), None, "{bad}");
        }
    }

    #[test]
    fn the_last_half_of_an_address_is_made_of_the_mac() {
        let own = interface("02:00:0a:4d:00:2a".parse().unwrap());
        assert_eq!(last_half(own), "0:aff:fe4d:2a");
        let address: Ipv6Addr = "fe80::aff:fe4d:2a".parse().unwrap();
        assert_eq!(address.octets()[8..], own.to_be_bytes());
    }
}
