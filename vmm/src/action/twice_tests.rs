//! Every action twice at once, in two threads, with the VM's real lock: both succeed, and what is
//! left is what one of them alone leaves. The engine and root are in memory.

use std::fs;
use std::sync::Barrier;
use std::thread;

use onedock_common::opennebula::answer::Answer;
use onedock_node::request::Request;

use super::fake_node::{FakeNode, RECORDED, action, small, supported};

/// Two actions get in one another's way in some rounds only.
const ROUNDS: u32 = 20;
/// LCM_STATE of a `save` for a suspended VM, and of its `restore`.
const SUSPEND: u32 = 6;
const RESUME: u32 = 21;

type Done = anyhow::Result<Answer>;

impl FakeNode {
    /// Runs both at the same moment; both must succeed.
    fn at_once(&self, one: impl Fn(&Self) -> Done + Sync, other: impl Fn(&Self) -> Done + Sync) {
        let barrier = Barrier::new(2);
        let (one, other) = thread::scope(|scope| {
            let first = scope.spawn(|| {
                barrier.wait();
                one(self)
            });
            let second = scope.spawn(|| {
                barrier.wait();
                other(self)
            });
            (first.join().unwrap(), second.join().unwrap())
        });
        one.unwrap();
        other.unwrap();
    }

    fn assert_stopped_once(&self) {
        let containers = self.host.engine.containers();
        assert_eq!(containers.len(), 1, "{containers:?}");
        let root = &containers[0];
        assert!(
            !root.info.running && !root.info.paused && root.starts == 1,
            "{root:?}"
        );
        assert_eq!(self.descriptor().container.as_ref(), Some(&root.info.id));
    }

    fn suspend(&self) -> Done {
        let checkpoint = self.system_dir.join("checkpoint").display().to_string();
        let arguments = ["one-5", &checkpoint, "node1", "5", "node1"];
        self.act("save", &arguments, &action(RECORDED, SUSPEND))
    }

    fn resume(&self) -> Done {
        let checkpoint = self.system_dir.join("checkpoint").display().to_string();
        let arguments = [checkpoint.as_str(), "node1", "one-5", "5", "node1"];
        self.act("restore", &arguments, &action(&small(), RESUME))
    }
}

#[test]
fn two_deploys_make_and_start_one_container() {
    for _ in 0..ROUNDS {
        let node = FakeNode::new();
        node.at_once(FakeNode::deploy, FakeNode::deploy);
        node.assert_runs_once(1);
        // As on a VM that was powered off.
        node.end("shutdown").unwrap();
        node.at_once(FakeNode::deploy, FakeNode::deploy);
        node.assert_runs_once(2);
    }
}

#[test]
fn a_shutdown_and_a_cancel_in_any_pair_end_the_vm_once() {
    for _ in 0..ROUNDS {
        for (one, other) in [
            ("shutdown", "shutdown"),
            ("shutdown", "cancel"),
            ("cancel", "cancel"),
        ] {
            let node = FakeNode::new();
            node.deploy().unwrap();
            node.at_once(|node| node.end(one), |node| node.end(other));
            node.assert_stopped_once();
        }
    }
}

#[test]
fn a_cancel_during_a_deploy_leaves_one_container_and_the_next_actions_work() {
    for _ in 0..ROUNDS {
        let node = FakeNode::new();
        node.at_once(FakeNode::deploy, |node| node.end("cancel"));
        assert!(node.host.engine.containers().len() <= 1);
        node.end("cancel").unwrap();
        node.assert_stopped_once();
    }
}

#[test]
fn two_suspends_freeze_once_and_two_resumes_go_on_once() {
    for _ in 0..ROUNDS {
        let node = FakeNode::new();
        node.deploy().unwrap();
        node.at_once(FakeNode::suspend, FakeNode::suspend);
        let containers = node.host.engine.containers();
        assert!(containers[0].info.running && containers[0].info.paused);
        node.at_once(FakeNode::resume, FakeNode::resume);
        node.assert_runs_once(1);
        assert!(!node.system_dir.join("checkpoint").exists());
    }
}

#[test]
fn two_resets_leave_one_running_container() {
    for _ in 0..ROUNDS {
        for name in ["reboot", "reset"] {
            let node = FakeNode::new();
            node.deploy().unwrap();
            node.at_once(|node| node.end(name), |node| node.end(name));
            let containers = node.host.engine.containers();
            assert_eq!(containers.len(), 1, "{containers:?}");
            assert!(containers[0].info.running && !containers[0].info.paused);
        }
    }
}

#[test]
fn two_attaches_plug_the_disk_once_and_two_detaches_take_it_out_once() {
    for _ in 0..ROUNDS {
        let node = FakeNode::full();
        node.deploy().unwrap();
        for (disk, containers) in [(1, 1), (3, 2)] {
            node.at_once(|node| node.attach(disk), |node| node.attach(disk));
            assert_eq!(
                (node.booted_disks(), node.host.root.plugged()),
                (vec![disk], vec![disk])
            );
            assert_eq!(
                node.names().len(),
                containers,
                "of a further image one tree"
            );
            node.assert_journal_is_empty();
            node.at_once(|node| node.detach(disk), |node| node.detach(disk));
            assert_eq!(
                (node.booted_disks(), node.host.root.plugged()),
                (vec![], vec![])
            );
            node.assert_journal_is_empty();
        }
    }
}

#[test]
fn an_attach_of_two_disks_at_once_shows_both() {
    for _ in 0..ROUNDS {
        let node = FakeNode::full();
        node.deploy().unwrap();
        node.at_once(|node| node.attach(1), |node| node.attach(4));
        let mut shown = node.booted_disks();
        shown.sort_unstable();
        assert_eq!((shown, node.host.root.plugged()), (vec![1, 4], vec![1, 4]));
    }
}

#[test]
fn two_resizes_set_the_capacity_once() {
    for _ in 0..ROUNDS {
        let node = FakeNode::new();
        node.deploy().unwrap();
        node.host.engine.heal();
        node.at_once(|node| node.resize("512"), |node| node.resize("512"));
        let calls = node.host.engine.calls();
        assert_eq!(calls.iter().filter(|call| **call == "limit").count(), 1);
        assert_eq!(
            node.host.engine.containers()[0].info.limits.memory,
            512 << 20
        );
        node.assert_runs_once(1);
    }
}

#[test]
fn two_resizes_of_a_disk_leave_it_in_the_new_size() {
    for _ in 0..ROUNDS {
        let node = FakeNode::full();
        node.deploy_with(&supported()).unwrap();
        node.at_once(
            |node| node.resize_disk("1", "80"),
            |node| node.resize_disk("1", "80"),
        );
        assert_eq!(fs::metadata(node.disk(1)).unwrap().len(), 80 << 20);
        let grown: Vec<Request> = node.host.root.requests();
        let sizes = grown.iter().filter_map(|asked| match asked {
            Request::GrowDisk { size_mib, .. } => Some(*size_mib),
            _ => None,
        });
        assert!(sizes.into_iter().all(|size| size == 80));
        assert_eq!(node.booted_disks(), [1, 3, 4]);
    }
}
