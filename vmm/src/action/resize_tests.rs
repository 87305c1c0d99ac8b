//! Changes of a VM's capacity and of its disks' sizes.

use std::fs;

use onedock_common::engine::fake::Failure;
use onedock_common::opennebula::answer::Answer;
use onedock_node::request::Request;

use super::fake_node::{FakeNode, RECORDED, action, small};

impl FakeNode {
    pub(super) fn resize(&self, memory: &str) -> anyhow::Result<Answer> {
        let memory = format!("<MEMORY><![CDATA[{memory}]]>");
        let text = small().replace("<MEMORY><![CDATA[256]]>", &memory);
        let text = text.replace("<CPU><![CDATA[0.5]]>", "<CPU><![CDATA[2]]>");
        self.act("resize", &["one-5", "5", "node1"], &action(&text, 62))
    }

    pub(super) fn resize_disk(&self, disk: &str, size: &str) -> anyhow::Result<Answer> {
        let arguments = ["one-5", disk, size, "PFZN", "node1", "5", "node1"];
        self.act("resize_disk", &arguments, &action(RECORDED, 61))
    }
}

#[test]
fn capacity_changes_live_and_less_memory_than_is_held_is_refused_with_numbers() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    let memory = || node.host.engine.containers()[0].info.limits.memory >> 20;
    node.resize("512").unwrap();
    assert_eq!(memory(), 512);
    let limits = node.host.engine.containers()[0].info.limits;
    assert_eq!(limits.cpu_shares, 2048);
    node.host.engine.hold(200 << 20);
    let error = node.resize("128").unwrap_err().to_string();
    assert!(
        error.contains("128 MB") && error.contains("200 MB"),
        "{error}"
    );
    assert_eq!(node.host.engine.containers()[0].info.limits, limits);
    node.resize("256").unwrap();
    assert_eq!(memory(), 256);
    for failure in [Failure::Before(2), Failure::After(2)] {
        node.host.engine.fail(failure);
        node.resize("512").unwrap_err();
        assert_eq!(memory(), 256, "{failure:?}");
        node.host.engine.heal();
    }
    node.resize("512").unwrap();
    assert_eq!(memory(), 512);
}

#[test]
fn a_file_disk_grows_live_and_no_disk_shrinks() {
    let node = FakeNode::full();
    node.deploy_with(RECORDED).unwrap();
    node.resize_disk("1", "80").unwrap();
    node.resize_disk("1", "80").unwrap();
    assert_eq!(fs::metadata(node.disk(1)).unwrap().len(), 80 << 20);
    assert!(matches!(
        node.host.root.requests()[..],
        [
            Request::GrowDisk { size_mib: 80, .. },
            Request::GrowDisk { size_mib: 80, .. }
        ]
    ));
    for (disk, size, text) in [
        ("1", "40", "cannot be made smaller"),
        ("4", "900", "can only be read"),
        ("9", "90", "has no DISK 9"),
        ("1", "99999999999999999", "cannot have"),
    ] {
        let error = node.resize_disk(disk, size).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    assert_eq!(node.host.root.requests().len(), 2);
    node.resize_disk("2", "64").unwrap();
    let containers = node.host.engine.containers();
    let root = containers.iter().find(|c| c.name == "one-5").unwrap();
    assert_eq!(root.info.limits.swap, 64 << 20);
}

#[test]
fn the_root_disk_and_a_tree_get_another_bound_where_the_storage_keeps_one() {
    let node = FakeNode::full();
    node.deploy_with(RECORDED).unwrap();
    for disk in ["0", "3"] {
        assert!(node.resize_disk(disk, "200").unwrap().notes.is_empty());
    }
    assert!(matches!(
        &node.host.root.requests()[1],
        Request::BoundLayer { size_mib: 200, .. }
    ));
    node.host.root.unbounded();
    for disk in ["0", "3"] {
        let notes = node.resize_disk(disk, "300").unwrap().notes;
        assert!(notes[0].contains("keeps no quotas"), "{notes:?}");
    }
}
