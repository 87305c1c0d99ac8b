//! Plugging the NICs of a VM, and pulling them.

use std::fs;
use std::time::Duration;

use nix::errno::Errno;
use onedock_common::opennebula::nic::IPV6_MTU;
use onedock_common::state::boot::Nic;
use onedock_common::types::nic::BridgeKind;
use onedock_common::wait;
use onedock_common::{ContainerId, IfName, VmId};

use crate::namespace::Network;
use crate::network::error::{PlugError, step, switch};
use crate::network::links::{self, Link, Links, Pair};
use crate::network::open_vswitch::SwitchError;
use crate::network::{guard, inside, open_vswitch};

/// How long the kernel is given to remove host ends with their namespace.
const VANISH: Duration = Duration::from_millis(50);

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
            let bridge = bridge_of(&links, vm, nic).await?;
            has_room_for_ipv6(nic, bridge.mtu)?;
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

/// Plugs NICs into the network namespace of the VM's container; all or none.
pub fn plug(
    vm: VmId,
    container: &ContainerId,
    nics: &[Nic],
    network: &Network,
) -> Result<(), PlugError> {
    each_once(nics)?;
    network.within(inside::settings)?;
    let nics: Vec<&Nic> = nics.iter().collect();
    plug_further(vm, container, &nics, network)
}

/// The same in a namespace that has been set up; all or none of these.
pub(super) fn plug_further(
    vm: VmId,
    container: &ContainerId,
    nics: &[&Nic],
    network: &Network,
) -> Result<(), PlugError> {
    let plugged = links::with(async |links| {
        for nic in nics {
            add(&links, vm, container, nic, network).await?;
        }
        Ok(())
    })
    .and_then(|()| {
        network.within(|| links::with(async |links| inside::set_up(&links, nics).await))
    });
    if plugged.is_err() {
        // The first error is the one to tell.
        let _ = pull_nics(vm, nics.iter().copied());
    }
    plugged
}

/// Removes NICs with their guards and their ports of Open vSwitch bridges, which else outlive a NIC until
/// OpenNebula's `clean`.
pub(crate) fn pull_nics<'a>(
    vm: VmId,
    nics: impl IntoIterator<Item = &'a Nic> + Clone,
) -> Result<(), PlugError> {
    let pulled = pull(vm, nics.clone().into_iter().map(|nic| &nic.host));
    guard::remove(vm, nics.clone());
    for nic in nics {
        if nic.bridge_kind == BridgeKind::OpenVSwitch {
            match open_vswitch::remove_port(vm, &nic.host) {
                // That is what kept this NIC from being plugged.
                Ok(()) | Err(SwitchError::NameTaken(_) | SwitchError::Name(_)) => {}
                Err(error) => return Err(switch(nic)(error)),
            }
        }
    }
    pulled
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
pub fn pull_after_death(vm: VmId, nics: &[Nic]) -> Result<(), PlugError> {
    guard::remove(vm, nics);
    let hosts: Vec<&IfName> = nics.iter().map(|nic| &nic.host).collect();
    let vanished: Result<bool, PlugError> = links::with(async |links| {
        let gone = wait::until_async(VANISH, async || -> Result<_, PlugError> {
            for host in &hosts {
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

/// The bridge of a NIC, which takes host ends in.
struct Bridge {
    /// Its number, where the kernel makes a link its port.
    index: Option<u32>,
    /// In bytes.
    mtu: u32,
}

/// What the kernel gives a link that is told nothing.
const MTU: u32 = 1500;

async fn bridge_of(links: &Links, vm: VmId, nic: &Nic) -> Result<Bridge, PlugError> {
    let found = links.find(nic.bridge.as_str()).await?;
    let (bridge, id) = (nic.bridge.clone(), nic.id);
    if nic.bridge_kind == BridgeKind::OpenVSwitch {
        open_vswitch::check(vm, &bridge, &nic.host).map_err(switch(nic))?;
        return Ok(Bridge {
            index: None,
            mtu: found.map_or(MTU, |link| link.mtu),
        });
    }
    match found {
        None => Err(PlugError::NoBridge { bridge, nic: id }),
        Some(link) if !link.is_bridge => Err(PlugError::NotABridge { bridge, nic: id }),
        Some(link) if !link.is_up => Err(PlugError::BridgeDown { bridge, nic: id }),
        Some(link) => Ok(Bridge {
            index: Some(link.index),
            mtu: link.mtu,
        }),
    }
}

/// Whether no two NICs share what only one can have.
pub(super) fn each_once(nics: &[Nic]) -> Result<(), PlugError> {
    for (n, second) in nics.iter().enumerate() {
        for first in nics.iter().take(n) {
            let what = if first.id == second.id {
                format!("name inside ({})", inside::name(second))
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

fn has_room_for_ipv6(nic: &Nic, bridge_mtu: u32) -> Result<(), PlugError> {
    let mtu = nic.mtu.unwrap_or(bridge_mtu);
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
    let found = bridge_of(links, vm, nic).await?;
    has_room_for_ipv6(nic, found.mtu)?;
    let pair = Pair {
        host: &nic.host,
        bridge: found.index,
        inside: inside::name(nic),
        mac: nic.mac,
        mtu: nic.mtu.unwrap_or(found.mtu),
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
    set_guard(vm, nic)?;
    if nic.bridge_kind == BridgeKind::OpenVSwitch {
        open_vswitch::add_port(vm, &nic.bridge, &nic.host, nic.vlan).map_err(switch(nic))?;
    }
    bound_inbound(links, false, nic).await
}

/// Guards the host end where its bridge is guarded.
pub(super) fn set_guard(vm: VmId, nic: &Nic) -> Result<(), PlugError> {
    let id = nic.id;
    guard::set(vm, nic).map_err(|source| PlugError::Guard { nic: id, source })
}

/// Bounds what the VM receives, which is what leaves the host end.
pub(super) async fn bound_inbound(
    links: &Links,
    had_one: bool,
    nic: &Nic,
) -> Result<(), PlugError> {
    if nic.inbound.is_none() && !had_one {
        return Ok(());
    }
    let Some(link) = links.find(nic.host.as_str()).await? else {
        return Ok(());
    };
    let done = match nic.inbound {
        Some(bandwidth) => links.bound(link.index, bandwidth).await,
        None => links.unbound(link.index).await,
    };
    done.map_err(step(nic, "the bound of INBOUND_AVG_BW"))
}

/// A host end is a port of its bridge, and has no use for addresses of its own: without them the host
/// listens to nobody there, and sends the VM nothing of its own.
fn without_ipv6(host: &IfName) {
    // A kernel without IPv6 has no such setting.
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{host}/disable_ipv6"), "1");
}
