//! What a NIC has in the VM's network namespace: addresses, routes, and the bound of what it sends.

use std::fs;
use std::io;
use std::net::IpAddr;

use nix::errno::Errno;
use onedock_common::state::boot::Nic;
use onedock_common::types::nic::Autoconf;

use crate::network::error::{PlugError, step};
use crate::network::links::{Link, LinkError, LinkRoute, Links};

/// IPv6 on (engines turn it off in a container without a network), and neighbours are told of
/// a new address at once.
pub(super) fn settings() -> Result<(), PlugError> {
    for (path, value, needed) in [
        ("all/disable_ipv6", "0", true),
        ("default/disable_ipv6", "0", true),
        ("default/ndisc_notify", "1", false),
    ] {
        set(format!("/proc/sys/net/ipv6/conf/{path}"), value, needed)?;
    }
    set(
        "/proc/sys/net/ipv4/conf/default/arp_notify".into(),
        "1",
        false,
    )
}

/// Writes a setting of the namespace that the thread is in. A kernel without IPv6 has none of it.
fn set(path: String, value: &str, needed: bool) -> Result<(), PlugError> {
    match fs::write(&path, value) {
        Err(e) if needed && e.kind() != io::ErrorKind::NotFound => {
            Err(PlugError::Setting { path, source: e })
        }
        _ => Ok(()),
    }
}

/// Gives NICs their addresses, routes and bounds; those that they have stay.
pub(super) async fn set_up(links: &Links, nics: &[&Nic]) -> Result<(), PlugError> {
    if let Some(lo) = links.find("lo").await?
        && !lo.is_up
    {
        links.up(lo.index).await?;
    }
    for nic in nics {
        ensure(links, nic, link_of(links, nic).await?.index).await?;
    }
    Ok(())
}

/// Removes from a NIC that is in use what earlier descriptions have given it and this one does not. All
/// routes go: [`set_up`] follows, and makes those that are to be there.
pub(super) async fn clear(links: &Links, before: &[&Nic], after: &Nic) -> Result<(), PlugError> {
    let index = link_of(links, after).await?.index;
    for nic in before.iter().copied().chain([after]) {
        for route in routes(nic) {
            let removed = links.remove_route(index, &route).await;
            removed.map_err(step(nic, format!("removing the {}", shown(&route))))?;
        }
        for address in &nic.addresses {
            if !after.addresses.contains(address) {
                let removed = links.remove_address(index, *address).await;
                removed.map_err(step(nic, format!("removing the address {address}")))?;
            }
        }
    }
    if after.outbound.is_none() && before.iter().any(|nic| nic.outbound.is_some()) {
        let removed = links.unbound(index).await;
        removed.map_err(step(after, "removing the bound of OUTBOUND_AVG_BW"))?;
    }
    Ok(())
}

/// Tells the neighbours of a NIC's addresses.
pub(super) async fn announce(links: &Links, nic: &Nic) -> Result<(), PlugError> {
    let index = link_of(links, nic).await?.index;
    let announced = links.announce(index, nic.mac).await;
    announced.map_err(step(nic, "announcing its addresses"))
}

/// The end inside.
async fn link_of(links: &Links, nic: &Nic) -> Result<Link, PlugError> {
    let name = name(nic);
    links
        .find(&name)
        .await?
        .ok_or(LinkError::Kernel(Errno::ENODEV))
        .map_err(step(nic, format!("finding {name} inside")))
}

/// Whether the end inside is there.
pub(super) async fn is_there(links: &Links, nic: &Nic) -> Result<bool, PlugError> {
    Ok(links.find(&name(nic)).await?.is_some())
}

async fn ensure(links: &Links, nic: &Nic, index: u32) -> Result<(), PlugError> {
    let name = name(nic);
    autoconf(&name, nic)?;
    for address in &nic.addresses {
        let added = links.add_address(index, *address).await;
        added.map_err(step(nic, format!("address {address}")))?;
    }
    if let Some(bandwidth) = nic.outbound {
        let bound = links.bound(index, bandwidth).await;
        bound.map_err(step(nic, "the bound of OUTBOUND_AVG_BW"))?;
    }
    links
        .up(index)
        .await
        .map_err(step(nic, format!("switching {name} on")))?;
    for route in routes(nic) {
        let added = links.add_route(index, &route).await;
        added.map_err(step(nic, shown(&route)))?;
    }
    Ok(())
}

fn autoconf(name: &str, nic: &Nic) -> Result<(), PlugError> {
    let values = match nic.autoconf {
        Autoconf::Kernel => ["0", "1", "1"],
        Autoconf::Off => ["0", "0", "0"],
        Autoconf::NoIpv6 => ["1", "0", "0"],
    };
    for (key, value) in ["disable_ipv6", "accept_ra", "autoconf"].iter().zip(values) {
        set(format!("/proc/sys/net/ipv6/conf/{name}/{key}"), value, true)?;
    }
    Ok(())
}

fn shown(route: &LinkRoute) -> String {
    match route.destination {
        None => format!("default route by {}", route.gateway),
        Some(destination) => format!("route to {destination} by {}", route.gateway),
    }
}

/// The default routes, then the others.
fn routes(nic: &Nic) -> Vec<LinkRoute> {
    let route = |destination, gateway, metric| LinkRoute {
        destination,
        gateway,
        metric,
        on_link: needs_on_link(nic, gateway),
    };
    let gateways = [
        (nic.gateway.map(IpAddr::V4), nic.metric),
        (nic.gateway6.map(IpAddr::V6), nic.metric6),
    ];
    let defaults = gateways
        .into_iter()
        .filter_map(|(gateway, metric)| Some(route(None, gateway?, metric)));
    let others = nic
        .routes
        .iter()
        .map(|other| route(Some(other.destination), other.gateway, None));
    defaults.chain(others).collect()
}

pub(super) fn name(nic: &Nic) -> String {
    format!("eth{}", nic.id)
}

/// Whether the gateway lies in none of the NIC's own networks and must be taken as a direct
/// neighbour, as OpenNebula's guest package does with a route to it.
fn needs_on_link(nic: &Nic, gateway: IpAddr) -> bool {
    let local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
    !local
        && !nic
            .addresses
            .iter()
            .any(|network| network.contains(gateway))
}
