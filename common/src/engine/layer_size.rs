//! What a disk that is a container takes in the engine's storage.

use crate::engine::labels;
use crate::types::ids::{ContainerName, DiskId, VmId};

/// The size of a container's own layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerSize {
    pub vm: VmId,
    /// DISK_ID.
    pub disk: DiskId,
    /// Bytes.
    pub bytes: u64,
}

impl LayerSize {
    /// Of an entry in the engine's list of containers with sizes: its labels, its names with their
    /// slash, its `SizeRw`. Labels say which disk it is and the name confirms it, which only one
    /// container has, because an image may bring labels along. `None` for a container that is no
    /// disk, and for a size that the engine could not find out, which is negative; a size of 0 it
    /// leaves out.
    pub fn of_listed<'a>(
        label: impl Fn(&str) -> Option<&'a str>,
        names: &[String],
        size_rw: Option<i64>,
    ) -> Option<Self> {
        let disk: DiskId = label(labels::DISK)?.parse().ok()?;
        let owner = |name: &str| label(name)?.parse::<VmId>().ok();
        let is_named = |name: ContainerName| names.iter().any(|n| *n == format!("/{name}"));
        let vm = owner(labels::VM)
            .filter(|vm| is_named(ContainerName::of(*vm)))
            .or_else(|| {
                owner(labels::TREE).filter(|vm| is_named(ContainerName::of_tree(*vm, disk)))
            })?;
        let bytes = u64::try_from(size_rw.unwrap_or(0)).ok()?;
        Some(Self { vm, disk, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_of_the_container_that_has_the_name_of_the_disk() {
        let size = |name: &str, owner: &str, disk: &str, size| {
            let owner = format!("org.opennebula.{owner}");
            let label = |wanted: &str| match wanted {
                labels::DISK => Some(disk),
                label if label == owner => Some("5"),
                _ => None,
            };
            LayerSize::of_listed(label, &[format!("/{name}")], size)
                .map(|found| (found.vm.get(), found.disk.get(), found.bytes))
        };
        let tree = ContainerName::of_tree(VmId::new(5), DiskId::new(2)).to_string();
        assert_eq!(size("one-5", "vm", "0", Some(77)), Some((5, 0, 77)));
        assert_eq!(size(&tree, "tree", "2", Some(77)), Some((5, 2, 77)));
        assert_eq!(size("forged", "vm", "0", Some(77)), None);
        assert_eq!(size(&tree, "tree", "3", Some(77)), None);
        assert_eq!(size("one-5", "vm", "0", None), Some((5, 0, 0)));
        assert_eq!(size("one-5", "vm", "0", Some(-1)), None);
    }
}
