//! The real program: started, spoken to, replaced and stopped, with an engine and a `monitord`
//! that the test plays.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake_node;

use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use fake_node::{Behaviour, FakeNode, Message, lives};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onedock_common::VmId;
use onedock_common::state::lock::VmLock;

const SOON: Duration = Duration::from_secs(30);

fn monitor(data: &str, vm: u32) -> Option<String> {
    let line = data
        .lines()
        .find(|l| l.starts_with(&format!("VM = [ ID=\"{vm}\"")))?;
    let (_, b64) = line.split_once("MONITOR=\"")?;
    let plain = BASE64_STANDARD.decode(b64.split('"').next()?).unwrap();
    Some(String::from_utf8(plain).unwrap())
}

#[test]
fn a_start_answers_with_all_probes_and_leaves_a_detached_agent_that_sends() {
    let node = FakeNode::new();
    node.engine.set(7, "running");
    let first = node.start();
    assert!(first["SYSTEM_HOST"].contains("HYPERVISOR=docker\nTOTALCPU="));
    assert!(first["SYSTEM_HOST"].contains("DOCKER_STORAGE=\"overlay2\""));
    assert!(first["SYSTEM_HOST"].contains("DS_LOCATION_FREE_MB="));
    assert!(first["MONITOR_HOST"].contains("FREECPU="));
    assert_eq!(
        first["STATE_VM"],
        "SYNC_STATE=yes\nMISSING_STATE=POWEROFF\nVM = [ ID=\"7\", DEPLOY_ID=\"one-7\", STATE=\"RUNNING\" ]"
    );
    assert_eq!(first["EXEC_VM"], "");
    // `monitord` takes an attribute back only by a VM's first record in a message.
    let record = monitor(&first["MONITOR_VM"], 7).unwrap();
    assert!(record.starts_with("EXIT_CODE"), "{record}");
    let pid = node.pid();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session = stat
        .rsplit_once(") ")
        .unwrap()
        .1
        .split(' ')
        .nth(3)
        .unwrap()
        .to_owned();
    assert_eq!(session, pid.to_string(), "a session of its own");
    for fd in 0..3 {
        let to = fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
        assert_eq!(to.to_str(), Some("/dev/null"));
    }
    let beacon = node.monitord.expect(SOON, |m| m.kind == "BEACON_HOST");
    assert_eq!((beacon.transport, beacon.host), ("udp", 3));
    assert!(beacon.data.parse::<u64>().unwrap() > 1_700_000_000);
    node.monitord.expect(SOON, |m| {
        m.kind == "MONITOR_HOST" && m.data.contains("USEDCPU=")
    });
    let sync = node
        .monitord
        .state(Duration::from_secs(12), "SYNC_STATE=yes");
    assert_eq!(sync.transport, "tcp");
    assert!(sync.data.contains("one-7"));
    let db = node.dir.path().join("one_db");
    assert_eq!(
        fs::read_to_string(db.join("config")).unwrap(),
        node.config()
    );
    assert!(
        fs::read_to_string(db.join("etc/monitord.conf"))
            .unwrap()
            .contains("STATE_VM       = 5")
    );
}

#[test]
fn changes_are_told_at_once_with_how_a_vm_ended() {
    let node = FakeNode::new();
    node.engine.set(7, "running");
    node.engine.set(9, "running");
    node.start();
    node.monitord.expect(SOON, |m| m.kind == "BEACON_HOST");
    node.engine.set(8, "running");
    node.monitord.state(SOON, "\"one-8\", STATE=\"RUNNING\"");
    node.engine.set(7, "exited");
    let reports = |m: &Message, text: &str| m.kind == "STATE_VM" && m.data.contains(text);
    let (_, how) = node.monitord.expect_both(
        SOON,
        |m| reports(m, "\"one-7\", STATE=\"POWEROFF\""),
        |m| {
            m.kind == "MONITOR_VM"
                && monitor(&m.data, 7).is_some_and(|text| text.starts_with("EXIT_CODE=\""))
        },
    );
    assert_eq!(
        monitor(&how.data, 7).unwrap(),
        "EXIT_CODE=\"3\"\nOOM_KILLED=\"NO\"\nEXIT_OUTPUT=\"out of 'x'\"\n"
    );
    node.engine.set(7, "running");
    node.monitord.expect_both(
        SOON,
        |m| reports(m, "\"one-7\", STATE=\"RUNNING\""),
        |m| {
            m.kind == "MONITOR_VM"
                && monitor(&m.data, 7).is_some_and(|text| text.contains("EXIT_CODE = [  ]\n"))
        },
    );
    node.engine.remove(9);
    node.monitord.state(SOON, "\"one-9\", STATE=\"POWEROFF\"");
}

#[test]
fn an_event_of_the_engine_leads_to_a_report_long_before_the_next_look_is_due() {
    let node = FakeNode::new();
    node.engine.set(7, "running");
    let mut config = node.config();
    for name in ["MONITOR_HOST", "MONITOR_VM", "STATE_VM", "SYNC_STATE_VM"] {
        for short in [2, 5, 6] {
            let period = |seconds| format!("<{name}>{seconds}</{name}>");
            config = config.replace(&period(short), &period(600));
        }
    }
    node.start_with(&config);
    // Until the agent relies on the engine's events it looks every second.
    let looks = || {
        let requests = node.engine.requests();
        let lists = requests.iter().filter(|r| r.contains("/containers/json"));
        lists.count()
    };
    let mut before = 0;
    while looks() != before {
        before = looks();
        assert!(before < 20, "it does not rely on events");
        node.monitord.all(Duration::from_secs(3));
    }
    node.engine.set(8, "running");
    node.monitord.state(SOON, "\"one-8\", STATE=\"RUNNING\"");
}

fn nobody_is_powered_off_by(behaviour: Behaviour) {
    let node = FakeNode::new();
    node.engine.set(7, "running");
    node.start();
    node.monitord.expect(SOON, |m| m.kind == "BEACON_HOST");
    node.engine.behaviour(behaviour);
    node.engine.remove(7);
    let system = node
        .monitord
        .expect(Duration::from_secs(15), |m| m.kind == "SYSTEM_HOST");
    assert!(
        system.data.contains("ONEDOCK_ENGINE=\"the Docker engine"),
        "{}",
        system.data
    );
    let meanwhile = node.monitord.all(Duration::from_secs(7));
    assert!(
        meanwhile.iter().all(|m| m.kind != "STATE_VM"),
        "{behaviour:?} {meanwhile:#?}"
    );
    assert!(
        meanwhile.iter().any(|m| m.kind == "BEACON_HOST"),
        "the host itself is alive"
    );
    node.engine.set(7, "running");
    node.engine.behaviour(Behaviour::Answers);
    let back = node.monitord.state(SOON * 2, "SYNC_STATE=yes");
    assert!(
        back.data.contains("one-7\", STATE=\"RUNNING\""),
        "{}",
        back.data
    );
}

#[test]
fn fault_40_an_engine_that_hangs_powers_nobody_off() {
    nobody_is_powered_off_by(Behaviour::Hangs);
}

#[test]
fn fault_38_an_engine_that_is_restarting_powers_nobody_off() {
    nobody_is_powered_off_by(Behaviour::Closes);
}

#[test]
fn attack_44_an_engine_that_answers_nonsense_powers_nobody_off() {
    nobody_is_powered_off_by(Behaviour::Garbles);
}

#[test]
fn a_start_while_the_engine_is_silent_succeeds_and_says_nothing_of_vms() {
    let node = FakeNode::new();
    node.engine.set(7, "running");
    node.engine.behaviour(Behaviour::Closes);
    let first = node.start();
    assert_eq!(
        (first["STATE_VM"].as_str(), first["MONITOR_VM"].as_str()),
        ("", "")
    );
    assert!(first["SYSTEM_HOST"].contains("ONEDOCK_ENGINE=\"the Docker engine"));
    node.engine.behaviour(Behaviour::Answers);
    node.monitord.state(SOON, "SYNC_STATE=yes");
}

#[test]
fn fault_59_a_vm_in_action_is_in_the_full_list_and_its_state_in_no_report() {
    let node = FakeNode::new();
    node.engine.set(7, "running");
    let held = VmLock::acquire(&node.paths(), VmId::new(7), Duration::ZERO).unwrap();
    let deploying = VmLock::acquire(&node.paths(), VmId::new(8), Duration::ZERO).unwrap();
    let first = node.start();
    for vm in ["7", "8"] {
        let record = format!("VM = [ ID=\"{vm}\", DEPLOY_ID=\"one-{vm}\", STATE=\"UNKNOWN\" ]");
        assert!(first["STATE_VM"].contains(&record), "{first:?}");
    }
    node.engine.set(7, "exited");
    let meanwhile = node.monitord.all(Duration::from_secs(8));
    let states: Vec<_> = meanwhile.iter().filter(|m| m.kind == "STATE_VM").collect();
    assert!(!states.is_empty(), "the full list goes on");
    assert!(
        states
            .iter()
            .all(|m| m.data.contains("one-7\", STATE=\"UNKNOWN\"")),
        "{states:#?}"
    );
    drop((held, deploying));
    node.monitord.state(SOON, "one-7\", STATE=\"POWEROFF\"");
}

#[test]
fn fault_61_a_second_start_replaces_the_first_and_stop_ends_it() {
    let node = FakeNode::new();
    node.start();
    let first = node.pid();
    node.start();
    let second = node.pid();
    assert!(first != second && !lives(first) && lives(second));
    let out = node.run(&["stop", "onedock", "3", "host01"], "");
    assert!(
        out.status.success() && out.stdout.is_empty() && out.stderr.is_empty(),
        "{out:?}"
    );
    assert!(!lives(second));
    assert!(!node.dir.path().join("one_db/.monitor_client.pid").exists());
    assert!(
        node.run(&["stop", "onedock", "3", "host01"], "")
            .status
            .success(),
        "stopped already"
    );
}

#[test]
fn sigusr1_makes_the_host_s_probes_run_at_once() {
    let node = FakeNode::new();
    node.start();
    node.monitord.expect(SOON, |m| m.kind == "BEACON_HOST");
    kill(Pid::from_raw(node.pid()), Signal::SIGUSR1).unwrap();
    node.monitord
        .expect(Duration::from_secs(2), |m| m.kind == "SYSTEM_HOST");
}

#[test]
fn what_cannot_start_says_why_in_one_line_and_leaves_no_agent() {
    let node = FakeNode::new();
    let config = node.config();
    for (args, input, says) in [
        (
            ["start", "onedock", "4", "h"],
            config.clone(),
            "HOST_ID in MONITOR_CONFIGURATION is 3",
        ),
        (["start", "onedock", "x", "h"], config.clone(), "host id"),
        (
            ["start", "onedock", "3", "h"],
            String::new(),
            "MONITOR_CONFIGURATION",
        ),
        (
            ["start", "onedock", "3", "h"],
            config.replace("auto", "no.such.name.invalid"),
            "MONITOR_ADDRESS",
        ),
    ] {
        let out = node.run(&args, &input);
        let error = String::from_utf8(out.stderr).unwrap();
        assert!(!out.status.success() && out.stdout.is_empty());
        assert!(
            error.contains(says) && error.trim_end().lines().count() == 1,
            "{error}"
        );
    }
    let out = node
        .command(&["start", "onedock", "3", "h"])
        .env_remove("SSH_CLIENT")
        .spawn()
        .map(|mut child| {
            use std::io::Write;
            child
                .stdin
                .take()
                .unwrap()
                .write_all(config.as_bytes())
                .unwrap();
            child.wait_with_output().unwrap()
        });
    assert!(
        String::from_utf8(out.unwrap().stderr)
            .unwrap()
            .contains("SSH_CLIENT")
    );
    let pid = fs::read_to_string(node.dir.path().join("one_db/.monitor_client.pid"));
    assert!(
        pid.ok()
            .and_then(|p| p.parse().ok())
            .is_none_or(|p| !lives(p))
    );
}

#[test]
fn a_vm_state_that_monitord_did_not_take_is_told_when_it_is_back() {
    let mut node = FakeNode::new();
    node.engine.set(7, "running");
    let config = node.config();
    // A port on which nobody listens, taken over later.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let other = config.replace(
        &format!("<PORT>{}<", node.monitord.port),
        &format!("<PORT>{port}<"),
    );
    assert!(
        node.run(&["start", "onedock", "3", "h"], &other)
            .status
            .success()
    );
    node.engine.set(7, "exited");
    assert!(node.monitord.all(Duration::from_secs(2)).is_empty());
    node.monitord = fake_node::Monitord::on(port);
    let state = node
        .monitord
        .state(Duration::from_secs(20), "SYNC_STATE=yes");
    assert!(
        state.data.contains("one-7\", STATE=\"POWEROFF\""),
        "{}",
        state.data
    );
}

#[test]
fn a_probe_prints_its_plain_records_once() {
    let node = FakeNode::new();
    node.engine.set(7, "running");
    let print = |probe: &str| {
        let out = node.run(&["probe", probe, "3"], "");
        assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
        String::from_utf8(out.stdout).unwrap()
    };
    assert!(print("host").contains("\nFREECPU="));
    assert!(print("system").contains("\nTOTALMEMORY="));
    assert!(
        print("state").ends_with("VM = [ ID=\"7\", DEPLOY_ID=\"one-7\", STATE=\"RUNNING\" ]\n")
    );
    assert_eq!(print("vm"), "");
    node.engine.behaviour(Behaviour::Closes);
    let out = node.run(&["probe", "state", "3"], "");
    assert!(!out.status.success() && out.stdout.is_empty());
    let error = String::from_utf8(out.stderr).unwrap();
    assert!(error.starts_with("the Docker engine"), "{error}");
}
