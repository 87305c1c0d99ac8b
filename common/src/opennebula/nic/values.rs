//! The values of a NIC, and how they are written.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use crate::types::decimal::parse_u32;

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

pub(super) fn read_bridge(text: &str) -> Result<BridgeKind, String> {
    match text {
        "linux" => Ok(BridgeKind::Linux),
        "openvswitch" | "openvswitch_dpdk" => Ok(BridgeKind::OpenVSwitch),
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
            ("openvswitch_dpdk", BridgeKind::OpenVSwitch),
        ] {
            assert_eq!(read_bridge(text), Ok(bridge));
        }
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
            prefix_of_ipv6("odd").unwrap_err(),
            prefix_of_mask("odd").unwrap_err(),
            read_mtu("odd").unwrap_err(),
        ] {
            assert!(error.starts_with("\"odd\" is not"), "{error}");
        }
        assert!(prefix_of_ipv6("129").is_err());
        let long = read_method(&"x".repeat(1000)).unwrap_err();
        assert!(long.len() < 100, "{long}");
    }
}
