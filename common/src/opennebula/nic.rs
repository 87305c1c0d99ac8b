//! TEMPLATE/NIC together with what only CONTEXT knows of it: `oned` writes no mask into the
//! NIC, so it comes from ETHx_MASK, else from the network's NETWORK_MASK (inherited with
//! INHERIT_VNET_ATTR), else it is ONEDOCK_DEFAULT_NETMASK of `onedock.conf`.

mod attributes;
mod values;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::opennebula::context::Context;
use crate::opennebula::xml::{Node, XmlError};
use crate::types::decimal::parse_u32;
use crate::types::dns::{NameServer, SearchDomain};
use crate::types::ids::NicId;
use crate::types::names::{IfName, Mac};
use crate::types::nic::{Autoconf, Bandwidth, BridgeKind, Route, VlanId};
use attributes::NicAttributes;
pub(crate) use attributes::list_of;
pub(crate) use values::prefix_of_mask;
pub use values::{Ip6Method, Method};
use values::{
    is_true, kind_of, not_of_one_interface, read_bridge, read_ip6_method, read_method, read_mtu,
    read_routes,
};

/// The prefix of an IPv4 address whose mask nobody names, not even ONEDOCK_DEFAULT_NETMASK.
pub const DEFAULT_PREFIX: u8 = 24;

/// The least MTU of a link with IPv6, in bytes (RFC 8200, 5; the kernel takes IPv6 off a link
/// with less).
pub const IPV6_MTU: u32 = 1280;

/// One NIC of a VM, its aliases' addresses among its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// NIC_ID.
    pub id: NicId,
    /// TARGET, the name of the host end; `one-<vm>-<nic>` unless the template says otherwise.
    pub target: IfName,
    /// BRIDGE.
    pub bridge: IfName,
    /// BRIDGE_TYPE.
    pub bridge_kind: BridgeKind,
    /// VLAN_ID of a network with VN_MAD=ovswitch: the tag of the port.
    pub vlan: Option<VlanId>,
    /// MAC.
    pub mac: Mac,
    /// METHOD.
    pub method: Method,
    /// IP6_METHOD; METHOD where it is not given, as in OpenNebula's guest package.
    pub ip6_method: Ip6Method,
    /// What becomes of router advertisements.
    pub autoconf: Autoconf,
    /// IP, IP6, IP6_GLOBAL and IP6_ULA with their prefixes, then those of the aliases, as far as the
    /// methods let them be set.
    pub addresses: Vec<IpNetwork>,
    /// The same whatever the methods are: what the VM may send with.
    pub leases: Vec<IpAddr>,
    /// GATEWAY.
    pub gateway: Option<Ipv4Addr>,
    /// IP6_GATEWAY.
    pub gateway6: Option<Ipv6Addr>,
    /// METRIC of the default route.
    pub metric: Option<u32>,
    /// IP6_METRIC of the default route of IPv6; without one, METRIC counts for both, as in
    /// OpenNebula's guest package.
    pub metric6: Option<u32>,
    /// ROUTES beside the default ones.
    pub routes: Vec<Route>,
    /// INBOUND_AVG_BW, INBOUND_PEAK_BW and INBOUND_PEAK_KB: what the VM may receive.
    pub inbound: Option<Bandwidth>,
    /// The same with OUTBOUND: what the VM may send.
    pub outbound: Option<Bandwidth>,
    /// In bytes: GUEST_MTU (CONTEXT's ETHx_MTU), which is that of the link inside, else MTU.
    pub mtu: Option<u32>,
    /// DNS; CONTEXT's ETHx_DNS stands before the NIC's.
    pub dns: Vec<NameServer>,
    /// SEARCH_DOMAIN; CONTEXT's ETHx_SEARCH_DOMAIN stands before the NIC's.
    pub search: Vec<SearchDomain>,
    /// ATTACH=YES: the NIC that `attach_nic` or `detach_nic` is about.
    pub attach: bool,
}

/// The NIC_ALIAS with ATTACH=YES. `oned` calls no action of its own for it, only
/// `prereconfigure` and `reconfigure` (`one_vmm_exec.rb`, `attach_nic` and `detach_nic`), which do not
/// say whether it comes or goes. CONTEXT says it, where it describes the network: it has no variables
/// of an alias that goes (`VirtualMachineContext.cc`, `generate_network_context`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangingAlias {
    /// NIC_ID of the alias.
    pub id: NicId,
    /// PARENT_ID: the NIC whose addresses it adds to.
    pub parent: NicId,
    /// MAC, by which `detach_nic` names it.
    pub mac: Mac,
    /// Its addresses; none of an external one.
    pub addresses: Vec<IpNetwork>,
    /// Whether it comes or goes, where CONTEXT tells.
    pub comes: Option<bool>,
}

impl Nic {
    /// All NICs of a template, in the order of their ids. `default_prefix` is that of an IPv4
    /// address whose mask nobody names. `left_out` takes a line for each name server and domain
    /// that is none.
    pub fn all(
        template: &Node<'_>,
        context: Option<&Context>,
        default_prefix: u8,
        left_out: &mut Vec<String>,
    ) -> Result<Vec<Self>, XmlError> {
        let mut nics = template
            .children("NIC")
            .map(|node| Self::from_node(&node, context, default_prefix, left_out))
            .collect::<Result<Vec<_>, _>>()?;
        nics.sort_by_key(|nic| nic.id);
        if let Some(problem) = twice(&nics) {
            return Err(XmlError::Wrong {
                path: format!("{}/NIC", template.path()),
                problem,
            });
        }
        for alias in template.children("NIC_ALIAS") {
            let parent: NicId = alias.required("PARENT_ID")?;
            let Some(nic) = nics.iter_mut().find(|nic| nic.id == parent) else {
                return Err(alias.wrong("PARENT_ID", format_args!("there is no NIC {parent}")));
            };
            let prefix = alias_prefix(&alias, parent)?;
            let goes = alias.switch("ATTACH")? && comes(&prefix, context) == Some(false);
            if goes {
                continue;
            }
            for address in alias_addresses(&alias, prefix, context, default_prefix)? {
                if !nic.leases.contains(&address.ip()) {
                    nic.leases.push(address.ip());
                }
                if nic.sets(&address) && !nic.addresses.contains(&address) {
                    nic.addresses.push(address);
                }
            }
        }
        for node in template.children("NIC") {
            let id: NicId = node.required("NIC_ID")?;
            if let Some(nic) = nics.iter().find(|nic| nic.id == id) {
                nic.check(&node)?;
            }
        }
        Ok(nics)
    }

    /// The alias that is being attached or detached.
    pub fn changing_alias(
        template: &Node<'_>,
        context: Option<&Context>,
        default_prefix: u8,
    ) -> Result<Option<ChangingAlias>, XmlError> {
        for alias in template.children("NIC_ALIAS") {
            if !alias.switch("ATTACH")? {
                continue;
            }
            let parent: NicId = alias.required("PARENT_ID")?;
            let prefix = alias_prefix(&alias, parent)?;
            return Ok(Some(ChangingAlias {
                id: alias.required("NIC_ID")?,
                parent,
                mac: alias.required("MAC")?,
                comes: comes(&prefix, context),
                addresses: alias_addresses(&alias, prefix, context, default_prefix)?,
            }));
        }
        Ok(None)
    }

    /// What the kernel would refuse with a number only.
    fn check(&self, node: &Node<'_>) -> Result<(), XmlError> {
        let has_ipv6 = self.addresses.iter().any(IpNetwork::is_ipv6);
        if let Some(mtu) = self.mtu.filter(|mtu| has_ipv6 && *mtu < IPV6_MTU) {
            let problem = format!(
                "{mtu} is too small for the NIC's IPv6 address, which needs at least {IPV6_MTU}; raise the MTU, or take the IPv6 address away"
            );
            return Err(node.wrong("MTU", problem));
        }
        let gateways = [
            ("GATEWAY", self.gateway.map(IpAddr::V4)),
            ("GATEWAY6", self.gateway6.map(IpAddr::V6)),
        ];
        for (key, gateway) in gateways {
            let Some(gateway) = gateway else { continue };
            if gateway.is_multicast() {
                return Err(node.wrong(key, not_of_one_interface(gateway)));
            }
            if self.addresses.iter().any(|own| own.ip() == gateway) {
                let problem = format!("{gateway} is the NIC's own address, and leads nowhere");
                return Err(node.wrong(key, problem));
            }
        }
        Ok(())
    }

    fn from_node(
        node: &Node<'_>,
        context: Option<&Context>,
        default_prefix: u8,
        left_out: &mut Vec<String>,
    ) -> Result<Self, XmlError> {
        let id: NicId = node.required("NIC_ID")?;
        let attributes = NicAttributes {
            node,
            context,
            prefix: format!("ETH{id}"),
            default_prefix,
        };
        let method = attributes
            .read("METHOD", "METHOD", read_method)?
            .unwrap_or(Method::Static);
        let metric = attributes.read("METRIC", "METRIC", parse_u32)?;
        let metric6 = attributes.read("IP6_METRIC", "IP6_METRIC", parse_u32)?;
        let ip6_method = attributes
            .read("IP6_METHOD", "IP6_METHOD", read_ip6_method)?
            .unwrap_or(method.into());
        let own = attributes.addresses(node)?;
        let has_ipv6 = own.iter().any(IpNetwork::is_ipv6);
        let mut nic = Self {
            id,
            target: node.required("TARGET")?,
            bridge: node.required("BRIDGE")?,
            bridge_kind: node
                .read("BRIDGE_TYPE", read_bridge)?
                .unwrap_or(BridgeKind::Linux),
            vlan: vlan_of_port(node)?,
            mac: node.required("MAC")?,
            method,
            ip6_method,
            autoconf: autoconf(ip6_method, has_ipv6),
            leases: own.iter().map(IpNetwork::ip).collect(),
            addresses: Vec::new(),
            gateway: attributes.read("GATEWAY", "GATEWAY", kind_of("an IPv4 address"))?,
            gateway6: attributes.read("IP6_GATEWAY", "GATEWAY6", kind_of("an IPv6 address"))?,
            metric,
            metric6: metric6.or(metric),
            routes: attributes
                .read("ROUTES", "ROUTES", read_routes)?
                .unwrap_or_default(),
            inbound: attributes.bandwidth("INBOUND")?,
            outbound: attributes.bandwidth("OUTBOUND")?,
            mtu: match attributes.read("MTU", "GUEST_MTU", read_mtu)? {
                None => node.read("MTU", read_mtu)?,
                inside => inside,
            },
            dns: attributes.list("DNS", left_out)?,
            search: attributes.list("SEARCH_DOMAIN", left_out)?,
            attach: node.switch("ATTACH")?,
        };
        nic.addresses = own.into_iter().filter(|own| nic.sets(own)).collect();
        Ok(nic)
    }

    /// Whether an address of this family is set, or left to somebody else.
    fn sets(&self, address: &IpNetwork) -> bool {
        match address {
            IpNetwork::V4(_) => self.method == Method::Static,
            IpNetwork::V6(_) => self.ip6_method == Ip6Method::Static,
        }
    }
}

/// As `context-linux` configures a Debian: leased IPv6 addresses stand alone; without any the kernel
/// takes what routers advertise.
fn autoconf(method: Ip6Method, has_ipv6: bool) -> Autoconf {
    match method {
        Ip6Method::Disable => Autoconf::NoIpv6,
        Ip6Method::Static if has_ipv6 => Autoconf::Off,
        Ip6Method::Static | Ip6Method::Auto | Ip6Method::Dhcp | Ip6Method::Skip => Autoconf::Kernel,
    }
}

/// VLAN_ID where it is a port's: with `vxlan` and its like it is a VXLAN's number, which is larger.
fn vlan_of_port(node: &Node<'_>) -> Result<Option<VlanId>, XmlError> {
    match node.text("VN_MAD")? {
        Some("ovswitch" | "ovswitch_vxlan") => node.value("VLAN_ID"),
        _ => Ok(None),
    }
}

/// The prefix of an alias's variables in CONTEXT.
fn alias_prefix(alias: &Node<'_>, parent: NicId) -> Result<String, XmlError> {
    Ok(match alias.value::<NicId>("ALIAS_ID")? {
        Some(id) => format!("ETH{parent}_ALIAS{id}"),
        None => format!("ETH{parent}"),
    })
}

/// Whether an alias with ATTACH=YES is being attached; none where CONTEXT does not describe the
/// network.
fn comes(prefix: &str, context: Option<&Context>) -> Option<bool> {
    let context = context.filter(|c| c.get("NETWORK").is_some_and(is_true))?;
    Some(context.get(&format!("{prefix}_MAC")).is_some())
}

fn alias_addresses(
    alias: &Node<'_>,
    prefix: String,
    context: Option<&Context>,
    default_prefix: u8,
) -> Result<Vec<IpNetwork>, XmlError> {
    let attributes = NicAttributes {
        node: alias,
        context,
        prefix,
        default_prefix,
    };
    // An external alias is one that somebody else's router answers for: the guest does not have
    // it (`context-linux`, netcfg-interfaces).
    let external = attributes.text("EXTERNAL", "EXTERNAL")?;
    if external.is_some_and(|(_, text)| is_true(text)) {
        return Ok(Vec::new());
    }
    attributes.addresses(alias)
}

/// What two NICs may not share: the id, the host end's name, and on one bridge the MAC address.
fn twice(nics: &[Nic]) -> Option<String> {
    nics.iter().enumerate().find_map(|(n, nic)| {
        nics.iter().take(n).find_map(|other| {
            if nic.id == other.id {
                Some(format!("NIC_ID {} is given twice", nic.id))
            } else if nic.target == other.target {
                Some(format!(
                    "NIC {} and NIC {} both have TARGET={}; give one of them another TARGET, or none",
                    other.id, nic.id, nic.target
                ))
            } else if nic.mac == other.mac && nic.bridge == other.bridge {
                Some(format!(
                    "NIC {} and NIC {} both have MAC={} on the bridge {}, which can lead to one of them only; give one of them another MAC",
                    other.id, nic.id, nic.mac, nic.bridge
                ))
            } else {
                None
            }
        })
    })
}

#[cfg(test)]
mod tests;
