//! Suspend, stop and restore.

use std::fs;

use onedock_common::engine::fake::Failure;
use onedock_common::opennebula::answer::Answer;
use onedock_node::request::Request;

use super::fake_node::{FakeNode, RECORDED, action, small, supported};

/// LCM_STATE of a `save` and a `restore`.
const STOP: u32 = 5;
const SUSPEND: u32 = 6;
const MIGRATE: u32 = 7;
const RESUME: u32 = 21;

impl FakeNode {
    fn save(&self, lcm_state: u32) -> anyhow::Result<Answer> {
        let checkpoint = self.checkpoint();
        let arguments = ["one-5", &checkpoint, "node1", "5", "node1"];
        self.act("save", &arguments, &action(RECORDED, lcm_state))
    }

    fn restore(&self, document: &str) -> anyhow::Result<Answer> {
        let checkpoint = self.checkpoint();
        let arguments = [checkpoint.as_str(), "node1", "one-5", "5", "node1"];
        self.act("restore", &arguments, &action(document, RESUME))
    }

    fn checkpoint(&self) -> String {
        self.system_dir.join("checkpoint").display().to_string()
    }
}

#[test]
fn a_suspended_vm_is_frozen_and_goes_on_where_it_was() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    node.save(SUSPEND).unwrap();
    node.save(SUSPEND).unwrap();
    assert_eq!(node.root_state(), (true, true, 1));
    let answer = node.restore(&small()).unwrap();
    assert!(answer.notes.is_empty(), "{answer:?}");
    node.assert_runs_once(1);
    assert!(!node.system_dir.join("checkpoint").exists());
    assert!(node.restore(&small()).unwrap().notes.is_empty());
    node.assert_runs_once(1);
}

#[test]
fn a_frozen_vm_whose_host_was_rebooted_is_started_and_the_loss_is_logged() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    node.save(SUSPEND).unwrap();
    node.host.engine.change("one-5", |c| {
        c.info.paused = false;
        c.info.running = false;
        c.info.exit_code = 137;
    });
    let answer = node.restore(&small()).unwrap();
    assert!(answer.notes[0].contains("its memory is lost"), "{answer:?}");
    node.assert_runs_once(2);
}

#[test]
fn a_stopped_vm_is_ended_with_its_disks_let_go_of_and_started_with_the_template_of_then() {
    for state in [STOP, MIGRATE] {
        let node = FakeNode::full();
        node.deploy_with(RECORDED).unwrap();
        node.save(state).unwrap();
        node.save(state).unwrap();
        assert_eq!(node.root_state(), (false, false, 1));
        assert!(matches!(
            node.host.root.requests()[0],
            Request::Settle { .. }
        ));
        let changed = supported().replace(
            "<IP><![CDATA[10.77.0.23]]></IP>",
            "<IP><![CDATA[10.77.0.99]]></IP>",
        );
        let answer = node.restore(&changed).unwrap();
        assert!(answer.notes.is_empty(), "{answer:?}");
        assert_eq!(node.root_state(), (true, false, 2));
        let spec = node.spec();
        assert_eq!(spec.nics[1].addresses[0].to_string(), "10.77.0.99/24");
        assert_eq!(node.booted_disks(), [1, 3, 4]);
    }
}

#[test]
fn a_save_or_restore_cut_off_at_any_call_leaves_the_vm_as_it_was_and_the_retry_works() {
    for failure in [Failure::Before(2), Failure::After(2)] {
        let node = FakeNode::new();
        node.deploy().unwrap();
        node.host.engine.fail(failure);
        node.save(SUSPEND).unwrap_err();
        assert_eq!(node.root_state(), (true, false, 1), "{failure:?}");
        assert!(!node.system_dir.join("checkpoint").exists());
        node.host.engine.heal();
        node.save(SUSPEND).unwrap();
        node.host.engine.fail(failure);
        node.restore(&small()).unwrap_err();
        node.host.engine.heal();
        node.restore(&small()).unwrap();
        node.assert_runs_once(1);
        node.host.engine.fail(failure);
        node.save(STOP).unwrap_err();
        node.host.engine.heal();
        node.save(STOP).unwrap();
        node.restore(&small()).unwrap();
        node.assert_runs_once(2);
    }
}

#[test]
fn a_damaged_checkpoint_keeps_no_vm_from_starting_and_one_that_ended_is_not_suspended() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    node.save(STOP).unwrap();
    let error = node.save(SUSPEND).unwrap_err().to_string();
    assert!(error.contains("nothing to suspend"), "{error}");
    fs::write(node.checkpoint(), "{").unwrap();
    let answer = node.restore(&small()).unwrap();
    assert!(answer.notes[0].contains("damaged"), "{answer:?}");
    node.assert_runs_once(2);
}

#[test]
fn a_suspended_vm_can_be_cancelled_and_its_devices_are_left_alone() {
    let node = FakeNode::full();
    node.deploy().unwrap();
    node.save(SUSPEND).unwrap();
    let path = node.disk(1).display().to_string();
    let arguments = ["one-5", &path, "sdb", "1", "PFZN", "5", "node1"];
    let text = super::fake_node::with_disk(RECORDED, 1, "<ATTACH><![CDATA[YES]]></ATTACH>");
    let error = node
        .act("attach_disk", &arguments, &action(&text, 17))
        .unwrap_err()
        .to_string();
    assert!(error.contains("is suspended"), "{error}");
    node.end("cancel").unwrap();
    assert_eq!(node.root_state(), (false, false, 1));
}
