//! What a container's processes hold of its memory, read from the kernel's accounting: the
//! engine's own statistics are empty where it does not understand the host's cgroups.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the host's cgroups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// What the processes beside this one hold, in bytes; `None` when it has ended, or when the
/// kernel does not account for memory.
pub(super) fn held_beside(pid: i64) -> Option<u64> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let group = group(&groups, Path::new(CGROUPS))?;
    held(&fs::read_to_string(group.join("memory.stat")).ok()?)
}

/// The folder of the memory controller among the lines of `/proc/<pid>/cgroup`.
fn group(lines: &str, root: &Path) -> Option<PathBuf> {
    let groups = || {
        lines.lines().filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            Some((controllers, path.strip_prefix('/')?))
        })
    };
    let version1 = groups().find(|(names, _)| names.split(',').any(|name| name == "memory"));
    let version2 = || groups().find(|(names, _)| names.is_empty());
    match version1 {
        Some((names, path)) => Some(root.join(names).join(path)),
        None => version2().map(|(_, path)| root.join(path)),
    }
}

/// The bytes that the kernel cannot take back without swap: what the processes have written, and
/// files in memory (tmpfs, shared memory). Cached files are not among them.
fn held(stat: &str) -> Option<u64> {
    let numbers: HashMap<&str, u64> = stat
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, number)| Some((name, number.parse().ok()?)))
        .collect();
    let sum = |names: &[&str]| -> u64 { names.iter().filter_map(|n| numbers.get(n)).sum() };
    // What is in tmpfs is on the lists of anonymous memory in both versions.
    if numbers.contains_key("total_active_anon") {
        return Some(sum(&[
            "total_active_anon",
            "total_inactive_anon",
            "total_unevictable",
        ]));
    }
    numbers.contains_key("active_anon").then(|| {
        sum(&[
            "active_anon",
            "inactive_anon",
            "unevictable",
            "slab_unreclaimable",
            "kernel_stack",
            "pagetables",
            "sock",
        ])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_that_of_the_memory_controller_else_the_only_one() {
        let root = Path::new("/g");
        let found = |lines: &str| group(lines, root).map(|p| p.display().to_string());
        let hybrid = "12:cpu,cpuacct:/docker/x\n4:memory:/docker/ab\n0::/\n";
        assert_eq!(found(hybrid).as_deref(), Some("/g/memory/docker/ab"));
        let unified = "0::/system.slice/docker-ab.scope\n";
        assert_eq!(
            found(unified).as_deref(),
            Some("/g/system.slice/docker-ab.scope")
        );
        assert_eq!(found("nothing"), None);
    }

    #[test]
    fn cached_files_are_not_held_and_files_in_memory_are_in_both_versions() {
        let v1 = "cache 90\nrss 1\ntotal_inactive_anon 20\ntotal_active_anon 10\ntotal_cache 90\n";
        let v2 = "anon 5\nfile 60\ninactive_anon 25\nactive_anon 5\nkernel_stack 3\nsock 2\n";
        assert_eq!((held(v1), held(v2)), (Some(30), Some(35)));
        assert_eq!(held(""), None);
    }
}
