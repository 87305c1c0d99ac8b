//! Attach and detach, cut off at every call of the engine and of root.

use std::fs;

use onedock_common::engine::fake::Failure;
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::journal::{freezing, tree};
use onedock_common::{DiskId, VmId};
use onedock_node::request::Request;

use super::bed::{Bed, TRACED, action, small, with_disk, without_disk};

const VM: VmId = VmId::new(5);
/// LCM_STATE while a disk is attached or detached.
const HOTPLUG: u32 = 17;

/// The document of `attach_disk` and `detach_disk` of one of the recorded disks.
fn hotplug(disk: u32) -> String {
    let mut text = TRACED.to_owned();
    for id in (1..=4).filter(|id| *id != disk) {
        text = without_disk(&text, id);
    }
    action(
        &with_disk(&text, disk, "<ATTACH><![CDATA[YES]]></ATTACH>"),
        HOTPLUG,
    )
}

impl Bed {
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
    let bed = Bed::full();
    bed.deploy().unwrap();
    for (disk, shown) in [(1, vec![1]), (3, vec![1, 3]), (4, vec![1, 3, 4])] {
        bed.attach(disk).unwrap();
        assert_eq!(bed.shown(), shown);
        assert!(bed.host.root.plugged().contains(&disk));
        bed.attach(disk).unwrap();
        assert_eq!(bed.shown(), shown, "twice is once");
    }
    assert_eq!(bed.names(), ["one-5", "one-5-disk-3"]);
    bed.end("reboot").unwrap();
    assert_eq!(bed.shown(), [1, 3, 4]);
    for disk in [3, 1, 4] {
        assert!(bed.detach(disk).unwrap().notes.is_empty());
        let again = bed.detach(disk).unwrap();
        assert!(
            again.notes[0].contains("out of the VM already"),
            "{again:?}"
        );
    }
    assert_eq!(bed.shown(), [] as [u32; 0]);
    assert_eq!(bed.host.root.plugged(), [] as [u32; 0]);
    assert!(!bed.host.paths.extracted_of(VM).exists());
}

#[test]
fn an_attach_cut_off_at_any_call_leaves_nothing_and_the_retry_works() {
    let attach = |bed: &Bed, what: &str| {
        bed.attach(3).expect_err(what);
        let trees = bed.names().len() - 1;
        let noted = tree::on_its_way(&bed.host.paths, VM, DiskId::new(3)).is_some();
        assert!(trees == 0 || noted, "{what}");
        assert_eq!(bed.descriptor_of(3).container, None, "{what}");
        assert_eq!(bed.shown(), [] as [u32; 0], "{what}");
        assert_eq!(bed.host.root.plugged(), [] as [u32; 0], "{what}");
        bed.host.engine.heal();
        bed.host.root.fail(None);
        bed.attach(3).unwrap();
        assert_eq!((bed.shown(), bed.names().len()), (vec![3], 2), "{what}");
        bed.assert_journal_is_empty();
    };
    for call in 1..=3 {
        for failure in [Failure::Before(call), Failure::After(call)] {
            let bed = Bed::full();
            bed.deploy().unwrap();
            bed.host.engine.fail(failure);
            attach(&bed, &format!("engine {failure:?}"));
        }
    }
    for failure in [Failure::Before(1), Failure::After(1)] {
        let bed = Bed::full();
        bed.deploy().unwrap();
        bed.host.root.fail(Some(failure));
        attach(&bed, &format!("root {failure:?}"));
    }
}

#[test]
fn a_detach_that_is_refused_or_cut_off_leaves_the_disk_in_and_the_retry_takes_it_out() {
    let bed = Bed::full();
    bed.deploy().unwrap();
    bed.attach(1).unwrap();
    bed.host.root.busy(true);
    let error = bed.detach(1).unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    assert_eq!((bed.shown(), bed.host.root.plugged()), (vec![1], vec![1]));
    bed.host.root.busy(false);
    for failure in [Failure::Before(1), Failure::After(1)] {
        bed.host.root.fail(Some(failure));
        bed.detach(1).unwrap_err();
        bed.host.root.fail(None);
        assert_eq!((bed.shown(), bed.host.root.plugged()), (vec![1], vec![1]));
    }
    bed.detach(1).unwrap();
    assert_eq!((bed.shown(), bed.host.root.plugged()), (vec![], vec![]));
}

#[test]
fn a_detach_from_a_vm_that_has_ended_waits_until_its_disks_are_let_go_of() {
    let bed = Bed::full();
    bed.deploy().unwrap();
    bed.attach(1).unwrap();
    bed.end("shutdown").unwrap();
    bed.host.root.fail(Some(Failure::Before(1)));
    bed.detach(1).unwrap_err();
    assert_eq!(bed.shown(), [1], "what is not complete is not detached");
    bed.host.root.fail(None);
    bed.detach(1).unwrap();
    assert!(matches!(
        bed.host.root.asked()[..],
        [Request::SettleDisks { .. }]
    ));
    assert_eq!(bed.shown(), [] as [u32; 0]);
}

#[test]
fn what_cannot_be_attached_or_detached_is_refused_and_nothing_is_done() {
    let bed = Bed::full();
    let error = bed.attach(1).unwrap_err().to_string();
    assert!(error.contains("one-5 is not on this host"), "{error}");
    bed.deploy().unwrap();
    let path = bed.disk(9).display().to_string();
    for name in ["attach_disk", "detach_disk"] {
        let arguments = ["one-5", &path, "sdb", "1", "PFZN", "5", "node1"];
        let error = bed
            .act(name, &arguments, &hotplug(1))
            .unwrap_err()
            .to_string();
        assert!(error.contains("has no DISK 9"), "{error}");
        let none = action(&small(), HOTPLUG);
        let path = bed.disk(0).display().to_string();
        let arguments = ["one-5", &path, "sdb", "1", "PFZN", "5", "node1"];
        let error = bed.act(name, &arguments, &none).unwrap_err().to_string();
        assert!(error.contains("has no DISK 0"), "{error}");
    }
    fs::remove_file(bed.disk(1)).unwrap();
    let error = bed.attach(1).unwrap_err().to_string();
    assert!(error.contains("disk.1"), "{error}");
    assert_eq!(bed.shown(), [] as [u32; 0]);
    assert!(bed.host.root.asked().is_empty());
}

#[test]
fn a_swap_disk_is_an_allowance_that_comes_and_goes_with_it() {
    let bed = Bed::full();
    bed.deploy().unwrap();
    let swap = || bed.host.engine.containers()[0].info.limits.swap >> 20;
    assert_eq!(swap(), 0);
    bed.attach(2).unwrap();
    bed.attach(2).unwrap();
    assert_eq!(swap(), 32);
    bed.detach(2).unwrap();
    bed.detach(2).unwrap();
    assert_eq!(swap(), 0);
    assert!(bed.host.root.asked().is_empty());
}

#[test]
fn a_vm_that_a_dead_call_left_frozen_goes_on_with_the_next_action() {
    for name in ["attach_disk", "shutdown", "cancel", "reboot", "deploy"] {
        let bed = Bed::full();
        bed.deploy().unwrap();
        freezing::begin(&bed.host.paths, VM).unwrap();
        bed.host.engine.change("one-5", |c| c.info.paused = true);
        match name {
            "attach_disk" => bed.attach(1).map(drop),
            "deploy" => bed.deploy().map(drop),
            name => bed.end(name).map(drop),
        }
        .unwrap();
        assert!(!freezing::is_begun(&bed.host.paths, VM));
        assert!(!bed.host.engine.containers()[0].info.paused, "{name}");
    }
}
