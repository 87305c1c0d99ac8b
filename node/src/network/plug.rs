//! Plugging the NICs of a VM, and pulling them.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use nix::errno::Errno;
use onedock_common::opennebula::nic::IPV6_MTU;
use onedock_common::state::boot::Nic;
use onedock_common::wait;
use onedock_common::{ContainerId, IfName, NicId, VmId};
use thiserror::Error;

use crate::namespace::{NamespaceError, Network};
use crate::network::links::{self, Link, LinkError, Links, Pair};

/// How long the kernel is given to remove host ends with their namespace.
const VANISH: Duration = Duration::from_millis(50);

/// Why a NIC was not plugged or pulled.
#[derive(Debug, Error)]
pub enum PlugError {
    /// No such link.
    #[error(
        "bridge {bridge} of NIC {nic} does not exist on this host; check the virtual network's BRIDGE and VN_MAD"
    )]
    NoBridge {
        /// NIC/BRIDGE.
        bridge: IfName,
        nic: NicId,
    },
    /// Another kind of link.
    #[error("{bridge} of NIC {nic} is not a Linux bridge; check the virtual network's BRIDGE")]
    NotABridge {
        /// NIC/BRIDGE.
        bridge: IfName,
        nic: NicId,
    },
    /// Switched off.
    #[error("bridge {bridge} of NIC {nic} is down; switch it on (ip link set {bridge} up)")]
    BridgeDown {
        /// NIC/BRIDGE.
        bridge: IfName,
        nic: NicId,
    },
    /// The kernel's limit of ports.
    #[error("bridge {bridge} has no free port for NIC {nic} (a Linux bridge has 1023)")]
    BridgeFull {
        /// NIC/BRIDGE.
        bridge: IfName,
        nic: NicId,
    },
    /// Somebody else's device (fault 51).
    #[error(
        "a device named {host}, which is not this VM's, is in the way of NIC {nic}; remove or rename it"
    )]
    NameTaken {
        /// NIC/TARGET.
        host: IfName,
        nic: NicId,
    },
    /// Less than IPv6 needs: the kernel takes IPv6 off such a link, and answers the address with
    /// a number.
    #[error(
        "NIC {nic} on bridge {bridge} has an IPv6 address and an MTU of {mtu}, and IPv6 needs at least {IPV6_MTU}; raise the MTU of the network or of the bridge, or take the IPv6 address away"
    )]
    SmallMtu {
        nic: NicId,
        /// NIC/BRIDGE.
        bridge: IfName,
        /// NIC/MTU, else the bridge's.
        mtu: u32,
    },
    /// Two NICs of one VM, of which the second would replace the first.
    #[error("two NICs of the VM, {first} and {second}, have the same {what}")]
    Twice {
        /// The one before.
        first: NicId,
        /// The other.
        second: NicId,
        /// What they share, and its value.
        what: String,
    },
    /// A step that the kernel refused.
    #[error("NIC {nic} on bridge {bridge}: {step} failed: {source}")]
    Step {
        nic: NicId,
        /// NIC/BRIDGE.
        bridge: IfName,
        /// What was tried.
        step: String,
        /// The answer.
        source: LinkError,
    },
    /// Netlink itself.
    #[error("the links of this host cannot be read: {0}")]
    Links(#[from] LinkError),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A setting of the namespace.
    #[error("{path} in the container's network namespace cannot be set: {source}")]
    Setting {
        /// The file under `/proc/sys`.
        path: &'static str,
        /// What the system answered.
        source: io::Error,
    },
}

/// The alias that says whose a host end is.
pub fn alias(vm: VmId, container: &ContainerId) -> String {
    format!("onedock:{vm}:{}", container.short())
}

fn is_of(link: &Link, vm: VmId) -> bool {
    let ours = format!("onedock:{vm}:");
    link.alias
        .as_ref()
        .is_some_and(|alias| alias.starts_with(&ours))
}

/// Whether the NICs can be plugged, as far as can be known before there is a container: an engine
/// takes a refused `create` better than a refused `start`.
pub fn check(vm: VmId, nics: &[Nic]) -> Result<(), PlugError> {
    if nics.is_empty() {
        return Ok(());
    }
    each_once(nics)?;
    links::with(async |links| {
        for nic in nics {
            let bridge = bridge_of(&links, nic).await?;
            has_room_for_ipv6(nic, &bridge)?;
            match links.find(nic.host.as_str()).await? {
                Some(link) if !is_of(&link, vm) => {
                    return Err(PlugError::NameTaken {
                        host: nic.host.clone(),
                        nic: nic.id,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    })
}

/// Plugs all NICs into the network namespace of the VM's container; all or none.
pub fn plug(
    vm: VmId,
    container: &ContainerId,
    nics: &[Nic],
    network: &Network,
) -> Result<(), PlugError> {
    each_once(nics)?;
    network.within(settings)?;
    let plugged = links::with(async |links| {
        for nic in nics {
            add(&links, vm, container, nic, network).await?;
        }
        Ok(())
    })
    .and_then(|()| network.within(|| links::with(async |links| inside(&links, nics).await)));
    if plugged.is_err() {
        // The first error is the one to tell.
        let _ = pull(vm, nics.iter().map(|nic| &nic.host));
    }
    plugged
}

/// Removes the host ends that are this VM's; those of others stay.
pub fn pull<'a>(vm: VmId, hosts: impl IntoIterator<Item = &'a IfName>) -> Result<(), PlugError> {
    links::with(async |links| {
        let mut first = Ok(());
        for host in hosts {
            let removed = async {
                match links.find(host.as_str()).await? {
                    Some(link) if is_of(&link, vm) => links.remove(link.index).await,
                    _ => Ok(()),
                }
            };
            first = first.and(removed.await);
        }
        first.map_err(Into::into)
    })
}

/// Waits until the host ends have gone with their namespace, and removes those that have not:
/// OpenNebula's `clean` counts what is left on a bridge.
pub fn pull_after_death(vm: VmId, hosts: &[IfName]) -> Result<(), PlugError> {
    let vanished: Result<bool, PlugError> = links::with(async |links| {
        let gone = wait::until_async(VANISH, async || -> Result<_, PlugError> {
            for host in hosts {
                let link = links.find(host.as_str()).await?;
                if link.is_some_and(|link| is_of(&link, vm)) {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        });
        Ok(gone.await?.is_some())
    });
    if vanished? { Ok(()) } else { pull(vm, hosts) }
}

/// IPv6 on (engines turn it off in a container without a network), and neighbours are told of
/// a new address at once.
fn settings() -> Result<(), PlugError> {
    for (path, value, needed) in [
        ("/proc/sys/net/ipv6/conf/all/disable_ipv6", "0", true),
        ("/proc/sys/net/ipv6/conf/default/disable_ipv6", "0", true),
        ("/proc/sys/net/ipv4/conf/default/arp_notify", "1", false),
        ("/proc/sys/net/ipv6/conf/default/ndisc_notify", "1", false),
    ] {
        match fs::write(path, value) {
            Err(e) if needed && e.kind() != io::ErrorKind::NotFound => {
                return Err(PlugError::Setting { path, source: e });
            }
            _ => {}
        }
    }
    Ok(())
}

async fn bridge_of(links: &Links, nic: &Nic) -> Result<Link, PlugError> {
    let (bridge, nic) = (nic.bridge.clone(), nic.id);
    match links.find(bridge.as_str()).await? {
        None => Err(PlugError::NoBridge { bridge, nic }),
        Some(link) if !link.is_bridge => Err(PlugError::NotABridge { bridge, nic }),
        Some(link) if !link.is_up => Err(PlugError::BridgeDown { bridge, nic }),
        Some(link) => Ok(link),
    }
}

/// Whether no two NICs share what only one can have.
fn each_once(nics: &[Nic]) -> Result<(), PlugError> {
    for (n, second) in nics.iter().enumerate() {
        for first in nics.iter().take(n) {
            let what = if first.id == second.id {
                format!("name inside ({})", inside_name(second))
            } else if first.host == second.host {
                format!("TARGET ({})", second.host)
            } else if first.mac == second.mac && first.bridge == second.bridge {
                format!("MAC ({}) on the bridge {}", second.mac, second.bridge)
            } else {
                continue;
            };
            return Err(PlugError::Twice {
                first: first.id,
                second: second.id,
                what,
            });
        }
    }
    Ok(())
}

fn has_room_for_ipv6(nic: &Nic, bridge: &Link) -> Result<(), PlugError> {
    let mtu = nic.mtu.unwrap_or(bridge.mtu);
    if mtu < IPV6_MTU && nic.addresses.iter().any(|a| a.is_ipv6()) {
        return Err(PlugError::SmallMtu {
            nic: nic.id,
            bridge: nic.bridge.clone(),
            mtu,
        });
    }
    Ok(())
}

async fn add(
    links: &Links,
    vm: VmId,
    container: &ContainerId,
    nic: &Nic,
    network: &Network,
) -> Result<(), PlugError> {
    let bridge = || nic.bridge.clone();
    let link = bridge_of(links, nic).await?;
    has_room_for_ipv6(nic, &link)?;
    let pair = Pair {
        host: &nic.host,
        bridge: link.index,
        inside: inside_name(nic),
        mac: nic.mac,
        mtu: nic.mtu.unwrap_or(link.mtu),
        network: network.fd(),
    };
    let mut added = links.add_pair(&pair).await;
    if added.as_ref().is_err_and(|e| e.is(Errno::EEXIST)) {
        match links.find(nic.host.as_str()).await? {
            Some(stale) if !is_of(&stale, vm) => {
                return Err(PlugError::NameTaken {
                    host: nic.host.clone(),
                    nic: nic.id,
                });
            }
            Some(stale) => links.remove(stale.index).await?,
            None => {}
        }
        added = links.add_pair(&pair).await;
    }
    match added {
        Err(e) if e.is(Errno::EXFULL) => {
            return Err(PlugError::BridgeFull {
                bridge: bridge(),
                nic: nic.id,
            });
        }
        other => other.map_err(step(nic, format!("making the pair {}", nic.host)))?,
    }
    let named = links
        .set_alias(nic.host.as_str(), &alias(vm, container))
        .await;
    if named.is_err() {
        // Without its alias nobody would know it as ours again.
        if let Ok(Some(link)) = links.find(nic.host.as_str()).await {
            let _ = links.remove(link.index).await;
        }
    }
    named.map_err(step(nic, format!("naming the owner of {}", nic.host)))?;
    without_ipv6(&nic.host);
    Ok(())
}

/// A host end is a port of its bridge, and has no use for addresses of its own: without them the host
/// listens to nobody there, and sends the VM nothing of its own.
fn without_ipv6(host: &IfName) {
    // A kernel without IPv6 has no such setting.
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{host}/disable_ipv6"), "1");
}

async fn inside(links: &Links, nics: &[Nic]) -> Result<(), PlugError> {
    if let Some(lo) = links.find("lo").await?
        && !lo.is_up
    {
        links.up(lo.index).await?;
    }
    for nic in nics {
        let name = inside_name(nic);
        let link = links
            .find(&name)
            .await?
            .ok_or(LinkError::Kernel(Errno::ENODEV))
            .map_err(step(nic, format!("finding {name} inside")))?;
        for address in &nic.addresses {
            let added = links.add_address(link.index, *address).await;
            added.map_err(step(nic, format!("address {address}")))?;
        }
        links
            .up(link.index)
            .await
            .map_err(step(nic, format!("switching {name} on")))?;
        let routes = [
            (nic.gateway.map(IpAddr::V4), nic.metric),
            (nic.gateway6.map(IpAddr::V6), nic.metric6),
        ];
        for (gateway, metric) in routes {
            let Some(gateway) = gateway else { continue };
            let added = links
                .add_default_route(link.index, gateway, metric, needs_on_link(nic, gateway))
                .await;
            added.map_err(step(nic, format!("default route by {gateway}")))?;
        }
    }
    Ok(())
}

fn inside_name(nic: &Nic) -> String {
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

fn step(nic: &Nic, step: String) -> impl FnOnce(LinkError) -> PlugError {
    let (nic, bridge) = (nic.id, nic.bridge.clone());
    move |source| PlugError::Step {
        nic,
        bridge,
        step,
        source,
    }
}
