//! What a NIC has beside its names: what carries it, how its IPv6 addresses come about, where it
//! leads, and how much it may transfer.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::types::decimal::parse_whole;

/// What carries the host end (NIC/BRIDGE_TYPE).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BridgeKind {
    /// A bridge of the kernel.
    #[default]
    Linux,
    /// An Open vSwitch bridge.
    OpenVSwitch,
}

/// Whether a NIC takes IPv6 addresses from routers beside those that OpenNebula leased
/// (IP6_METHOD, as `context-linux` writes it for Debian).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Autoconf {
    /// As the kernel does without any setting: from router advertisements.
    #[default]
    Kernel,
    /// Router advertisements are ignored: the leased addresses are the only ones.
    Off,
    /// There is no IPv6 on the NIC, not even a link-local address.
    NoIpv6,
}

/// The number of a VLAN, from 1 to 4094.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct VlanId(u16);

impl TryFrom<u16> for VlanId {
    type Error = BadNicValue;
    fn try_from(number: u16) -> Result<Self, BadNicValue> {
        if (1..=4094).contains(&number) {
            Ok(Self(number))
        } else {
            Err(BadNicValue::Vlan(number.to_string()))
        }
    }
}

impl From<VlanId> for u16 {
    fn from(vlan: VlanId) -> Self {
        vlan.0
    }
}

impl FromStr for VlanId {
    type Err = BadNicValue;
    fn from_str(text: &str) -> Result<Self, BadNicValue> {
        let number: u16 = text
            .parse()
            .map_err(|_| BadNicValue::Vlan(text.chars().take(80).collect()))?;
        number.try_into()
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value that a NIC cannot have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadNicValue {
    /// Not of the form of `ip route`.
    #[error("\"{0}\" is not a route such as 10.8.0.0/16 via 10.0.0.1")]
    Route(String),
    /// No number of a VLAN.
    #[error("\"{0}\" is not a VLAN id from 1 to 4094")]
    Vlan(String),
    /// No number of kilobytes.
    #[error("\"{0}\" is not a number of kilobytes from 0 to {MOST_KILOBYTES}")]
    Kilobytes(String),
    /// A peak bandwidth or its amount, which are about an average.
    #[error("a peak bandwidth or amount is given without an average bandwidth (…_AVG_BW)")]
    NoAverage,
    /// Gateway and destination differ in their family.
    #[error("the route \"{0}\" mixes IPv4 and IPv6")]
    Family(String),
}

/// A route by a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Without host bits, which the kernel refuses.
    pub destination: IpNetwork,
    pub gateway: IpAddr,
}

impl FromStr for Route {
    type Err = BadNicValue;

    /// Reads `<network or address> via <gateway>` (ETHx_ROUTES of `context-linux`).
    fn from_str(text: &str) -> Result<Self, BadNicValue> {
        let bad = || BadNicValue::Route(text.chars().take(80).collect());
        let words: Vec<&str> = text.split_whitespace().collect();
        let [destination, "via", gateway] = words[..] else {
            return Err(bad());
        };
        let gateway: IpAddr = gateway.parse().map_err(|_| bad())?;
        let given: IpNetwork = match (destination, gateway) {
            ("default", IpAddr::V4(_)) => "0.0.0.0/0".parse(),
            ("default", IpAddr::V6(_)) => "::/0".parse(),
            _ => destination.parse(),
        }
        .map_err(|_| bad())?;
        if given.is_ipv4() != gateway.is_ipv4() {
            return Err(BadNicValue::Family(text.chars().take(80).collect()));
        }
        let destination = IpNetwork::new(given.network(), given.prefix()).map_err(|_| bad())?;
        Ok(Self {
            destination,
            gateway,
        })
    }
}

/// The most that a NIC may transfer in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bandwidth {
    /// Over a long time, in bytes a second.
    pub average: u64,
    /// While `burst` lasts, in bytes a second, and above `average`; none: as fast as it goes.
    pub peak: Option<u64>,
    /// How much may pass faster than `average`, in bytes; none: a small amount of the system's choice.
    pub burst: Option<u64>,
}

/// 100 Gbit/s in kilobytes a second; also the most KiB of a burst.
const MOST_KILOBYTES: u64 = 12_500_000;

impl Bandwidth {
    /// `INBOUND_AVG_BW`, `INBOUND_PEAK_BW` (kilobytes of 1000 a second) and `INBOUND_PEAK_KB` (KiB), the
    /// units in which libvirt hands them to `tc`; or the same of OUTBOUND. Empty and 0 ask for
    /// nothing. A peak that is not above the average bounds nothing either.
    pub fn from_kilobytes(
        average: &str,
        peak: &str,
        burst: &str,
    ) -> Result<Option<Self>, BadNicValue> {
        let (average, peak, burst) = (kilobytes(average)?, kilobytes(peak)?, kilobytes(burst)?);
        match average {
            None if peak.or(burst).is_some() => Err(BadNicValue::NoAverage),
            None => Ok(None),
            Some(average) => Ok(Some(Self {
                average: average * 1000,
                peak: peak.filter(|peak| *peak > average).map(|peak| peak * 1000),
                burst: burst.map(|burst| burst * 1024),
            })),
        }
    }
}

fn kilobytes(text: &str) -> Result<Option<u64>, BadNicValue> {
    match parse_whole(text) {
        _ if text.is_empty() => Ok(None),
        Ok(0) => Ok(None),
        Ok(number) if number <= MOST_KILOBYTES => Ok(Some(number)),
        _ => Err(BadNicValue::Kilobytes(text.chars().take(80).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bandwidth_is_an_average_with_an_optional_peak_above_it() {
        let of = |average, peak, burst| Bandwidth::from_kilobytes(average, peak, burst);
        let some = |average, peak, burst| {
            Ok(Some(Bandwidth {
                average,
                peak,
                burst,
            }))
        };
        assert_eq!(of("", "", ""), Ok(None));
        assert_eq!(of("0", "0", "0"), Ok(None));
        assert_eq!(of("1000", "", ""), some(1_000_000, None, None));
        assert_eq!(
            of("1000", "1001", "2"),
            some(1_000_000, Some(1_001_000), Some(2048))
        );
        assert_eq!(of("1000", "1000", "0"), some(1_000_000, None, None));
        assert_eq!(of("12500000", "", ""), some(12_500_000_000, None, None));
        assert_eq!(of("", "1000", ""), Err(BadNicValue::NoAverage));
        assert_eq!(of("0", "", "5"), Err(BadNicValue::NoAverage));
        for bad in ["-1", "1.5", "x", "12500001"] {
            assert_eq!(of(bad, "", ""), Err(BadNicValue::Kilobytes(bad.into())));
            assert!(of("1", bad, "").is_err() && of("1", "", bad).is_err());
        }
    }

    #[test]
    fn a_vlan_has_a_number_from_1_to_4094() {
        for good in ["1", "42", "4094"] {
            let vlan: VlanId = good.parse().unwrap();
            assert_eq!(vlan.to_string(), good);
            assert_eq!(u16::from(vlan).to_string(), good);
        }
        for bad in ["", "0", "4095", "-1", "70000", "x"] {
            let error = bad.parse::<VlanId>().unwrap_err().to_string();
            assert!(error.contains("from 1 to 4094"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_route_is_a_destination_and_a_gateway_of_one_family() {
        for (text, destination, gateway) in [
            ("10.8.0.0/16 via 10.0.0.1", "10.8.0.0/16", "10.0.0.1"),
            ("  10.8.3.4/16   via 10.0.0.1 ", "10.8.0.0/16", "10.0.0.1"),
            ("10.8.3.4 via 10.0.0.1", "10.8.3.4/32", "10.0.0.1"),
            ("default via 10.0.0.1", "0.0.0.0/0", "10.0.0.1"),
            ("default via fe80::1", "::/0", "fe80::1"),
            ("fd00:8::/32 via fd00::1", "fd00:8::/32", "fd00::1"),
        ] {
            let route: Route = text.parse().unwrap();
            assert_eq!(route.destination.to_string(), destination, "{text}");
            assert_eq!(route.gateway.to_string(), gateway, "{text}");
        }
        for bad in [
            "",
            "10.8.0.0/16",
            "10.8.0.0/16 via",
            "10.8.0.0/16 dev eth0",
            "10.8.0.0/33 via 10.0.0.1",
            "10.8.0.0/16 via gateway",
            "10.8.0.0/16 via 10.0.0.1 metric 5",
        ] {
            let error = bad.parse::<Route>().unwrap_err();
            assert_eq!(error, BadNicValue::Route(bad.into()));
        }
        let mixed = "10.8.0.0/16 via fd00::1".parse::<Route>().unwrap_err();
        assert!(mixed.to_string().contains("mixes IPv4 and IPv6"));
        let long = "x".repeat(1000).parse::<Route>().unwrap_err();
        assert!(long.to_string().len() < 200, "{long}");
    }
}
