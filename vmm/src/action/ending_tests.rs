//! What holds while a VM is started and ended: its lock, the process that hears its signal, the
//! host ends that OpenNebula's network drivers count, and whose container and document it is.

use std::time::Duration;

use onedock_common::VmId;
use onedock_common::engine::Engine as _;
use onedock_common::state::lock::VmLock;
use onedock_node::request::Request;
use tokio::time::timeout;

use super::Action;
use super::bed::{Bed, small};

const VM: VmId = VmId::new(5);

impl Bed {
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
    let bed = Bed::new();
    let file = bed.system_dir.join("deployment.0").display().to_string();
    let deploy = [file.as_str(), "node1", "5", "node1"];
    let end = ["one-5", "node1", "5", "node1"];
    assert!(bed.is_locked_during("deploy", &deploy, "start"));
    bed.deploy().unwrap();
    for (action, call) in [
        ("shutdown", "stop"),
        ("reboot", "stop"),
        ("cancel", "kill"),
        ("reset", "kill"),
    ] {
        assert!(bed.is_locked_during(action, &end, call), "{action}");
        assert!(!bed.is_locked() && bed.is_running(), "{action}");
    }
}

#[test]
fn a_frozen_vm_goes_on_before_it_is_told_to_end() {
    for (action, call) in [("shutdown", "stop"), ("reboot", "stop"), ("cancel", "kill")] {
        let bed = Bed::new();
        bed.deploy().unwrap();
        let id = bed.descriptor().container.unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(bed.host.engine.pause(&id)).unwrap();
        bed.host.engine.heal();
        bed.end(action).unwrap();
        let calls = bed.host.engine.calls();
        let at = |name: &str| calls.iter().position(|call| *call == name);
        assert!(
            at("unpause").is_some() && at("unpause") < at(call),
            "{action}: {calls:?}"
        );
    }
}

#[test]
fn fault_19_a_foreign_container_of_the_name_that_runs_is_not_ended() {
    for action in ["shutdown", "cancel"] {
        let bed = Bed::new();
        bed.host.engine.add(
            "one-5",
            [("org.opennebula.vm".to_owned(), "5".to_owned())].into(),
        );
        bed.host.engine.change("one-5", |c| c.info.running = true);
        let notes = bed.end(action).unwrap().notes;
        assert!(notes[0].contains("not on this host"), "{notes:?}");
        assert!(bed.is_running(), "{action}");
    }
}

#[test]
fn a_deploy_with_the_document_of_another_vm_makes_nothing() {
    let bed = Bed::new();
    let file = bed.system_dir.join("deployment.0").display().to_string();
    let arguments = [file.as_str(), "node1", "6", "node1"];
    let error = bed.act("deploy", &arguments, &small()).unwrap_err();
    assert!(
        error.to_string().contains("describes VM 5, not 6"),
        "{error}"
    );
    bed.assert_nothing_left();
}

/// `clean` of OpenNebula's network drivers follows the answer and counts what is on the bridge.
#[test]
fn a_vm_has_not_ended_while_a_host_end_of_it_is_there() {
    for action in ["shutdown", "cancel"] {
        let bed = Bed::new();
        bed.deploy().unwrap();
        let id = bed.descriptor().container.unwrap();
        let mut spec = bed.spec();
        // Of every machine there is one interface that stays.
        spec.nics[1].host = "lo".parse().unwrap();
        spec.write(&bed.host.paths, &id).unwrap();
        let ends: Vec<_> = spec.nics.into_iter().map(|nic| nic.host).collect();
        let error = bed.end(action).unwrap_err().to_string();
        assert!(
            error.contains("host interface lo is still there"),
            "{error}"
        );
        assert_eq!(
            bed.host.root.asked(),
            [Request::Unplug {
                vm: VM,
                host_ends: ends
            }]
        );
        assert!(!bed.is_running());
    }
    let bed = Bed::new();
    bed.deploy().unwrap();
    bed.end("shutdown").unwrap();
    assert!(bed.host.root.asked().is_empty(), "the kernel removes them");
}
