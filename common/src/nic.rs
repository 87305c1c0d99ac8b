//! TEMPLATE/NIC together with what only CONTEXT knows of it: `oned` writes no mask into the
//! NIC, so it comes from ETHx_MASK, else from the network's NETWORK_MASK (inherited with
//! INHERIT_VNET_ATTR), else it is ONEDOCK_DEFAULT_NETMASK of `onedock.conf`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use crate::decimal::parse_u32;
use crate::dns::{NameServer, SearchDomain};
use crate::ids::NicId;
use crate::names::{IfName, Mac};
use crate::vm::Context;
use crate::xml::{Node, XmlError};

/// The prefix of an IPv4 address whose mask nobody names, not even ONEDOCK_DEFAULT_NETMASK.
pub const DEFAULT_PREFIX: u8 = 24;

/// The least MTU of a link with IPv6, in bytes (RFC 8200, 5; the kernel takes IPv6 off a link
/// with less).
pub const IPV6_MTU: u32 = 1280;

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
    /// METRIC of the default route.
    pub metric: Option<u32>,
    /// IP6_METRIC of the default route of IPv6; without one, METRIC counts for both, as in
    /// OpenNebula's guest package.
    pub metric6: Option<u32>,
    /// In bytes: GUEST_MTU (CONTEXT's ETHx_MTU), which is that of the link inside, else MTU.
    pub mtu: Option<u32>,
    /// DNS; CONTEXT's ETHx_DNS stands before the NIC's.
    pub dns: Vec<NameServer>,
    /// SEARCH_DOMAIN; CONTEXT's ETHx_SEARCH_DOMAIN stands before the NIC's.
    pub search: Vec<SearchDomain>,
}

/// The items of a list of name servers or domains. What is none is left out, with a line that
/// says so: the VM can live without it.
pub(crate) fn list_of<T: FromStr<Err: fmt::Display>>(
    path: &str,
    text: &str,
    left_out: &mut Vec<String>,
) -> Vec<T> {
    let path = path.strip_prefix("VM/TEMPLATE/").unwrap_or(path);
    text.split([' ', ',', '\t', '\n'])
        .filter(|item| !item.is_empty())
        .filter_map(|item| {
            item.parse()
                .map_err(|e| left_out.push(format!("{path}: {e}; it is left out")))
                .ok()
        })
        .collect()
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

    fn list<T: FromStr<Err: fmt::Display>>(
        &self,
        key: &str,
        left_out: &mut Vec<String>,
    ) -> Result<Vec<T>, XmlError> {
        Ok(match self.text(key, key)? {
            None => Vec::new(),
            Some((path, text)) => list_of(&path, text, left_out),
        })
    }

    fn addresses(&self, node: &Node<'_>) -> Result<Vec<IpNetwork>, XmlError> {
        let mut addresses = Vec::new();
        if let Some(ip) = node.read("IP", kind_of::<Ipv4Addr>("an IPv4 address"))? {
            let prefix = self.read("MASK", "NETWORK_MASK", prefix_of_mask)?;
            if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() {
                return Err(node.wrong("IP", not_of_one_interface(ip.into())));
            }
            let network = Ipv4Network::new(ip, prefix.unwrap_or(self.default_prefix));
            addresses.push(IpNetwork::V4(network.map_err(|e| node.wrong("IP", e))?));
        }
        for key in ["IP6", "IP6_GLOBAL", "IP6_ULA"] {
            let Some(ip) = node.read(key, kind_of::<Ipv6Addr>("an IPv6 address"))? else {
                continue;
            };
            if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
                return Err(node.wrong(key, not_of_one_interface(ip.into())));
            }
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
                // An external alias is one that somebody else's router answers for: the guest
                // does not have it (`context-linux`, netcfg-interfaces).
                let external = sight.text("EXTERNAL", "EXTERNAL")?;
                if external.is_some_and(|(_, text)| is_true(text)) {
                    continue;
                }
                for address in sight.addresses(&alias)? {
                    if !nic.addresses.contains(&address) {
                        nic.addresses.push(address);
                    }
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
        let sight = Sight {
            node,
            context,
            prefix: format!("ETH{id}"),
            default_prefix,
        };
        let method = sight
            .read("METHOD", "METHOD", read_method)?
            .unwrap_or(Method::Static);
        let metric = sight.read("METRIC", "METRIC", parse_u32)?;
        let metric6 = sight.read("IP6_METRIC", "IP6_METRIC", parse_u32)?;
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
            metric,
            metric6: metric6.or(metric),
            mtu: match sight.read("MTU", "GUEST_MTU", read_mtu)? {
                None => node.read("MTU", read_mtu)?,
                inside => inside,
            },
            dns: sight.list("DNS", left_out)?,
            search: sight.list("SEARCH_DOMAIN", left_out)?,
        })
    }
}

fn kind_of<T: FromStr>(what: &'static str) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        text.parse()
            .map_err(|_| format!("\"{}\" is not {what}", shown(text)))
    }
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

fn not_of_one_interface(address: IpAddr) -> String {
    format!("{address} is not an address that an interface can have")
}

/// As `context-linux` reads a switch.
fn is_true(text: &str) -> bool {
    ["yes", "y", "true", "t", "1"]
        .iter()
        .any(|yes| text.eq_ignore_ascii_case(yes))
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

    /// The recorded document with this put into one of its NICs.
    fn with(nic: u32, text: &str) -> String {
        let mark = format!("<TARGET><![CDATA[one-5-{nic}]]></TARGET>");
        assert!(TRACED.contains(&mark));
        TRACED.replace(&mark, &format!("{mark}{text}"))
    }

    #[test]
    fn what_the_kernel_would_refuse_with_a_number_is_refused_with_its_reason() {
        let mtu = "<MTU><![CDATA[1450]]></MTU>\n   <NAME><![CDATA[NIC1";
        let small = "<MTU>1279</MTU>\n   <NAME><![CDATA[NIC1";
        let ip = "<IP><![CDATA[10.77.0.23]]></IP>\n   <MAC>";
        let mac = "02:00:0a:4d:00:17]]></MAC>\n   <MODEL";
        for (text, reason) in [
            (
                with(1, "<IP6>fd00::5</IP6>").replace(mtu, small),
                "NIC[1]/MTU in the XML: 1279 is too small for the NIC's IPv6 address",
            ),
            (
                TRACED.replace(mac, "01:00:5e:00:00:01]]></MAC>\n   <MODEL"),
                "NIC[1]/MAC in the XML: \"01:00:5e:00:00:01\" cannot be the MAC address",
            ),
            (
                TRACED.replace(mac, "02:00:0a:4d:00:2a]]></MAC>\n   <MODEL"),
                "NIC 0 and NIC 1 both have MAC=02:00:0a:4d:00:2a on the bridge onebr0",
            ),
            (
                TRACED.replace("<TARGET><![CDATA[one-5-1]]>", "<TARGET><![CDATA[one-5-0]]>"),
                "NIC 0 and NIC 1 both have TARGET=one-5-0",
            ),
            (
                TRACED.replace(ip, "<IP>239.0.0.1</IP>\n   <MAC>"),
                "NIC[1]/IP in the XML: 239.0.0.1 is not an address that an interface can have",
            ),
            (
                with(1, "<IP6>ff02::1</IP6>"),
                "NIC[1]/IP6 in the XML: ff02::1 is not an address",
            ),
            (
                TRACED.replace(
                    "<ETH1_GATEWAY><![CDATA[10.77.0.1]]>",
                    "<ETH1_GATEWAY><![CDATA[10.77.0.23]]>",
                ),
                "NIC[1]/GATEWAY in the XML: 10.77.0.23 is the NIC's own address",
            ),
        ] {
            assert_ne!(text, TRACED, "{reason}");
            let error = nics(&text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        // Without IPv6, and on another bridge, neither is wrong.
        assert_eq!(
            nics(&TRACED.replace(mtu, small)).unwrap()[1].mtu,
            Some(1279)
        );
        let second = TRACED.rfind("<BRIDGE><![CDATA[onebr0]]>").unwrap();
        let second = TRACED[..second]
            .rfind("<BRIDGE><![CDATA[onebr0]]>")
            .unwrap();
        let mut apart = TRACED.to_owned();
        apart.replace_range(
            second.."<BRIDGE><![CDATA[onebr0".len() + second,
            "<BRIDGE><![CDATA[onebr1",
        );
        let apart = apart.replace(mac, "02:00:0a:4d:00:2a]]></MAC>\n   <MODEL");
        assert_eq!(nics(&apart).unwrap().len(), 2);
    }

    #[test]
    fn the_mtu_inside_is_guest_mtu_which_stands_before_mtu() {
        assert_eq!(nics(TRACED).unwrap()[1].mtu, Some(1450));
        let own = with(1, "<GUEST_MTU>1400</GUEST_MTU>");
        assert_eq!(nics(&own).unwrap()[1].mtu, Some(1400));
        let context = own.replace("<ETH1_MTU/>", "<ETH1_MTU>1300</ETH1_MTU>");
        assert_eq!(nics(&context).unwrap()[1].mtu, Some(1300));
        assert!(nics(&with(1, "<GUEST_MTU>9</GUEST_MTU>")).is_err());
    }

    #[test]
    fn an_odd_name_server_or_domain_is_left_out_with_a_line_and_the_others_stay() {
        let text = TRACED
            .replace(
                "<ETH0_DNS><![CDATA[10.77.0.1 9.9.9.9]]>",
                "<ETH0_DNS><![CDATA[10.77.0.1, nowhere fe80::1%eth0]]>",
            )
            .replace(
                "<ETH0_SEARCH_DOMAIN/>",
                "<ETH0_SEARCH_DOMAIN>lan. _sip.example.com a..b</ETH0_SEARCH_DOMAIN>",
            );
        let vm = Vm::from_deployment(text.as_bytes()).unwrap();
        let shown = |list: &[NameServer]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown(&vm.nics[0].dns), ["10.77.0.1", "fe80::1%eth0"]);
        assert_eq!(shown(&vm.dns()), ["10.77.0.1", "fe80::1%eth0", "9.9.9.9"]);
        let search: Vec<_> = vm
            .search_domains()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(search, ["lan", "_sip.example.com"]);
        assert_eq!(vm.left_out.len(), 2, "{:?}", vm.left_out);
        assert!(vm.left_out[0].starts_with("CONTEXT/ETH0_DNS: \"nowhere\" is not the address"));
        assert!(vm.left_out[1].starts_with("CONTEXT/ETH0_SEARCH_DOMAIN: \"a..b\" is not a domain"));
        assert!(vm.left_out[1].ends_with("; it is left out"));
        assert!(
            Vm::from_deployment(TRACED.as_bytes())
                .unwrap()
                .left_out
                .is_empty()
        );
    }

    #[test]
    fn an_alias_that_is_external_is_no_address_of_the_vm() {
        let empty = "<ETH0_ALIAS0_EXTERNAL/>";
        let external = "<ETH0_ALIAS0_EXTERNAL>YES</ETH0_ALIAS0_EXTERNAL>";
        let addresses = |text: &str| nics(text).unwrap()[0].addresses.len();
        assert_eq!(addresses(TRACED), 2);
        assert_eq!(addresses(&TRACED.replace(empty, external)), 1);
    }

    #[test]
    fn the_metric_of_ipv6_is_its_own_else_that_of_ipv4() {
        let metrics = |text: &str| {
            let nics = nics(text).unwrap();
            (nics[0].metric, nics[0].metric6)
        };
        assert_eq!(metrics(TRACED), (None, None));
        let with = |own: &str| {
            TRACED
                .replace("<ETH0_METRIC/>", "<ETH0_METRIC>7</ETH0_METRIC>")
                .replace("<ETH0_IP6_METRIC/>", own)
        };
        assert_eq!(metrics(&with("<ETH0_IP6_METRIC/>")), (Some(7), Some(7)));
        let both = with("<ETH0_IP6_METRIC>9</ETH0_IP6_METRIC>");
        assert_eq!(metrics(&both), (Some(7), Some(9)));
        assert!(nics(&with("<ETH0_IP6_METRIC>x</ETH0_IP6_METRIC>")).is_err());
    }

    #[test]
    fn a_nic_that_somebody_inside_configures_has_no_address_from_us() {
        let text = TRACED.replace("<ETH1_METHOD/>", "<ETH1_METHOD>skip</ETH1_METHOD>");
        let nics = nics(&text).unwrap();
        assert_eq!((nics[1].method, nics[1].addresses.len()), (Method::Skip, 0));
    }
}
