//! NUMA nodes of the host, on which OpenNebula places pinned VMs: as its probes `numa_host.rb` and
//! `numa_usage.rb` print them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use onedock_common::types::decimal::parse_whole;

use crate::template::vector;

/// The kernel's own (Documentation/ABI/stable/sysfs-devices-node).
pub const NODES: &str = "/sys/bus/node/devices";

/// HUGEPAGE, CORE and MEMORY_NODE of each node: what the host has.
pub fn host(nodes: &Path) -> String {
    let mut out = String::new();
    for (id, path) in all(nodes) {
        for (size, pages) in huge_pages(&path, "nr_hugepages") {
            out += &vector(
                "HUGEPAGE",
                &[("NODE_ID", &id), ("SIZE", &size), ("PAGES", &pages)],
            );
            out.push('\n');
        }
        for (core, cpus) in cores(&path) {
            out += &vector("CORE", &[("NODE_ID", &id), ("ID", &core), ("CPUS", &cpus)]);
            out.push('\n');
        }
        if let Some(total) = memory(&path, "MemTotal") {
            let distance = distance(&path);
            out += &vector(
                "MEMORY_NODE",
                &[("NODE_ID", &id), ("TOTAL", &total), ("DISTANCE", &distance)],
            );
            out.push('\n');
        }
    }
    out
}

/// HUGEPAGE and MEMORY_NODE of each node: what of it is free.
pub fn usage(nodes: &Path) -> String {
    let mut out = String::new();
    for (id, path) in all(nodes) {
        for (size, free) in huge_pages(&path, "free_hugepages") {
            out += &vector(
                "HUGEPAGE",
                &[("NODE_ID", &id), ("SIZE", &size), ("FREE", &free)],
            );
            out.push('\n');
        }
        if let (Some(free), Some(used)) = (memory(&path, "MemFree"), memory(&path, "MemUsed")) {
            out += &vector(
                "MEMORY_NODE",
                &[("NODE_ID", &id), ("FREE", &free), ("USED", &used)],
            );
            out.push('\n');
        }
    }
    out
}

/// Entries of a folder that have this name and a number behind it, by the number.
fn numbered(folder: &Path, name: &str) -> Vec<(u64, PathBuf)> {
    let mut all: Vec<(u64, PathBuf)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name();
            let number = parse_whole(file.to_str()?.strip_prefix(name)?).ok()?;
            Some((number, entry.path()))
        })
        .collect();
    all.sort_unstable();
    all
}

fn all(nodes: &Path) -> Vec<(u64, PathBuf)> {
    numbered(nodes, "node")
}

fn read(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Sizes in KB, with the number in this file of each.
fn huge_pages(node: &Path, file: &str) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = fs::read_dir(node.join("hugepages"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let size = name
                .to_str()?
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?;
            let number = parse_whole(&read(&entry.path().join(file))?).ok()?;
            Some((parse_whole(size).ok()?, number))
        })
        .collect();
    all.sort_unstable();
    all
}

/// Cores with their threads, each once.
fn cores(node: &Path) -> Vec<(u64, String)> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for (cpu, path) in numbered(node, "cpu") {
        let topology = path.join("topology");
        let core = read(&topology.join("core_id")).and_then(|id| parse_whole(&id).ok());
        let threads = read(&topology.join("thread_siblings_list")).and_then(|list| expanded(&list));
        if let (Some(core), Some(threads)) = (core, threads)
            && !seen.contains(&cpu)
        {
            seen.extend(threads.iter().copied());
            let threads: Vec<String> = threads.iter().map(ToString::to_string).collect();
            all.push((core, threads.join(",")));
        }
    }
    all
}

/// The numbers of `0,4` or `0-1`: OpenNebula reads lists without ranges.
fn expanded(list: &str) -> Option<Vec<u64>> {
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_whole(first).ok()?, parse_whole(last).ok()?);
        if last < first || last - first > 4096 {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// A line of the node's `meminfo`, in KB.
fn memory(node: &Path, name: &str) -> Option<u64> {
    let text = read(&node.join("meminfo"))?;
    let line = text.lines().find(|line| {
        line.split_whitespace()
            .any(|word| word.strip_suffix(':') == Some(name))
    })?;
    let value = line.split(':').nth(1)?.split_whitespace().next()?;
    parse_whole(value).ok()
}

/// The nodes by their distance, the nearest first.
fn distance(node: &Path) -> String {
    let text = read(&node.join("distance")).unwrap_or_default();
    let mut all: Vec<(u64, usize)> = text
        .split_whitespace()
        .enumerate()
        .filter_map(|(id, distance)| Some((parse_whole(distance).ok()?, id)))
        .collect();
    all.sort_unstable();
    let ids: Vec<String> = all.iter().map(|(_, id)| id.to_string()).collect();
    ids.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn nodes_cores_and_pages_are_printed_as_opennebula_s_probes_print_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for (node, distance) in [("node0", "10 21\n"), ("node1", "21 10\n")] {
            let id = &node[4..];
            put(root, &format!("{node}/distance"), distance);
            let memory = format!(
                "Node {id} MemTotal:  1000 kB\nNode {id} MemFree:  300 kB\nNode {id} MemUsed:  700 kB\n"
            );
            put(root, &format!("{node}/meminfo"), &memory);
        }
        for (cpu, siblings) in [("cpu0", "0,2"), ("cpu2", "0,2"), ("cpu1", "1-1")] {
            put(
                root,
                &format!("node0/{cpu}/topology/thread_siblings_list"),
                siblings,
            );
            put(
                root,
                &format!("node0/{cpu}/topology/core_id"),
                &cpu[3..].replace('2', "0"),
            );
        }
        put(root, "node1/hugepages/hugepages-2048kB/nr_hugepages", "8\n");
        put(
            root,
            "node1/hugepages/hugepages-2048kB/free_hugepages",
            "5\n",
        );
        put(root, "possible", "0-1");
        assert_eq!(
            host(root),
            "CORE = [ NODE_ID=\"0\", ID=\"0\", CPUS=\"0,2\" ]\n\
             CORE = [ NODE_ID=\"0\", ID=\"1\", CPUS=\"1\" ]\n\
             MEMORY_NODE = [ NODE_ID=\"0\", TOTAL=\"1000\", DISTANCE=\"0 1\" ]\n\
             HUGEPAGE = [ NODE_ID=\"1\", SIZE=\"2048\", PAGES=\"8\" ]\n\
             MEMORY_NODE = [ NODE_ID=\"1\", TOTAL=\"1000\", DISTANCE=\"1 0\" ]\n"
        );
        assert_eq!(
            usage(root),
            "MEMORY_NODE = [ NODE_ID=\"0\", FREE=\"300\", USED=\"700\" ]\n\
             HUGEPAGE = [ NODE_ID=\"1\", SIZE=\"2048\", FREE=\"5\" ]\n\
             MEMORY_NODE = [ NODE_ID=\"1\", FREE=\"300\", USED=\"700\" ]\n"
        );
        assert_eq!(host(&root.join("none")), "");
    }

    #[test]
    fn lists_are_numbers_one_by_one() {
        assert_eq!(expanded("0-2,8"), Some(vec![0, 1, 2, 8]));
        for bad in ["", "a", "2-0", "0-99999999", "1,"] {
            assert_eq!(expanded(bad), None, "{bad}");
        }
    }
}
