//! What `resolv.conf(5)` takes: addresses of name servers, and search domains. They are not host
//! names: a search domain may be longer than a name of the kernel, and may have an underscore.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::types::names::IfName;

/// The longest domain in bytes, without the dot at its end (RFC 1035, 2.3.4).
const DOMAIN: usize = 253;
/// The longest label in bytes.
const LABEL: usize = 63;

/// Why a name server or a search domain was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BadResolver {
    /// Not an address.
    #[error(
        "\"{0}\" is not the address of a name server (10.0.0.1, fd00::53, or fe80::1%eth0 for one on the VM's own link)"
    )]
    Server(String),
    /// A zone where the address has none.
    #[error("\"{0}\" has a zone, which only a link-local address (fe80::/10) has")]
    Zone(String),
    /// Not a domain.
    #[error(
        "\"{0}\" is not a domain (labels of letters, digits, hyphens and underscores, at most {LABEL} bytes each and {DOMAIN} together)"
    )]
    Domain(String),
    /// Not an option.
    #[error("\"{0}\" is not an option of the resolver (ndots:2, timeout:1, rotate)")]
    Option(String),
    /// Not a name with its address.
    #[error("\"{0}\" is not a host name with its address (db:10.0.0.7)")]
    Host(String),
}

/// The address of a name server. A link-local one may name the VM's interface that leads there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NameServer {
    address: IpAddr,
    zone: Option<IfName>,
}

/// A domain that the resolver tries behind a short name. Kept without a dot at its end; the root
/// alone is `.`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SearchDomain(String);

impl SearchDomain {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NameServer {
    type Err = BadResolver;
    fn from_str(text: &str) -> Result<Self, BadResolver> {
        let bad = || BadResolver::Server(shortened(text));
        let (address, zone) = match text.split_once('%') {
            None => (text, None),
            Some((address, zone)) => (address, Some(zone.parse().map_err(|_| bad())?)),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if zone.is_some() && !link_local {
            return Err(BadResolver::Zone(shortened(text)));
        }
        Ok(Self { address, zone })
    }
}

impl FromStr for SearchDomain {
    type Err = BadResolver;
    fn from_str(text: &str) -> Result<Self, BadResolver> {
        if text == "." {
            return Ok(Self(text.to_owned()));
        }
        let domain = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            (1..=LABEL).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if domain.len() <= DOMAIN && domain.split('.').all(is_label) {
            Ok(Self(domain.to_owned()))
        } else {
            Err(BadResolver::Domain(shortened(text)))
        }
    }
}

/// An option of the resolver, such as `ndots:2` or `rotate`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResolverOption(String);

impl FromStr for ResolverOption {
    type Err = BadResolver;
    fn from_str(text: &str) -> Result<Self, BadResolver> {
        let is_plain =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b':');
        if (1..=LABEL).contains(&text.len()) && text.bytes().all(is_plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadResolver::Option(shortened(text)))
        }
    }
}

/// A line of `/etc/hosts`, written `name:address` as Docker takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostEntry {
    /// The name, a domain in form.
    pub name: SearchDomain,
    pub address: IpAddr,
}

impl FromStr for HostEntry {
    type Err = BadResolver;
    fn from_str(text: &str) -> Result<Self, BadResolver> {
        let bad = || BadResolver::Host(shortened(text));
        let (name, address) = text.split_once([':', '=']).ok_or_else(bad)?;
        let address = address
            .strip_prefix('[')
            .and_then(|a| a.strip_suffix(']'))
            .unwrap_or(address);
        let entry = Self {
            name: name.parse().map_err(|_| bad())?,
            address: address.parse().map_err(|_| bad())?,
        };
        if entry.name.as_str() == "." {
            Err(bad())
        } else {
            Ok(entry)
        }
    }
}

impl TryFrom<String> for ResolverOption {
    type Error = BadResolver;
    fn try_from(text: String) -> Result<Self, BadResolver> {
        text.parse()
    }
}

impl TryFrom<String> for HostEntry {
    type Error = BadResolver;
    fn try_from(text: String) -> Result<Self, BadResolver> {
        text.parse()
    }
}

impl From<ResolverOption> for String {
    fn from(option: ResolverOption) -> Self {
        option.0
    }
}

impl From<HostEntry> for String {
    fn from(entry: HostEntry) -> Self {
        format!("{}:{}", entry.name.as_str(), entry.address)
    }
}

impl fmt::Display for ResolverOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

impl From<IpAddr> for NameServer {
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            zone: None,
        }
    }
}

impl TryFrom<String> for NameServer {
    type Error = BadResolver;
    fn try_from(text: String) -> Result<Self, BadResolver> {
        text.parse()
    }
}

impl TryFrom<String> for SearchDomain {
    type Error = BadResolver;
    fn try_from(text: String) -> Result<Self, BadResolver> {
        text.parse()
    }
}

impl From<NameServer> for String {
    fn from(server: NameServer) -> Self {
        server.to_string()
    }
}

impl From<SearchDomain> for String {
    fn from(domain: SearchDomain) -> Self {
        domain.0
    }
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            None => write!(f, "{}", self.address),
            Some(zone) => write!(f, "{}%{zone}", self.address),
        }
    }
}

impl fmt::Display for SearchDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_is_an_address_and_only_a_link_local_one_has_a_zone() {
        for good in [
            "10.0.0.1",
            "fd00::53",
            "::1",
            "fe80::1",
            "fe80::1%eth0",
            "fe80::1%2",
        ] {
            let server: NameServer = good.parse().unwrap();
            assert_eq!(server.to_string(), good);
            assert_eq!(String::from(server), good);
        }
        for bad in [
            "",
            "dns.example.com",
            "10.0.0.256",
            "10.0.0.1:53",
            "[fd00::53]",
            "fd00::53%eth0",
            "10.0.0.1%eth0",
            "fe80::1%",
            "fe80::1%eth0%eth1",
            "fe80::1%eth0\nsearch x",
            "fe80::1%a-name-of-17-bytes",
        ] {
            assert!(bad.parse::<NameServer>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_bad_domain_is_quoted_up_to_80_characters() {
        let error = "x".repeat(1000).parse::<SearchDomain>().unwrap_err();
        assert_eq!(error, BadResolver::Domain("x".repeat(80)));
    }

    #[test]
    fn a_search_domain_may_be_long_have_underscores_and_end_with_a_dot() {
        let kept = |text: &str| text.parse::<SearchDomain>().map(String::from);
        assert_eq!(kept("example.com."), Ok("example.com".into()));
        let domain: SearchDomain = "_tcp.example.com".parse().unwrap();
        assert_eq!(domain.as_str(), "_tcp.example.com");
        assert_eq!(domain.to_string(), "_tcp.example.com");
        assert_eq!(String::from(domain), "_tcp.example.com");
        assert_eq!(kept("a_b.lan"), Ok("a_b.lan".into()));
        assert_eq!(kept("."), Ok(".".into()));
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(longest.len(), 253);
        assert_eq!(kept(&longest), Ok(longest.clone()));
        assert_eq!(kept(&format!("{longest}.")), Ok(longest.clone()));
        for bad in [
            "",
            "..",
            "a..b",
            ".lan",
            "lan..",
            "-a.lan",
            "a-.lan",
            "a b",
            "lan\nnameserver 1.1.1.1",
            "bücher.de",
            "a/b",
            &"a".repeat(64),
            &format!("{longest}a"),
        ] {
            assert!(kept(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn options_and_host_entries_are_one_word_each() {
        for good in ["ndots:2", "rotate", "single-request"] {
            assert_eq!(good.parse::<ResolverOption>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "a b",
            "x\nnameserver 1.1.1.1",
            "NDOTS:2",
            &"a".repeat(64),
        ] {
            assert!(bad.parse::<ResolverOption>().is_err(), "{bad}");
        }
        let entry: HostEntry = "db.lan:10.0.0.7".parse().unwrap();
        assert_eq!(String::from(entry), "db.lan:10.0.0.7");
        let six: HostEntry = "db=[fd00::7]".parse().unwrap();
        assert_eq!(six.address, "fd00::7".parse::<IpAddr>().unwrap());
        assert_eq!(
            "db:fd00::7".parse::<HostEntry>().unwrap().address,
            six.address
        );
        for bad in [
            "db",
            "db:",
            ":10.0.0.7",
            "a b:10.0.0.7",
            "db:host-gateway",
            "x\ny:10.0.0.7",
            ".:10.0.0.7",
        ] {
            assert!(bad.parse::<HostEntry>().is_err(), "{bad}");
        }
    }
}
