//! What a container's processes hold of its memory, as the kernel's accounting in the engine's
//! statistics says it.

use std::collections::HashMap;

use bollard::models::ContainerMemoryStats;

/// The bytes that the kernel cannot take back without swap: what the processes have written, and
/// files in memory (tmpfs, shared memory). Cached files are not among them.
pub(super) fn held(stats: ContainerMemoryStats) -> Option<u64> {
    let usage = stats.usage?;
    let numbers: HashMap<String, u64> = stats.stats.unwrap_or_default();
    let sum = |names: &[&str]| -> u64 { names.iter().filter_map(|n| numbers.get(*n)).sum() };
    let held = if numbers.contains_key("anon") {
        // cgroup v2; `shmem` is a part of `file`.
        sum(&[
            "anon",
            "shmem",
            "slab_unreclaimable",
            "kernel_stack",
            "pagetables",
            "sock",
        ])
    } else if numbers.contains_key("total_rss") {
        // cgroup v1; shared memory is told by newer kernels only.
        sum(&["total_rss", "total_shmem"])
    } else {
        usage
    };
    Some(held.min(usage))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(usage: u64, numbers: &[(&str, u64)]) -> ContainerMemoryStats {
        let numbers = numbers.iter().map(|(k, v)| ((*k).to_owned(), *v));
        ContainerMemoryStats {
            usage: Some(usage),
            stats: Some(numbers.collect()),
            ..ContainerMemoryStats::default()
        }
    }

    #[test]
    fn cached_files_are_not_held_in_either_version_of_cgroups() {
        let v1 = stats(100, &[("total_rss", 30), ("total_cache", 60)]);
        let v2 = stats(100, &[("anon", 30), ("file", 60), ("shmem", 5)]);
        assert_eq!((held(v1), held(v2)), (Some(30), Some(35)));
        assert_eq!(held(stats(100, &[])), Some(100));
        assert_eq!(held(ContainerMemoryStats::default()), None);
    }
}
