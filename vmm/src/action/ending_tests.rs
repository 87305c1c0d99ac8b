//! What holds while a VM is started and ended: its lock, the process that hears its signal, the
//! host ends that OpenNebula's network drivers count, and whose container and document it is.

use std::time::Duration;

use onedock_common::VmId;
use onedock_common::engine::Engine as _;
use onedock_common::state::lock::VmLock;
use onedock_node::request::Request;
use tokio::time::timeout;

use super::Action;
use super::fake_node::{FakeNode, small};

const VM: VmId = VmId::new(5);

impl FakeNode {
    fn is_locked(&self) -> bool {
        VmLock::try_shared(&self.host.paths, VM).unwrap().is_none()
    }

    fn is_running(&self) -> bool {
        self.host.engine.containers()[0].info.running
    }

    /// Whether the VM is locked while `action` waits for its call of the engine.
    fn is_locked_during(&self, action: &str, arguments: &[&str], call: &'static str) -> bool {
        let arguments: Vec<_> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let action: Action = action.parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        self.host.engine.hang(Some(call));
        let locked = runtime.block_on(async {
            let document = || Ok(small().into_bytes());
            let mut running = Box::pin(action.run(&self.host, &arguments, document));
            let ended = timeout(Duration::from_millis(200), &mut running).await;
            assert!(ended.is_err(), "{call} was not called");
            self.is_locked()
        });
        self.host.engine.hang(None);
        locked
    }
}

#[test]
fn the_lock_is_held_until_the_engine_has_done_with_a_start_and_an_end() {
    let node = FakeNode::new();
    let file = node.system_dir.join("deployment.0").display().to_string();
    let deploy = [file.as_str(), "node1", "5", "node1"];
    let end = ["one-5", "node1", "5", "node1"];
    assert!(node.is_locked_during("deploy", &deploy, "start"));
    node.deploy().unwrap();
    for (action, call) in [
        ("shutdown", "stop"),
        ("reboot", "stop"),
        ("cancel", "kill"),
        ("reset", "kill"),
    ] {
        assert!(node.is_locked_during(action, &end, call), "{action}");
        assert!(!node.is_locked() && node.is_running(), "{action}");
    }
}

#[test]
fn a_frozen_vm_goes_on_before_it_is_told_to_end() {
    for (action, call) in [("shutdown", "stop"), ("reboot", "stop"), ("cancel", "kill")] {
        let node = FakeNode::new();
        node.deploy().unwrap();
        let id = node.descriptor().container.unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(node.host.engine.pause(&id)).unwrap();
        node.host.engine.heal();
        node.end(action).unwrap();
        let calls = node.host.engine.calls();
        let at = |name: &str| calls.iter().position(|call| *call == name);
        assert!(
            at("unpause").is_some() && at("unpause") < at(call),
            "{action}: {calls:?}"
        );
    }
}

#[test]
fn fault_19_and_attack_46_a_foreign_container_of_the_name_that_runs_is_not_ended() {
    for action in ["shutdown", "cancel"] {
        let node = FakeNode::new();
        node.host.engine.add(
            "one-5",
            [("org.opennebula.vm".to_owned(), "5".to_owned())].into(),
        );
        node.host.engine.change("one-5", |c| c.info.running = true);
        let notes = node.end(action).unwrap().notes;
        assert!(notes[0].contains("not on this host"), "{notes:?}");
        assert!(node.is_running(), "{action}");
    }
}

#[test]
fn a_deploy_with_the_document_of_another_vm_makes_nothing() {
    let node = FakeNode::new();
    let file = node.system_dir.join("deployment.0").display().to_string();
    let arguments = [file.as_str(), "node1", "6", "node1"];
    let error = node.act("deploy", &arguments, &small()).unwrap_err();
    assert!(
        error.to_string().contains("describes VM 5, not 6"),
        "{error}"
    );
    node.assert_nothing_left();
}

/// `clean` of OpenNebula's network drivers follows the answer and counts what is on the bridge.
#[test]
fn fault_51_an_end_waits_for_host_ends_and_says_which_device_of_another_has_their_name() {
    for action in ["shutdown", "cancel"] {
        let node = FakeNode::new();
        node.deploy().unwrap();
        let id = node.descriptor().container.unwrap();
        let mut spec = node.spec();
        // Of every machine there is one interface that stays.
        spec.nics[1].host = "lo".parse().unwrap();
        spec.write(&node.host.paths, &id).unwrap();
        let ends: Vec<_> = spec.nics.into_iter().map(|nic| nic.host).collect();
        let notes = node.end(action).unwrap().notes;
        assert!(
            notes[0].contains("a device that does not belong to it has the name of its NIC (lo)"),
            "{notes:?}"
        );
        let container = id;
        assert_eq!(
            node.host.root.requests(),
            [
                Request::Settle { vm: VM, container },
                Request::Unplug {
                    vm: VM,
                    host_ends: ends
                }
            ]
        );
        assert!(!node.is_running());
    }
    let node = FakeNode::new();
    node.deploy().unwrap();
    node.end("shutdown").unwrap();
    assert!(
        matches!(node.host.root.requests()[..], [Request::Settle { .. }]),
        "the kernel removes them"
    );
}
