//! The values of a NIC, and how they are written.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use crate::types::decimal::parse_u32;
use crate::types::nic::{BadNicValue, BridgeKind, Route};

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

/// How a NIC gets its IPv6 addresses (IP6_METHOD; METHOD where it is not given).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ip6Method {
    /// The addresses that OpenNebula leased, and no others.
    Static,
    /// From routers.
    Auto,
    /// By a DHCPv6 client.
    Dhcp,
    /// There is no IPv6.
    Disable,
    /// None; somebody inside does it.
    Skip,
}

impl From<Method> for Ip6Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Static => Self::Static,
            Method::Dhcp => Self::Dhcp,
            Method::Skip => Self::Skip,
        }
    }
}

pub(super) fn kind_of<T: FromStr>(what: &'static str) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        text.parse()
            .map_err(|_| format!("\"{}\" is not {what}", shown(text)))
    }
}

pub(super) fn not_of_one_interface(address: IpAddr) -> String {
    format!("{address} is not an address that an interface can have")
}

/// As `context-linux` reads a switch.
pub(super) fn is_true(text: &str) -> bool {
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

pub(super) fn prefix_of_ipv6(text: &str) -> Result<u8, String> {
    let bad = || format!("\"{}\" is not a prefix length from 0 to 128", shown(text));
    let prefix = parse_u32(text).map_err(|_| bad())?;
    u8::try_from(prefix)
        .ok()
        .filter(|p| *p <= 128)
        .ok_or_else(bad)
}

pub(super) fn read_method(text: &str) -> Result<Method, String> {
    match text.to_ascii_lowercase().as_str() {
        "static" => Ok(Method::Static),
        "dhcp" => Ok(Method::Dhcp),
        "skip" => Ok(Method::Skip),
        _ => Err(format!("\"{}\" is not static, dhcp or skip", shown(text))),
    }
}

pub(super) fn read_ip6_method(text: &str) -> Result<Ip6Method, String> {
    match text.to_ascii_lowercase().as_str() {
        "static" => Ok(Ip6Method::Static),
        "auto" => Ok(Ip6Method::Auto),
        "dhcp" => Ok(Ip6Method::Dhcp),
        "disable" => Ok(Ip6Method::Disable),
        "skip" => Ok(Ip6Method::Skip),
        _ => Err(format!(
            "\"{}\" is not static, auto, dhcp, disable or skip",
            shown(text)
        )),
    }
}

/// Routes with commas between them.
pub(super) fn read_routes(text: &str) -> Result<Vec<Route>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|route| !route.is_empty())
        .map(|route| route.parse().map_err(|e: BadNicValue| e.to_string()))
        .collect()
}

pub(super) fn read_bridge(text: &str) -> Result<BridgeKind, String> {
    match text {
        "linux" => Ok(BridgeKind::Linux),
        "openvswitch" => Ok(BridgeKind::OpenVSwitch),
        "openvswitch_dpdk" => Err(
            "openvswitch_dpdk takes virtual machines by a socket, which a container does not have; use openvswitch".to_owned(),
        ),
        _ => Err(format!("\"{}\" is not linux or openvswitch", shown(text))),
    }
}

/// 68 is the least that IPv4 needs, 65535 the most that a veth takes.
pub(super) fn read_mtu(text: &str) -> Result<u32, String> {
    let bad = || format!("\"{}\" is not an MTU from 68 to 65535", shown(text));
    parse_u32(text)
        .ok()
        .filter(|mtu| (68..=65535).contains(mtu))
        .ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_read_as_it_is_written_and_any_other_is_quoted() {
        for (text, method) in [
            ("static", Method::Static),
            ("DHCP", Method::Dhcp),
            ("skip", Method::Skip),
        ] {
            assert_eq!(read_method(text), Ok(method));
        }
        for (text, bridge) in [
            ("linux", BridgeKind::Linux),
            ("openvswitch", BridgeKind::OpenVSwitch),
        ] {
            assert_eq!(read_bridge(text), Ok(bridge));
        }
        for (text, method) in [
            ("static", Ip6Method::Static),
            ("auto", Ip6Method::Auto),
            ("dhcp", Ip6Method::Dhcp),
            ("Disable", Ip6Method::Disable),
            ("skip", Ip6Method::Skip),
        ] {
            assert_eq!(read_ip6_method(text), Ok(method));
        }
        for (method, of_ipv6) in [
            (Method::Static, Ip6Method::Static),
            (Method::Dhcp, Ip6Method::Dhcp),
            (Method::Skip, Ip6Method::Skip),
        ] {
            assert_eq!(Ip6Method::from(method), of_ipv6);
        }
        let routes = read_routes("10.8.0.0/16 via 10.0.0.1, default via 10.0.0.2,").unwrap();
        assert_eq!(routes.len(), 2);
        for (text, prefix) in [("0", 0), ("64", 64), ("128", 128)] {
            assert_eq!(prefix_of_ipv6(text), Ok(prefix));
        }
        for (text, yes) in [
            ("YES", true),
            ("t", true),
            ("1", true),
            ("no", false),
            ("", false),
        ] {
            assert_eq!(is_true(text), yes, "{text}");
        }
        for error in [
            read_method("odd").unwrap_err(),
            read_bridge("odd").unwrap_err(),
            read_ip6_method("odd").unwrap_err(),
            read_routes("odd").unwrap_err(),
            prefix_of_ipv6("odd").unwrap_err(),
            prefix_of_mask("odd").unwrap_err(),
            read_mtu("odd").unwrap_err(),
        ] {
            assert!(error.starts_with("\"odd\" is not"), "{error}");
        }
        let dpdk = read_bridge("openvswitch_dpdk").unwrap_err();
        assert!(dpdk.contains("use openvswitch"), "{dpdk}");
        assert!(prefix_of_ipv6("129").is_err());
        let long = read_method(&"x".repeat(1000)).unwrap_err();
        assert!(long.len() < 100, "{long}");
    }
}
