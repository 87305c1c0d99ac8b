//! Routes and IPv6 of a NIC inside.

use std::fs;

use anyhow::{Result, ensure};
use onedock_common::types::nic::Autoconf;

use crate::{TestNetwork, Wrapped, nic, on_a_host};

impl TestNetwork {
    /// A setting of IPv6 of eth0 inside.
    fn ipv6(&self, key: &str) -> Result<String> {
        let path = format!("/proc/sys/net/ipv6/conf/eth0/{key}");
        let read = || fs::read_to_string(path).map_err(|e| Wrapped(e.into()));
        let text = self.container.within(read).map_err(|e| e.0)?;
        Ok(text.trim().to_owned())
    }
}

#[test]
fn routes_of_both_families_are_set_beside_the_default_ones() -> Result<()> {
    on_a_host(|network| {
        let mut first = nic(5, 0, "10.1.0.5/16");
        first.addresses.push("fd00::5/64".parse()?);
        first.gateway = Some("10.1.0.1".parse()?);
        first.routes = vec![
            "10.8.0.0/16 via 10.1.0.9".parse()?,
            "10.9.9.9 via 192.0.2.1".parse()?,
            "fd08::/32 via fd00::9".parse()?,
        ];
        network.plug(5, &[first])?;
        let routes = network.inside("route")? + &network.inside("-6 route")?;
        for route in [
            "default via 10.1.0.1 dev eth0",
            "10.8.0.0/16 via 10.1.0.9 dev eth0",
            // A gateway in none of the NIC's networks is taken as a neighbour.
            "10.9.9.9 via 192.0.2.1 dev eth0 proto static onlink",
            "fd08::/32 via fd00::9 dev eth0",
        ] {
            ensure!(routes.contains(route), "no {route:?} in {routes}");
        }
        Ok(())
    })
}

#[test]
fn ipv6_is_as_the_network_says() -> Result<()> {
    for (autoconf, accept_ra, disable_ipv6) in [
        (Autoconf::Kernel, "1", "0"),
        (Autoconf::Off, "0", "0"),
        (Autoconf::NoIpv6, "0", "1"),
    ] {
        on_a_host(move |network| {
            let mut first = nic(5, 0, "10.1.0.5/16");
            first.autoconf = autoconf;
            network.plug(5, &[first])?;
            for (key, value) in [("accept_ra", accept_ra), ("disable_ipv6", disable_ipv6)] {
                let there = network.ipv6(key)?;
                ensure!(there == value, "{autoconf:?}: {key} is {there}");
            }
            let addresses = network.inside("-6 addr show eth0")?;
            let has_ipv6 = addresses.contains("inet6");
            ensure!(has_ipv6 != (autoconf == Autoconf::NoIpv6), "{addresses}");
            Ok(())
        })?;
    }
    Ok(())
}
