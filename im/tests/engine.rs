//! The real program with a real Docker FakeEngine and a `monitord` that the test plays; needs root.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake_node;

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use fake_node::FakeNode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onedock_tests::engine_server::{Options, PrivateEngine};

/// A machine may be busy; how soon a state is reported is measured by `make bench`.
const SOON: Duration = Duration::from_secs(60);

fn create(engine: &PrivateEngine, vm: u32) {
    let (name, label) = (format!("one-{vm}"), format!("org.opennebula.vm={vm}"));
    let words = [
        "create",
        "--network",
        "none",
        "--name",
        &name,
        "--label",
        "org.opennebula.driver=onedock",
        "--label",
        "org.opennebula.disk=0",
        "--label",
        &label,
        "box:1",
    ];
    engine.docker(&words).unwrap();
}

#[test]
fn a_vm_that_starts_and_ends_by_hand_is_reported_with_its_exit_code_and_disk_size() {
    let engine = PrivateEngine::start(Options::default()).unwrap();
    let command = "CMD [\"/bin/sh\", \"-c\", \"echo ready; /bin/sleep 1000\"]";
    engine.busybox("box:1", &[command]).unwrap();
    let node = FakeNode::with_engine(engine.socket());
    create(&engine, 7);
    let first = node.start();
    assert!(
        first["SYSTEM_HOST"].contains("HYPERVISOR=docker\n"),
        "{}",
        first["SYSTEM_HOST"]
    );
    node.monitord.expect(SOON, |m| m.kind == "BEACON_HOST");

    engine.docker(&["start", "one-7"]).unwrap();
    node.monitord.state(SOON, "one-7\", STATE=\"RUNNING\"");
    // Sizes are measured seldom, unless somebody asks. Nothing was written to the layer, of which
    // the engine tells no size.
    kill(Pid::from_raw(node.pid()), Signal::SIGUSR1).unwrap();
    let size = "DISK_SIZE = [ ID=0, SIZE=0]";
    node.monitord.expect(SOON, |m| {
        m.kind == "MONITOR_VM" && decoded(&m.data).iter().any(|text| text.contains(size))
    });

    engine
        .docker(&["kill", "--signal", "KILL", "one-7"])
        .unwrap();
    node.monitord.state(SOON, "one-7\", STATE=\"POWEROFF\"");
    node.monitord.expect(SOON, |m| {
        m.kind == "MONITOR_VM"
            && decoded(&m.data).iter().any(|text| {
                text.contains("EXIT_CODE=\"137\"") && text.contains("EXIT_OUTPUT=\"ready\"")
            })
    });

    // A second one beside it, and the first again.
    create(&engine, 8);
    engine.docker(&["start", "one-7", "one-8"]).unwrap();
    node.monitord.expect(SOON, |m| {
        m.kind == "STATE_VM"
            && ["7", "8"]
                .iter()
                .all(|vm| m.data.contains(&format!("one-{vm}\", STATE=\"RUNNING\"")))
    });
    engine.docker(&["rm", "--force", "one-8"]).unwrap();
    let state = node.monitord.state(SOON, "one-8\", STATE=\"POWEROFF\"");
    assert!(
        !state.data.contains("one-7\", STATE=\"POWEROFF\""),
        "{}",
        state.data
    );

    // `monitord` takes an attribute back only by a VM's first record in a message.
    let first = node.start();
    let records = decoded(&first["MONITOR_VM"]);
    assert_eq!(records.len(), 2, "{records:?}");
    assert!(records[0].starts_with("EXIT_CODE = [  ]"), "{records:?}");
    assert!(records[1].contains("MEMORY="), "{records:?}");
}

/// The metrics of the VMs of a message.
fn decoded(data: &str) -> Vec<String> {
    data.lines()
        .filter_map(|line| line.split_once("MONITOR=\"")?.1.split('"').next())
        .filter_map(|text| String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok())
        .collect()
}
