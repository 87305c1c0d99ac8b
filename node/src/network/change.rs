//! Changing the NICs of a VM that runs: `attach_nic`, `detach_nic`, aliases, and what `updateconf` or an
//! update of the virtual network changes.
//!
//! One request names all NICs that the VM is to have, so that it can be repeated and taken back by
//! naming those of before.

use std::io;

use onedock_common::state::boot::Nic;
use onedock_common::{ContainerId, VmId};
use thiserror::Error;

use crate::namespace::NamespaceError;
use crate::network::chain::{self, ChainError};
use crate::network::error::PlugError;
use crate::network::{inside, links, plug};
use crate::record::Records;

/// Why the NICs are not as they were asked for.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// Nothing was recorded of it, or it is another VM's.
    #[error("the container of VM {0} does not run; its NICs were left as they are")]
    NotRunning(VmId),
    /// What is recorded of the container.
    #[error("the record of the container cannot be read or written: {0}")]
    Record(#[source] io::Error),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Plug(#[from] PlugError),
}

/// Gives the running container of a VM these NICs in place of those that it has.
///
/// What is made is recorded before, so that the end of the VM finds it whatever becomes of this call.
pub fn change(vm: VmId, id: &ContainerId, nics: &[Nic]) -> Result<(), ChangeError> {
    let records = Records::system();
    let record = records.read(id).map_err(ChangeError::Record)?;
    let found = record
        .and_then(|record| record.vm)
        .filter(|found| found.id == vm);
    let Some((process, before)) = found.and_then(|found| Some((found.process?, found.nics))) else {
        return Err(ChangeError::NotRunning(vm));
    };
    let network = process.network()?;
    plug::each_once(nics)?;
    let record = |nics: Vec<Nic>| {
        let recorded = records.change(id, |found| found.nics = nics);
        recorded.map_err(ChangeError::Record)
    };
    record(union(&before, nics))?;

    let gone: Vec<&Nic> = before
        .iter()
        .filter(|nic| !nics.iter().any(|other| other.is_same_link(nic)))
        .collect();
    plug::pull_nics(vm, gone)?;
    let there = network.within(|| {
        links::with(async |links| {
            let mut there = Vec::new();
            for nic in nics {
                there.push(inside::is_there(&links, nic).await?);
            }
            Ok::<_, PlugError>(there)
        })
    })?;
    let further: Vec<&Nic> = nics
        .iter()
        .zip(&there)
        .filter_map(|(nic, there)| (!there).then_some(nic))
        .collect();
    if !further.is_empty() {
        chain::ensure()?;
        plug::plug_further(vm, id, &further, &network)?;
    }
    let altered: Vec<(&Nic, &Nic)> = nics
        .iter()
        .zip(&there)
        .filter(|(_, there)| **there)
        .filter_map(|(nic, _)| {
            let was = before.iter().find(|was| was.is_same_link(nic))?;
            (was != nic).then_some((was, nic))
        })
        .collect();
    for (_, nic) in &altered {
        plug::set_guard(nic)?;
    }
    links::with(async |links| {
        for (was, nic) in &altered {
            plug::bound_inbound(&links, Some(was), nic).await?;
        }
        Ok::<_, PlugError>(())
    })?;
    network.within(|| {
        links::with(async |links| {
            for (was, nic) in &altered {
                inside::alter(&links, was, nic).await?;
            }
            Ok::<_, PlugError>(())
        })
    })?;
    record(nics.to_vec())
}

/// All NICs that may be there while they are changed: of a link that stays, with the addresses,
/// routes and bounds of both.
fn union(before: &[Nic], after: &[Nic]) -> Vec<Nic> {
    let mut all: Vec<Nic> = Vec::new();
    for nic in after {
        let mut nic = nic.clone();
        if let Some(was) = before.iter().find(|was| was.is_same_link(&nic)) {
            for address in &was.addresses {
                if !nic.addresses.contains(address) {
                    nic.addresses.push(*address);
                }
            }
            for route in &was.routes {
                if !nic.routes.contains(route) {
                    nic.routes.push(*route);
                }
            }
            nic.inbound = nic.inbound.or(was.inbound);
            nic.outbound = nic.outbound.or(was.outbound);
        }
        all.push(nic);
    }
    let gone = before
        .iter()
        .filter(|nic| !after.iter().any(|other| other.is_same_link(nic)));
    all.extend(gone.cloned());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic(id: u32, addresses: &[&str]) -> Nic {
        serde_json::from_value(serde_json::json!({
            "id": id,
            "host": format!("one-5-{id}"),
            "bridge": "br0",
            "mac": format!("02:00:0a:01:00:{id:02x}"),
            "mtu": null,
            "addresses": addresses,
            "gateway": null,
            "gateway6": null,
            "metric": null,
        }))
        .unwrap()
    }

    #[test]
    fn while_nics_change_everything_of_before_and_after_is_recorded() {
        let mut before = vec![nic(0, &["10.1.0.5/16"]), nic(1, &["10.1.0.6/16"])];
        before[0].routes = vec!["10.8.0.0/16 via 10.1.0.1".parse().unwrap()];
        before[0].inbound = Some(onedock_common::types::nic::Bandwidth {
            average: 1,
            peak: None,
            burst: None,
        });
        let after = [nic(0, &["10.1.0.7/16"]), nic(2, &[])];
        let all = union(&before, &after);
        let ids: Vec<u32> = all.iter().map(|nic| nic.id.get()).collect();
        assert_eq!(ids, [0, 2, 1]);
        let addresses: Vec<String> = all[0].addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.1.0.7/16", "10.1.0.5/16"]);
        assert_eq!(all[0].routes, before[0].routes);
        assert_eq!(all[0].inbound, before[0].inbound);
        assert_eq!(union(&before, &before), before);
    }

    #[test]
    fn another_link_of_the_same_number_goes_before_its_follower_comes() {
        let before = [nic(0, &[])];
        for change in [
            |nic: &mut Nic| nic.mac = "02:00:0a:01:00:99".parse().unwrap(),
            |nic: &mut Nic| nic.bridge = "br1".parse().unwrap(),
            |nic: &mut Nic| nic.host = "web".parse().unwrap(),
            |nic: &mut Nic| nic.mtu = Some(1400),
            |nic: &mut Nic| nic.bridge_kind = onedock_common::types::nic::BridgeKind::OpenVSwitch,
        ] {
            let mut other = before[0].clone();
            change(&mut other);
            assert!(!before[0].is_same_link(&other));
            assert_eq!(union(&before, &[other]).len(), 2);
        }
    }
}
