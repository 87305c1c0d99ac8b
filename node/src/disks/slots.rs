//! The loop devices that a container may open: sixteen minor numbers of its own, allowed when it
//! is created, so that no rule of a running container is ever changed.
//!
//! A slot is a link in `/run/onedock/slots` that names the container; it is made in one step, and
//! after the record that names the slot, so that nothing can be left of one.

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use onedock_common::disk_file::{LoopBound, RESERVED};
use onedock_common::state::files;
use onedock_common::{ContainerId, VmId};
use serde::{Deserialize, Serialize};

use crate::disks::loop_device;
use crate::owned;
use crate::state_folder::{self, RUN};

/// Loop devices of one container.
const SIZE: u32 = 16;
/// Minor numbers that a device has in Linux.
const MINORS: u32 = 1 << 20;

/// The number of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Slot(u32);

impl Slot {
    /// The indices of its loop devices.
    pub(super) fn indices(self) -> Range<u32> {
        let first = RESERVED + self.0 * SIZE;
        first..first + SIZE
    }

    /// Their minor numbers.
    pub(crate) fn minors(self) -> Vec<u32> {
        self.minors_shifted(loop_device::shift())
    }

    fn minors_shifted(self, shift: u32) -> Vec<u32> {
        self.indices().map(|index| index << shift).collect()
    }
}

/// How many slots there are on a kernel that shifts an index so far to make a minor number of it.
fn count(shift: u32) -> u32 {
    (MINORS >> shift).saturating_sub(RESERVED) / SIZE
}

/// The file by which `onedock setup node --allow-unbounded-loops` says that a host without the bound is
/// to show disks as devices.
const ALLOWED: &str = "/etc/onedock/unbounded-loops";

/// Whether containers may open loop devices at all: only where the kernel makes none for whoever opens
/// a node (attack 40), or the administrator has allowed it.
pub(crate) fn are_allowed() -> bool {
    LoopBound::of_kernel() == Some(LoopBound::InForce)
        || owned::is_roots(Path::new(ALLOWED)).is_ok()
}

/// The folder of slots.
#[derive(Debug)]
pub(crate) struct Slots(PathBuf);

impl Slots {
    pub(crate) fn system() -> Self {
        Self(Path::new(RUN).join("slots"))
    }

    fn file(&self, slot: Slot) -> PathBuf {
        self.0.join(slot.0.to_string())
    }

    /// Takes a slot for a container. `note` is called with each one that is tried before it is taken.
    pub(crate) fn take(
        &self,
        vm: VmId,
        container: &ContainerId,
        mut note: impl FnMut(Slot) -> io::Result<()>,
    ) -> io::Result<Slot> {
        state_folder::make(&self.0)?;
        let count = count(loop_device::shift());
        // Two nodes on one machine have one set of loop devices, and often the same VM ids.
        let salt = fs::metadata(&self.0)?.dev().wrapping_mul(977);
        let first = salt.wrapping_add(vm.get().into());
        for step in 0..u64::from(count) {
            let number = first.wrapping_add(step) % u64::from(count);
            let slot = Slot(u32::try_from(number).map_err(io::Error::other)?);
            let path = self.file(slot);
            if fs::symlink_metadata(&path).is_ok() || slot.indices().any(loop_device::exists) {
                continue;
            }
            note(slot)?;
            match symlink(container.as_str(), &path) {
                Ok(()) => return Ok(slot),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::other(
            "no loop devices are left for one more container",
        ))
    }

    /// Gives a slot back, if it is this container's.
    pub(crate) fn give_back(&self, slot: Slot, container: &ContainerId) -> io::Result<()> {
        let path = self.file(slot);
        match fs::read_link(&path) {
            Ok(owner) if owner == Path::new(container.as_str()) => files::remove(&path),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_has_a_slot_of_its_own_and_gives_back_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let slots = Slots(dir.path().join("slots"));
        let (one, two) = (ContainerId::numbered(1), ContainerId::numbered(2));
        let mut noted = Vec::new();
        let mut take = |id| {
            let note = |slot: Slot| {
                noted.push(slot);
                Ok(())
            };
            slots.take(VmId::new(5), id, note).unwrap()
        };
        let (first, second) = (take(&one), take(&two));
        assert_ne!(first, second);
        assert_eq!(noted, [first, second]);
        assert!(
            first
                .indices()
                .all(|index| !second.indices().contains(&index))
        );
        slots.give_back(first, &two).unwrap();
        assert_eq!(fs::read_dir(&slots.0).unwrap().count(), 2);
        slots.give_back(first, &one).unwrap();
        slots.give_back(first, &one).unwrap();
        assert_eq!(slots.take(VmId::new(5), &two, |_| Ok(())).unwrap(), first);
    }

    #[test]
    fn the_minor_numbers_of_a_slot_are_those_of_its_sixteen_devices() {
        for (slot, first) in [(Slot(0), RESERVED), (Slot(3), RESERVED + 48)] {
            assert_eq!(slot.indices(), first..first + 16);
            for shift in [0, 3] {
                let minors = (first..first + 16).map(|index| index << shift);
                assert_eq!(slot.minors_shifted(shift), minors.collect::<Vec<u32>>());
            }
        }
        assert_eq!([0, 3, 4, 20].map(count), [61_440, 4096, 0, 0]);
    }

    #[test]
    fn a_slot_has_only_minor_numbers_that_linux_has_and_one_taken_meanwhile_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let slots = Slots(dir.path().join("slots"));
        let id = ContainerId::numbered(1);
        let mut tried = Vec::new();
        let taken = slots.take(VmId::new(5), &id, |slot| {
            if tried.is_empty() {
                // Another container is quicker.
                symlink(ContainerId::numbered(2).as_str(), slots.file(slot))?;
            }
            tried.push(slot);
            Ok(())
        });
        let taken = taken.unwrap();
        assert_eq!(tried.len(), 2);
        assert_eq!(tried[1], taken);
        for slot in &tried {
            assert!(
                slot.minors().iter().all(|minor| *minor < MINORS),
                "{slot:?}"
            );
        }
        // One that cannot be taken for another reason is an error, and not tried for ever.
        let gone = slots.take(VmId::new(5), &id, |_| fs::remove_dir_all(&slots.0));
        let reason = gone.unwrap_err().to_string();
        assert!(!reason.contains("are left"), "{reason}");
    }

    #[test]
    fn the_number_of_a_vm_beyond_all_slots_begins_again() {
        let dir = tempfile::tempdir().unwrap();
        let slots = Slots(dir.path().join("slots"));
        for vm in [0, 1, 61_439, 61_440, u32::MAX] {
            let id = ContainerId::numbered(vm.into());
            let slot = slots.take(VmId::new(vm), &id, |_| Ok(())).unwrap();
            assert!(slot.minors().iter().all(|minor| *minor < MINORS), "{vm}");
        }
    }
}
