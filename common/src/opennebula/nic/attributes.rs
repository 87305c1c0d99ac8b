//! The attributes of one NIC: CONTEXT's value, else the NIC's own.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use super::values::{kind_of, not_of_one_interface, prefix_of_ipv6, prefix_of_mask};
use crate::opennebula::context::Context;
use crate::opennebula::xml::{Node, XmlError};
use crate::types::nic::Bandwidth;

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

/// One NIC and its variables in CONTEXT, whose values go before the NIC's own.
pub(super) struct NicAttributes<'a> {
    pub(super) node: &'a Node<'a>,
    pub(super) context: Option<&'a Context>,
    /// Of the variables, such as `ETH0`.
    pub(super) prefix: String,
    /// That of an IPv4 address whose mask nobody names.
    pub(super) default_prefix: u8,
}

impl<'a> NicAttributes<'a> {
    pub(super) fn text(
        &self,
        key: &str,
        nic_key: &str,
    ) -> Result<Option<(String, &'a str)>, XmlError> {
        let name = format!("{}_{key}", self.prefix);
        if let Some(value) = self.context.and_then(|c| c.get(&name)) {
            return Ok(Some((format!("VM/TEMPLATE/CONTEXT/{name}"), value)));
        }
        let own = self.node.text(nic_key)?;
        Ok(own.map(|value| (format!("{}/{nic_key}", self.node.path()), value)))
    }

    pub(super) fn read<T, E: fmt::Display>(
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

    pub(super) fn list<T: FromStr<Err: fmt::Display>>(
        &self,
        key: &str,
        left_out: &mut Vec<String>,
    ) -> Result<Vec<T>, XmlError> {
        Ok(match self.text(key, key)? {
            None => Vec::new(),
            Some((path, text)) => list_of(&path, text, left_out),
        })
    }

    pub(super) fn addresses(&self, node: &Node<'_>) -> Result<Vec<IpNetwork>, XmlError> {
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
    /// `INBOUND_AVG_BW`, `INBOUND_PEAK_BW` and `INBOUND_PEAK_KB`, or those of OUTBOUND.
    pub(super) fn bandwidth(&self, direction: &str) -> Result<Option<Bandwidth>, XmlError> {
        let average = format!("{direction}_AVG_BW");
        let text = |key: &str| Ok(self.node.text(key)?.unwrap_or_default());
        let peak = text(&format!("{direction}_PEAK_BW"))?;
        let burst = text(&format!("{direction}_PEAK_KB"))?;
        Bandwidth::from_kilobytes(text(&average)?, peak, burst)
            .map_err(|e| self.node.wrong(&average, e))
    }
}
