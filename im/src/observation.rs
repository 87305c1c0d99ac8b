//! What the engine and the VMs' locks say at one moment.

use std::collections::{BTreeMap, BTreeSet};

use onedock_common::state::journal::freezing;
use onedock_common::state::lock::VmLock;
use onedock_common::state::paths::Paths;
use onedock_common::{ContainerId, VmId};

use crate::engine::{Engine, EngineError, Listed, State};

/// The VMs of this host at one moment.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// The VMs that have a container.
    pub vms: BTreeMap<VmId, State>,
    /// The VMs on which an action runs.
    pub busy: BTreeSet<VmId>,
    /// Whether a VM that is not in `vms` has no container.
    pub complete: bool,
    /// The container of each VM, also of those on which an action runs.
    pub containers: BTreeMap<VmId, ContainerId>,
}

/// Which locks are read besides those of the VMs that have a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locks {
    /// Those of the known VMs.
    Known,
    /// All that there are.
    All,
}

impl Observation {
    /// Asks for all containers, then for the locks: an action that began in between is seen by its
    /// lock, and one that ended in between had its effect before the engine answered or is seen
    /// held.
    pub fn make(
        engine: &Engine,
        paths: &Paths,
        known: impl Iterator<Item = VmId>,
        locks: Locks,
    ) -> Result<Self, EngineError> {
        let mut observed = Self::default();
        // Before the list, too: an action that ends while the engine answers may have changed what
        // the list says of its VM.
        let mut candidates: Vec<VmId> = known.collect();
        if locks == Locks::All {
            candidates.extend(paths.locked_vms());
        }
        candidates.sort_unstable();
        candidates.dedup();
        let held = |vm: &VmId| is_busy(paths, *vm);
        observed.busy = candidates.iter().copied().filter(held).collect();
        let listing = engine.list()?;
        observed.complete = listing.complete;
        for one in choose(listing.containers, paths) {
            observed.vms.insert(one.vm, one.state);
            observed.containers.insert(one.vm, one.id);
        }
        candidates.extend(observed.vms.keys());
        observed.busy.extend(candidates.into_iter().filter(held));
        let frozen = half_frozen(&observed.vms, paths);
        observed.busy.extend(frozen);
        Ok(observed)
    }

    /// The VMs that run and on which no action runs.
    pub fn running(&self) -> impl Iterator<Item = (VmId, &ContainerId)> {
        self.containers.iter().filter_map(|(&vm, id)| {
            let runs = self.vms.get(&vm) == Some(&State::Running);
            (runs && !self.busy.contains(&vm)).then_some((vm, id))
        })
    }
}

/// The VMs that a call froze for a copy and could not let go on, because it was ended. Nobody
/// suspended them, and the next action thaws them: they are in action until then.
fn half_frozen(vms: &BTreeMap<VmId, State>, paths: &Paths) -> Vec<VmId> {
    vms.iter()
        .filter(|(vm, state)| **state == State::Paused && freezing::is_begun(paths, **vm))
        .map(|(vm, _)| *vm)
        .collect()
}

/// A lock that cannot be read counts as held: silence is never wrong.
fn is_busy(paths: &Paths, vm: VmId) -> bool {
    match VmLock::try_shared(paths, vm) {
        Ok(free) => free.is_none(),
        Err(error) => {
            tracing::warn!(vm = vm.get(), %error, "no state of this VM is reported");
            true
        }
    }
}

/// One container for each VM. Two claim the same VM while a driver replaces one, or when an
/// image brings our labels along (attack 12): the one that a driver has started, which is the
/// one with a boot spec, wins over the one with the VM's name, that over the rest.
fn choose(containers: Vec<Listed>, paths: &Paths) -> Vec<Listed> {
    let mut by_vm: BTreeMap<VmId, Listed> = BTreeMap::new();
    let rank = |one: &Listed| (paths.boot_spec(&one.id).exists(), one.own_name);
    for one in containers {
        match by_vm.get(&one.vm) {
            Some(other) if rank(other) >= rank(&one) => {}
            _ => drop(by_vm.insert(one.vm, one)),
        }
    }
    by_vm.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn listed(vm: u32, digit: &str, own_name: bool) -> Listed {
        Listed {
            vm: VmId::new(vm),
            id: digit.repeat(64).parse().unwrap(),
            own_name,
            state: State::Running,
        }
    }

    #[test]
    fn attack_12_a_container_that_only_brings_the_labels_does_not_stand_for_the_vm() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::at(dir.path());
        let (forged, renamed, named) = (
            listed(5, "a", false),
            listed(5, "b", false),
            listed(5, "c", true),
        );
        let pick = |list: &[&Listed]| choose(list.iter().map(|l| (*l).clone()).collect(), &paths);
        assert_eq!(pick(&[&forged, &named]), std::slice::from_ref(&named));
        fs::create_dir_all(paths.boot_dir()).unwrap();
        fs::write(paths.boot_spec(&renamed.id), "{}").unwrap();
        assert_eq!(pick(&[&named, &renamed, &forged]), [renamed]);
    }

    #[test]
    fn a_vm_is_busy_while_its_lock_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::at(dir.path());
        let held = VmLock::acquire(&paths, VmId::new(7), std::time::Duration::ZERO).unwrap();
        assert!(is_busy(&paths, VmId::new(7)) && !is_busy(&paths, VmId::new(8)));
        drop(held);
        assert!(!is_busy(&paths, VmId::new(7)));
    }

    #[test]
    fn a_vm_that_a_dead_call_left_frozen_is_not_reported_as_suspended() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::at(dir.path());
        let (frozen, suspended) = (VmId::new(7), VmId::new(8));
        let vms = BTreeMap::from([
            (frozen, State::Paused),
            (suspended, State::Paused),
            (VmId::new(9), State::Running),
        ]);
        freezing::begin(&paths, frozen).unwrap();
        freezing::begin(&paths, VmId::new(9)).unwrap();
        assert_eq!(half_frozen(&vms, &paths), [frozen]);
        freezing::end(&paths, frozen).unwrap();
        assert_eq!(half_frozen(&vms, &paths), []);
    }
}
