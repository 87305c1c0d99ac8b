//! Changing the NICs of a VM that runs: `attach_nic`, `detach_nic`, aliases, and what `updateconf` or an
//! update of the virtual network changes.
//!
//! One request names all NICs that the VM is to have, so that it can be repeated and taken back by
//! naming those of before.

use std::io;
use std::time::Duration;

use onedock_common::state::boot::Nic;
use onedock_common::{ContainerId, VmId};
use thiserror::Error;

use crate::namespace::{NamespaceError, Network};
use crate::network::chain::{self, ChainError};
use crate::network::error::PlugError;
use crate::network::{inside, links, plug};
use crate::record::{Records, Vm};

/// How long a call waits for another one.
const WAIT: Duration = Duration::from_secs(60);

/// Why the NICs are not as they were asked for.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// Nothing was recorded of it, or it is another VM's.
    #[error("the container of VM {0} does not run; its NICs were left as they are")]
    NotRunning(VmId),
    /// Another call has them.
    #[error("another call changes the NICs of VM {0}, and did not end within a minute; try again")]
    Locked(VmId),
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
/// What is made is recorded before, so that the end of the VM finds it whatever becomes of this call,
/// and a later call finds what this one has left half done.
pub fn change(vm: VmId, id: &ContainerId, nics: &[Nic]) -> Result<(), ChangeError> {
    let records = Records::system();
    let recorded = || -> Result<Vm, ChangeError> {
        let record = records.read(id).map_err(ChangeError::Record)?;
        let found = record.and_then(|record| record.vm);
        found
            .filter(|found| found.id == vm)
            .ok_or(ChangeError::NotRunning(vm))
    };
    let process = recorded()?.process.ok_or(ChangeError::NotRunning(vm))?;
    let network = process.network()?;
    let _lock = network.lock(WAIT)?.ok_or(ChangeError::Locked(vm))?;
    plug::each_once(nics)?;
    let found = recorded()?;
    let is_settled = found.former_nics.is_empty();
    let before = [found.nics, found.former_nics].concat();
    let record = |nics: &[Nic], former: &[Nic]| {
        let recorded = records.change(id, |found| {
            found.nics = nics.to_vec();
            found.former_nics = former.to_vec();
        });
        recorded.map_err(ChangeError::Record)
    };
    record(nics, &before)?;
    carry_out(vm, id, &network, &before, is_settled, nics)?;
    record(nics, &[])
}

/// From the NICs that may be there to those that are to be. `is_settled`: those of before are there
/// whole.
fn carry_out(
    vm: VmId,
    id: &ContainerId,
    network: &Network,
    before: &[Nic],
    is_settled: bool,
    nics: &[Nic],
) -> Result<(), ChangeError> {
    let gone: Vec<&Nic> = before
        .iter()
        .filter(|nic| !nics.iter().any(|other| other.is_same_link(nic)))
        .collect();
    plug::pull_nics(vm, gone.iter().copied())?;
    let there = network.within(|| {
        links::with(async |links| {
            let mut there = Vec::new();
            for nic in nics {
                there.push(inside::is_there(&links, nic).await?);
            }
            Ok::<_, PlugError>(there)
        })
    })?;
    let (stay, further): (Vec<_>, Vec<_>) = nics.iter().zip(there).partition(|(_, there)| *there);
    let further: Vec<&Nic> = further.into_iter().map(|(nic, _)| nic).collect();
    if !further.is_empty() {
        chain::ensure()?;
        plug::plug_further(vm, id, &further, network)?;
    }
    let altered: Vec<(Vec<&Nic>, &Nic)> = stay
        .into_iter()
        .map(|(nic, _)| (versions(before, nic), nic))
        .filter(|(versions, nic)| !is_settled || versions.iter().any(|was| was != nic))
        .collect();
    for (_, nic) in &altered {
        plug::set_guard(vm, nic)?;
    }
    links::with(async |links| {
        for (versions, nic) in &altered {
            let had_one = versions.iter().any(|was| was.inbound.is_some());
            plug::bound_inbound(&links, had_one, nic).await?;
        }
        Ok::<_, PlugError>(())
    })?;
    let all: Vec<&Nic> = nics.iter().collect();
    network.within(|| {
        links::with(async |links| {
            for (versions, nic) in &altered {
                inside::clear(&links, versions, nic).await?;
            }
            // All: a default route that is gone may have stood before another NIC's, and the kernel
            // removes further addresses and routes with the first address of a network.
            inside::set_up(&links, &all).await?;
            for (_, nic) in &altered {
                inside::announce(&links, nic).await?;
            }
            Ok::<_, PlugError>(())
        })
    })?;
    Ok(())
}

/// The descriptions by which a link may have been set up.
fn versions<'a>(before: &'a [Nic], nic: &Nic) -> Vec<&'a Nic> {
    before.iter().filter(|was| was.is_same_link(nic)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use onedock_common::types::nic::BridgeKind;

    fn nic(id: u32) -> Nic {
        serde_json::from_value(serde_json::json!({
            "id": id,
            "host": format!("one-5-{id}"),
            "bridge": "br0",
            "mac": format!("02:00:0a:01:00:{id:02x}"),
            "mtu": null,
            "addresses": [],
            "gateway": null,
            "gateway6": null,
            "metric": null,
        }))
        .unwrap()
    }

    #[test]
    fn a_link_of_another_bridge_mac_name_or_mtu_is_another_link() {
        let before = [nic(0)];
        assert_eq!(versions(&before, &nic(0)), [&before[0]]);
        for change in [
            |nic: &mut Nic| nic.mac = "02:00:0a:01:00:99".parse().unwrap(),
            |nic: &mut Nic| nic.bridge = "br1".parse().unwrap(),
            |nic: &mut Nic| nic.host = "web".parse().unwrap(),
            |nic: &mut Nic| nic.mtu = Some(1400),
            |nic: &mut Nic| nic.bridge_kind = BridgeKind::OpenVSwitch,
        ] {
            let mut other = nic(0);
            change(&mut other);
            assert!(versions(&before, &other).is_empty());
        }
    }

    #[test]
    fn a_link_whose_change_was_cut_off_has_two_descriptions() {
        let mut changed = nic(0);
        changed.addresses = vec!["10.1.0.7/16".parse().unwrap()];
        let before = [changed.clone(), nic(1), nic(0)];
        assert_eq!(versions(&before, &nic(0)), [&changed, &nic(0)]);
    }
}
