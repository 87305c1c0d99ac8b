//! TEMPLATE/NIC together with what only CONTEXT knows of it: `oned` writes no mask into the
//! NIC, so it comes from ETHx_MASK, else from the network's NETWORK_MASK (inherited with
//! INHERIT_VNET_ATTR), else it is ONEDOCK_DEFAULT_NETMASK of `onedock.conf`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use crate::decimal::parse_u32;
use crate::ids::NicId;
use crate::names::{Hostname, IfName, Mac};
use crate::vm::Context;
use crate::xml::{Node, XmlError};

/// The prefix of an IPv4 address whose mask nobody names, not even ONEDOCK_DEFAULT_NETMASK.
pub const DEFAULT_PREFIX: u8 = 24;

/// How a NIC gets its addresses (METHOD, `context-linux`'s net-10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The addresses that OpenNebula leased.
    Static,
    /// By a DHCP client.
    Dhcp,
    /// None; somebody inside does it.
    Skip,
}

/// What carries the host end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BridgeKind {
    /// A bridge of the kernel.
    Linux,
    /// An Open vSwitch bridge.
    OpenVSwitch,
}

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
    /// MAC.
    pub mac: Mac,
    /// METHOD.
    pub method: Method,
    /// IP, IP6, IP6_GLOBAL and IP6_ULA with their prefixes, then those of the aliases.
    pub addresses: Vec<IpNetwork>,
    /// GATEWAY.
    pub gateway: Option<Ipv4Addr>,
    /// IP6_GATEWAY.
    pub gateway6: Option<Ipv6Addr>,
    /// METRIC of the default routes.
    pub metric: Option<u32>,
    /// MTU.
    pub mtu: Option<u32>,
    /// DNS; CONTEXT's ETHx_DNS stands before the NIC's.
    pub dns: Vec<IpAddr>,
    /// SEARCH_DOMAIN.
    pub search: Vec<Hostname>,
}

/// CONTEXT's view of one NIC: a value there stands before the NIC's own.
struct Sight<'a> {
    node: &'a Node<'a>,
    context: Option<&'a Context>,
    prefix: String,
    default_prefix: u8,
}

impl<'a> Sight<'a> {
    fn text(&self, key: &str, nic_key: &str) -> Result<Option<(String, &'a str)>, XmlError> {
        let name = format!("{}_{key}", self.prefix);
        if let Some(value) = self.context.and_then(|c| c.get(&name)) {
            return Ok(Some((format!("VM/TEMPLATE/CONTEXT/{name}"), value)));
        }
        let own = self.node.text(nic_key)?;
        Ok(own.map(|value| (format!("{}/{nic_key}", self.node.path()), value)))
    }

    fn read<T, E: fmt::Display>(
        &self,
        key: &str,
        nic_key: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, XmlError> {
        match self.text(key, nic_key)? {
            None => Ok(None),
            Some((path, text)) => read(text).map(Some).map_err(|e| XmlError::Wrong {
                path,
                problem: e.to_string(),
            }),
        }
    }

    fn addresses(&self, node: &Node<'_>) -> Result<Vec<IpNetwork>, XmlError> {
        let mut addresses = Vec::new();
        if let Some(ip) = node.read("IP", kind_of::<Ipv4Addr>("an IPv4 address"))? {
            let prefix = self.read("MASK", "NETWORK_MASK", prefix_of_mask)?;
            let network = Ipv4Network::new(ip, prefix.unwrap_or(self.default_prefix));
            addresses.push(IpNetwork::V4(network.map_err(|e| node.wrong("IP", e))?));
        }
        for key in ["IP6", "IP6_GLOBAL", "IP6_ULA"] {
            let Some(ip) = node.read(key, kind_of::<Ipv6Addr>("an IPv6 address"))? else {
                continue;
            };
            let prefix = self.read("IP6_PREFIX_LENGTH", "PREFIX_LENGTH", prefix_of_ipv6)?;
            let network = Ipv6Network::new(ip, prefix.unwrap_or(64));
            let network = IpNetwork::V6(network.map_err(|e| node.wrong(key, e))?);
            if !addresses.contains(&network) {
                addresses.push(network);
            }
        }
        Ok(addresses)
    }
}

impl Nic {
    /// All NICs of a template, in the order of their ids. `default_prefix` is that of an IPv4
    /// address whose mask nobody names.
    pub fn all(
        template: &Node<'_>,
        context: Option<&Context>,
        default_prefix: u8,
    ) -> Result<Vec<Self>, XmlError> {
        let mut nics = template
            .children("NIC")
            .map(|node| Self::from_node(&node, context, default_prefix))
            .collect::<Result<Vec<_>, _>>()?;
        nics.sort_by_key(|nic| nic.id);
        for (first, second) in nics.iter().zip(nics.iter().skip(1)) {
            if first.id == second.id {
                let problem = format!("NIC_ID {} is given twice", first.id);
                return Err(XmlError::Wrong {
                    path: format!("{}/NIC", template.path()),
                    problem,
                });
            }
        }
        for alias in template.children("NIC_ALIAS") {
            let parent: NicId = alias.required("PARENT_ID")?;
            let Some(nic) = nics.iter_mut().find(|nic| nic.id == parent) else {
                return Err(alias.wrong("PARENT_ID", format_args!("there is no NIC {parent}")));
            };
            let prefix = match alias.value::<NicId>("ALIAS_ID")? {
                Some(id) => format!("ETH{parent}_ALIAS{id}"),
                None => format!("ETH{parent}"),
            };
            if nic.method == Method::Static {
                let sight = Sight {
                    node: &alias,
                    context,
                    prefix,
                    default_prefix,
                };
                nic.addresses.extend(sight.addresses(&alias)?);
            }
        }
        Ok(nics)
    }

    fn from_node(
        node: &Node<'_>,
        context: Option<&Context>,
        default_prefix: u8,
    ) -> Result<Self, XmlError> {
        let id: NicId = node.required("NIC_ID")?;
        let sight = Sight {
            node,
            context,
            prefix: format!("ETH{id}"),
            default_prefix,
        };
        let method = sight
            .read("METHOD", "METHOD", read_method)?
            .unwrap_or(Method::Static);
        let addresses = if method == Method::Static {
            sight.addresses(node)?
        } else {
            Vec::new()
        };
        Ok(Self {
            id,
            target: node.required("TARGET")?,
            bridge: node.required("BRIDGE")?,
            bridge_kind: node
                .read("BRIDGE_TYPE", read_bridge)?
                .unwrap_or(BridgeKind::Linux),
            mac: node.required("MAC")?,
            method,
            addresses,
            gateway: sight.read("GATEWAY", "GATEWAY", kind_of("an IPv4 address"))?,
            gateway6: sight.read("IP6_GATEWAY", "GATEWAY6", kind_of("an IPv6 address"))?,
            metric: sight.read("METRIC", "METRIC", parse_u32)?,
            mtu: node.read("MTU", read_mtu)?,
            dns: sight
                .read("DNS", "DNS", list_of("an address of a name server"))?
                .unwrap_or_default(),
            search: sight
                .read("SEARCH_DOMAIN", "SEARCH_DOMAIN", list_of("a domain"))?
                .unwrap_or_default(),
        })
    }
}

fn kind_of<T: FromStr>(what: &'static str) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        text.parse()
            .map_err(|_| format!("\"{}\" is not {what}", shown(text)))
    }
}

fn list_of<T: FromStr>(what: &'static str) -> impl Fn(&str) -> Result<Vec<T>, String> {
    move |text| {
        text.split([' ', ','])
            .filter(|t| !t.is_empty())
            .map(kind_of(what))
            .collect()
    }
}

fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}

/// A mask in dotted form (`255.255.255.0`) or as a prefix (`24`), as ONEDock took both.
pub(crate) fn prefix_of_mask(text: &str) -> Result<u8, String> {
    let bad = || {
        format!(
            "\"{}\" is not a mask such as 255.255.255.0 or 24",
            shown(text)
        )
    };
    if let Ok(mask) = text.parse::<Ipv4Addr>() {
        return ipnetwork::ipv4_mask_to_prefix(mask).map_err(|_| bad());
    }
    let prefix = parse_u32(text.strip_prefix('/').unwrap_or(text)).map_err(|_| bad())?;
    u8::try_from(prefix)
        .ok()
        .filter(|p| *p <= 32)
        .ok_or_else(bad)
}

fn prefix_of_ipv6(text: &str) -> Result<u8, String> {
    let bad = || format!("\"{}\" is not a prefix length from 0 to 128", shown(text));
    let prefix = parse_u32(text).map_err(|_| bad())?;
    u8::try_from(prefix)
        .ok()
        .filter(|p| *p <= 128)
        .ok_or_else(bad)
}

fn read_method(text: &str) -> Result<Method, String> {
    match text.to_ascii_lowercase().as_str() {
        "static" => Ok(Method::Static),
        "dhcp" => Ok(Method::Dhcp),
        "skip" => Ok(Method::Skip),
        _ => Err(format!("\"{}\" is not static, dhcp or skip", shown(text))),
    }
}

fn read_bridge(text: &str) -> Result<BridgeKind, String> {
    match text {
        "linux" => Ok(BridgeKind::Linux),
        "openvswitch" | "openvswitch_dpdk" => Ok(BridgeKind::OpenVSwitch),
        _ => Err(format!("\"{}\" is not linux or openvswitch", shown(text))),
    }
}

/// 68 is the least that IPv4 needs, 65535 the most that a veth takes.
fn read_mtu(text: &str) -> Result<u32, String> {
    let bad = || format!("\"{}\" is not an MTU from 68 to 65535", shown(text));
    parse_u32(text)
        .ok()
        .filter(|mtu| (68..=65535).contains(mtu))
        .ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::Vm;

    const TRACED: &str = include_str!("../testdata/deploy-7.4.0.xml");

    fn nics(text: &str) -> Result<Vec<Nic>, XmlError> {
        Vm::from_deployment(text.as_bytes()).map(|vm| vm.nics)
    }

    #[test]
    fn a_traced_nic_has_its_mask_from_the_context_and_its_alias_address() {
        let nics = nics(TRACED).unwrap();
        assert_eq!(nics.len(), 2);
        let first = &nics[0];
        assert_eq!(first.target.as_str(), "one-5-0");
        assert_eq!(first.bridge.as_str(), "onebr0");
        assert_eq!(first.mac.to_string(), "02:00:0a:4d:00:2a");
        assert_eq!(first.mtu, Some(1450));
        assert_eq!(first.gateway, Some(Ipv4Addr::new(10, 77, 0, 1)));
        let shown: Vec<String> = first.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.77.0.42/24", "10.77.0.24/24"]);
    }

    #[test]
    fn the_mask_comes_from_context_then_network_then_the_site_s_default() {
        let mask = |text: &str| nics(text).unwrap()[1].addresses[0].prefix();
        let context = "<ETH1_MASK><![CDATA[255.255.255.0]]></ETH1_MASK>";
        assert_eq!(
            mask(&TRACED.replace(context, "<ETH1_MASK>255.255.0.0</ETH1_MASK>")),
            16
        );
        let own = TRACED.replace(context, "").replace(
            "<TARGET><![CDATA[one-5-1]]>",
            "<NETWORK_MASK>255.255.255.192</NETWORK_MASK><TARGET><![CDATA[one-5-1]]>",
        );
        assert_eq!(mask(&own), 26);
        let nobody = TRACED.replace(context, "");
        assert_eq!(mask(&nobody), 24);
        let vm = Vm::from_deployment_with(nobody.as_bytes(), 20).unwrap();
        assert_eq!(vm.nics[1].addresses[0].prefix(), 20);
        assert!(nics(&TRACED.replace(context, "<ETH1_MASK>255.0.255.0</ETH1_MASK>")).is_err());
    }

    #[test]
    fn a_nic_that_cannot_be_made_is_named_with_its_element() {
        for (from, to, path) in [
            (
                "02:00:0a:4d:00:17]]></MAC>\n   <MODEL",
                "02:00:0a]]></MAC>\n   <MODEL",
                "VM/TEMPLATE/NIC[1]/MAC",
            ),
            (
                "<TARGET><![CDATA[one-5-1]]>",
                "<TARGET><![CDATA[../../x]]>",
                "VM/TEMPLATE/NIC[1]/TARGET",
            ),
            (
                "<MTU><![CDATA[1450]]></MTU>\n   <NAME><![CDATA[NIC1",
                "<MTU>9</MTU>\n   <NAME><![CDATA[NIC1",
                "VM/TEMPLATE/NIC[1]/MTU",
            ),
            (
                "<PARENT_ID><![CDATA[0]]>",
                "<PARENT_ID><![CDATA[7]]>",
                "VM/TEMPLATE/NIC_ALIAS[0]/PARENT_ID",
            ),
        ] {
            let text = TRACED.replace(from, to);
            assert_ne!(text, TRACED, "{from}");
            let error = nics(&text).unwrap_err().to_string();
            assert!(error.starts_with(path), "{error}");
        }
    }

    #[test]
    fn a_nic_that_somebody_inside_configures_has_no_address_from_us() {
        let text = TRACED.replace("<ETH1_METHOD/>", "<ETH1_METHOD>skip</ETH1_METHOD>");
        let nics = nics(&text).unwrap();
        assert_eq!((nics[1].method, nics[1].addresses.len()), (Method::Skip, 0));
    }
}
