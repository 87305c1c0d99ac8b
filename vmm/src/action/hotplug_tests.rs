//! Attach and detach, cut off at every call of the engine and of root.

use std::fs;

use onedock_common::engine::fake::Failure;
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::journal::{freezing, tree};
use onedock_common::{DiskId, VmId};
use onedock_node::request::Request;

use super::fake_node::{FakeNode, RECORDED, action, small, with_disk, without_disk};

const VM: VmId = VmId::new(5);
/// LCM_STATE while a disk is attached or detached.
const HOTPLUG: u32 = 17;

/// The document of `attach_disk` and `detach_disk` of one of the recorded disks.
fn hotplug(disk: u32) -> String {
    let mut text = RECORDED.to_owned();
    for id in (1..=4).filter(|id| *id != disk) {
        text = without_disk(&text, id);
    }
    action(
        &with_disk(&text, disk, "<ATTACH><![CDATA[YES]]></ATTACH>"),
        HOTPLUG,
    )
}

impl FakeNode {
    fn plug(&self, name: &str, disk: u32) -> anyhow::Result<Answer> {
        let path = self.disk(disk).display().to_string();
        let arguments = ["one-5", &path, "sdb", "1", "PFZN", "5", "node1"];
        self.act(name, &arguments, &hotplug(disk))
    }

    pub(super) fn attach(&self, disk: u32) -> anyhow::Result<Answer> {
        self.plug("attach_disk", disk)
    }

    pub(super) fn detach(&self, disk: u32) -> anyhow::Result<Answer> {
        self.plug("detach_disk", disk)
    }
}

#[test]
fn an_attach_shows_the_disk_now_and_after_a_reboot_and_a_detach_takes_it_out() {
    let node = FakeNode::full();
    node.deploy().unwrap();
    for (disk, shown) in [(1, vec![1]), (3, vec![1, 3]), (4, vec![1, 3, 4])] {
        node.attach(disk).unwrap();
        assert_eq!(node.booted_disks(), shown);
        assert!(node.host.root.plugged().contains(&disk));
        node.attach(disk).unwrap();
        assert_eq!(node.booted_disks(), shown, "twice is once");
    }
    assert_eq!(node.names(), ["one-5", "one-5-disk-3"]);
    node.end("reboot").unwrap();
    assert_eq!(node.booted_disks(), [1, 3, 4]);
    for disk in [3, 1, 4] {
        assert!(node.detach(disk).unwrap().notes.is_empty());
        let again = node.detach(disk).unwrap();
        assert!(
            again.notes[0].contains("out of the VM already"),
            "{again:?}"
        );
    }
    assert_eq!(node.booted_disks(), [] as [u32; 0]);
    assert_eq!(node.host.root.plugged(), [] as [u32; 0]);
    assert!(!node.host.paths.extracted_of(VM).exists());
}

#[test]
fn an_attach_cut_off_at_any_call_leaves_nothing_and_the_retry_works() {
    let attach = |node: &FakeNode, what: &str| {
        node.attach(3).expect_err(what);
        let trees = node.names().len() - 1;
        let noted = tree::on_its_way(&node.host.paths, VM, DiskId::new(3)).is_some();
        assert!(trees == 0 || noted, "{what}");
        assert_eq!(node.descriptor_of(3).container, None, "{what}");
        assert_eq!(node.booted_disks(), [] as [u32; 0], "{what}");
        assert_eq!(node.host.root.plugged(), [] as [u32; 0], "{what}");
        node.host.engine.heal();
        node.host.root.fail(None);
        node.attach(3).unwrap();
        assert_eq!(
            (node.booted_disks(), node.names().len()),
            (vec![3], 2),
            "{what}"
        );
        node.assert_journal_is_empty();
    };
    for call in 1..=3 {
        for failure in [Failure::Before(call), Failure::After(call)] {
            let node = FakeNode::full();
            node.deploy().unwrap();
            node.host.engine.fail(failure);
            attach(&node, &format!("engine {failure:?}"));
        }
    }
    for failure in [Failure::Before(1), Failure::After(1)] {
        let node = FakeNode::full();
        node.deploy().unwrap();
        node.host.root.fail(Some(failure));
        attach(&node, &format!("root {failure:?}"));
    }
}

#[test]
fn a_detach_that_is_refused_or_cut_off_leaves_the_disk_in_and_the_retry_takes_it_out() {
    let node = FakeNode::full();
    node.deploy().unwrap();
    node.attach(1).unwrap();
    node.host.root.busy(true);
    let error = node.detach(1).unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    assert_eq!(
        (node.booted_disks(), node.host.root.plugged()),
        (vec![1], vec![1])
    );
    node.host.root.busy(false);
    for failure in [Failure::Before(1), Failure::After(1)] {
        node.host.root.fail(Some(failure));
        node.detach(1).unwrap_err();
        node.host.root.fail(None);
        assert_eq!(
            (node.booted_disks(), node.host.root.plugged()),
            (vec![1], vec![1])
        );
    }
    node.detach(1).unwrap();
    assert_eq!(
        (node.booted_disks(), node.host.root.plugged()),
        (vec![], vec![])
    );
}

#[test]
fn a_detach_from_a_vm_that_has_ended_waits_until_its_disks_are_let_go_of() {
    let node = FakeNode::full();
    node.deploy().unwrap();
    node.attach(1).unwrap();
    node.end("shutdown").unwrap();
    node.host.root.fail(Some(Failure::Before(1)));
    node.detach(1).unwrap_err();
    assert_eq!(
        node.booted_disks(),
        [1],
        "what is not complete is not detached"
    );
    node.host.root.fail(None);
    node.detach(1).unwrap();
    assert!(matches!(
        node.host.root.requests()[..],
        [Request::Settle { .. }]
    ));
    assert_eq!(node.booted_disks(), [] as [u32; 0]);
}

#[test]
fn what_cannot_be_attached_or_detached_is_refused_and_nothing_is_done() {
    let node = FakeNode::full();
    let error = node.attach(1).unwrap_err().to_string();
    assert!(error.contains("one-5 is not on this host"), "{error}");
    node.deploy().unwrap();
    let path = node.disk(9).display().to_string();
    for name in ["attach_disk", "detach_disk"] {
        let arguments = ["one-5", &path, "sdb", "1", "PFZN", "5", "node1"];
        let error = node
            .act(name, &arguments, &hotplug(1))
            .unwrap_err()
            .to_string();
        assert!(error.contains("has no DISK 9"), "{error}");
        let none = action(&small(), HOTPLUG);
        let path = node.disk(0).display().to_string();
        let arguments = ["one-5", &path, "sdb", "1", "PFZN", "5", "node1"];
        let error = node.act(name, &arguments, &none).unwrap_err().to_string();
        assert!(error.contains("has no DISK 0"), "{error}");
    }
    fs::remove_file(node.disk(1)).unwrap();
    let error = node.attach(1).unwrap_err().to_string();
    assert!(error.contains("disk.1"), "{error}");
    assert_eq!(node.booted_disks(), [] as [u32; 0]);
    assert!(node.host.root.requests().is_empty());
}

#[test]
fn a_swap_disk_is_an_allowance_that_comes_and_goes_with_it() {
    let node = FakeNode::full();
    node.deploy().unwrap();
    let swap = || node.host.engine.containers()[0].info.limits.swap >> 20;
    assert_eq!(swap(), 0);
    node.attach(2).unwrap();
    node.attach(2).unwrap();
    assert_eq!(swap(), 32);
    node.detach(2).unwrap();
    node.detach(2).unwrap();
    assert_eq!(swap(), 0);
    assert!(node.host.root.requests().is_empty());
}

#[test]
fn a_vm_that_a_dead_call_left_frozen_goes_on_with_the_next_action() {
    for name in ["attach_disk", "shutdown", "cancel", "reboot", "deploy"] {
        let node = FakeNode::full();
        node.deploy().unwrap();
        freezing::begin(&node.host.paths, VM).unwrap();
        node.host.engine.change("one-5", |c| c.info.paused = true);
        match name {
            "attach_disk" => node.attach(1).map(drop),
            "deploy" => node.deploy().map(drop),
            name => node.end(name).map(drop),
        }
        .unwrap();
        assert!(!freezing::is_begun(&node.host.paths, VM));
        assert!(!node.host.engine.containers()[0].info.paused, "{name}");
    }
}
