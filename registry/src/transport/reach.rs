//! Which addresses a registry may have. Whoever may register an image names a registry, and the
//! front-end connects to it: to nothing that only this machine can reach (attack 20, server-side
//! request forgery).

use std::error::Error as StdError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use onedock_common::resolver::own_addresses;
use reqwest::Url;
use thiserror::Error;

use crate::error::causes;

/// Where the clouds answer with a machine's secrets, beside the link-local addresses: Amazon's and
/// Google's over IPv6, Alibaba's, Oracle's, Azure's.
const METADATA: [IpAddr; 5] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// A host that a user's registry must not have.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error("{host} is an address of the front-end or its links ({address})")]
pub(crate) struct Inward {
    pub(crate) host: String,
    pub(crate) address: IpAddr,
}

impl Inward {
    /// The error of a host whose addresses are these, if one of them is inward.
    pub(super) fn check(host: &str, addresses: &[IpAddr]) -> Result<(), Self> {
        let own = own_addresses();
        let inward = |address: &&IpAddr| {
            let leads_to = match address {
                IpAddr::V6(v6) => inner_v4(*v6).map(IpAddr::from),
                IpAddr::V4(_) => None,
            };
            is_inward(**address) || own.contains(&leads_to.unwrap_or(**address))
        };
        match addresses.iter().find(inward) {
            None => Ok(()),
            Some(address) => Err(Self {
                host: host.to_owned(),
                address: *address,
            }),
        }
    }

    /// The same of a URL with an address in place of a name. Names are checked when they are looked
    /// up.
    pub(super) fn check_url(url: &Url) -> Result<(), Self> {
        let host = url.host_str().unwrap_or_default();
        match address_of(url) {
            Some(address) => Self::check(host, &[address]),
            None if is_inward_host(url) => Self::check(host, &[Ipv4Addr::LOCALHOST.into()]),
            None => Ok(()),
        }
    }

    /// Why a connection failed, if it was this.
    pub(super) fn found_in<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        causes(error).find_map(|link| link.downcast_ref())
    }
}

fn address_of(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

/// Whether a host in a URL is this machine or its link.
pub(super) fn is_inward_host(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost" || host.ends_with(".localhost") || address_of(url).is_some_and(is_inward)
}

/// Whether an address leads to this machine, to what is on its links alone, or to nobody in
/// particular. Addresses that are IPv4 in another form count as what they lead to.
pub(super) fn is_inward(address: IpAddr) -> bool {
    if METADATA.contains(&address) {
        return true;
    }
    match address {
        IpAddr::V4(v4) => {
            v4.octets()[0] == 0
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
                || inner_v4(v6).is_some_and(|v4| is_inward(v4.into()))
        }
    }
}

/// The IPv4 address in a mapped one, in one of NAT64 (RFC 6052) or of 6to4 (RFC 3056).
fn inner_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = v6.segments();
    let v4 = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        Ipv4Addr::new(a, b, c, d)
    };
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0 | 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(v4(high, low)),
        (0x2002, high, low, ..) => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_20_addresses_of_this_machine_its_links_and_metadata_services_are_inward() {
        let inward = |text: &str| is_inward(text.parse().unwrap());
        for text in [
            "127.0.0.1",
            "127.255.0.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
        ] {
            assert!(inward(text), "{text}");
        }
        for text in [
            "10.0.0.1",
            "192.168.1.1",
            "198.51.100.7",
            "1.0.0.1",
            "fd00::1",
            "2001:db8::1",
            "64:ff9b::c633:6407",
            "2002:c633:6407::1",
            "::ffff:198.51.100.7",
        ] {
            assert!(!inward(text), "{text}");
        }
    }

    #[test]
    fn an_error_names_the_host_and_is_found_beneath_others() {
        let metadata = ["169.254.169.254".parse().unwrap()];
        let inward = Inward::check("metadata.example", &metadata).unwrap_err();
        assert!(inward.to_string().contains("metadata.example"), "{inward}");
        let wrapped = std::io::Error::other(inward.clone());
        assert_eq!(Inward::found_in(&wrapped), Some(&inward));
        assert_eq!(Inward::found_in(&std::io::Error::other("x")), None);
        assert!(Inward::check("r.example", &["198.51.100.7".parse().unwrap()]).is_ok());
    }
}
