//! The agent is ended by whatever may end it, and is back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake_node;

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use fake_node::{FakeNode, eventually, lives, noted};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What the issue of a killed agent asks for.
const MINUTE: Duration = Duration::from_secs(60);

fn end(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
    eventually(MINUTE, "it ends", || !lives(pid));
}

fn standby(node: &FakeNode) -> i32 {
    eventually(MINUTE, "there is a standby", || {
        noted(node, "standby").is_some_and(lives)
    });
    noted(node, "standby").unwrap()
}

/// Waits for another agent than `before`.
fn next_agent(node: &FakeNode, before: i32) -> i32 {
    let agent = || noted(node, "pid").filter(|pid| *pid != before && lives(*pid));
    eventually(MINUTE, "there is another agent", || agent().is_some());
    agent().unwrap()
}

#[test]
fn a_killed_agent_is_back_within_a_minute_and_tells_everything_again() {
    let node = FakeNode::new();
    node.engine.set(7, "running");
    node.start();
    node.monitord.expect(MINUTE, |m| m.kind == "BEACON_HOST");
    for (failures, signal) in [(1, Signal::SIGKILL), (2, Signal::SIGTERM)] {
        let (agent, waiting) = (node.pid(), standby(&node));
        end(agent, signal);
        node.monitord.all(Duration::from_millis(1));
        // Nothing is reported meanwhile.
        node.engine.set(7, "exited");
        let (state, _) = node.monitord.expect_both(
            MINUTE,
            |m| m.kind == "STATE_VM" && m.data.contains("SYNC_STATE=yes"),
            |m| m.kind == "SYSTEM_HOST",
        );
        assert!(
            state.data.contains("one-7\", STATE=\"POWEROFF\""),
            "{}",
            state.data
        );
        node.monitord.expect(MINUTE, |m| m.kind == "BEACON_HOST");
        assert_eq!(next_agent(&node, agent), waiting, "the standby");
        assert_eq!(node.pid(), waiting, "where OpenNebula reads it");
        let words = fs::read(format!("/proc/{waiting}/cmdline")).unwrap();
        assert!(words.starts_with(b"onedock-im\0resume\0"), "{words:?}");
        // One that fails again and again is started less and less often.
        let counted = format!("\0{failures}\0");
        assert!(words.ends_with(counted.as_bytes()), "{words:?}");
        node.engine.set(7, "running");
    }
}

#[test]
fn a_killed_standby_is_replaced_and_the_next_one_serves() {
    let node = FakeNode::new();
    node.start();
    let agent = node.pid();
    let first = standby(&node);
    end(first, Signal::SIGKILL);
    eventually(MINUTE, "another standby", || {
        noted(&node, "standby").is_some_and(|pid| pid != first && lives(pid))
    });
    assert_eq!(node.pid(), agent, "the agent goes on");
    end(agent, Signal::SIGKILL);
    next_agent(&node, agent);
}

#[test]
fn a_stopped_agent_stays_stopped_and_a_start_leaves_one_of_each() {
    let node = FakeNode::new();
    node.start();
    let (agent, waiting) = (node.pid(), standby(&node));
    node.start();
    assert!(!lives(agent) && !lives(waiting), "the former ones");
    let (agent, waiting) = (node.pid(), standby(&node));
    let out = node.run(&["stop", "onedock", "3", "host01"], "");
    assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
    assert!(!lives(agent) && !lives(waiting), "both have ended");
    let messages = || node.monitord.all(Duration::from_secs(3));
    messages();
    assert!(messages().is_empty(), "somebody still monitors");
    // Stopped while the standby has not yet taken its place.
    node.start();
    let (agent, waiting) = (node.pid(), standby(&node));
    end(agent, Signal::SIGKILL);
    assert!(
        node.run(&["stop", "onedock", "3", "h"], "")
            .status
            .success()
    );
    assert!(!lives(waiting));
    messages();
    assert!(messages().is_empty(), "somebody still monitors");
}

#[test]
fn another_folder_of_the_programs_has_its_files_beside_it() {
    let node = FakeNode::new();
    let remotes = node.dir.path().join("srv/one");
    let program = remotes.join("onedock/arch/onedock-im");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::write(remotes.join("VERSION"), "7.4.0").unwrap();
    fs::copy(env!("CARGO_BIN_EXE_onedock-im"), &program).unwrap();
    let run = |verb: &str| {
        let environment = node.command(&[]);
        let mut child =
            Command::new(&program)
                .args([verb, "onedock", "3", "host01"])
                .envs(environment.get_envs().filter_map(|(name, value)| {
                    (name != "ONEDOCK_ONE_DB").then_some((name, value?))
                }))
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let _ = stdin.write_all(node.config().as_bytes());
        drop(stdin);
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
    };
    run("start");
    let files = node.dir.path().join("srv/one_db");
    let pid = || {
        let plain = fs::read_to_string(files.join(".monitor_client.pid")).ok()?;
        plain.parse::<i32>().ok().filter(|pid| lives(*pid))
    };
    let agent = pid().unwrap();
    // The standby has the same folder, also when a synchronisation has replaced the program.
    fs::remove_file(&program).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_onedock-im"), &program).unwrap();
    eventually(MINUTE, "a standby", || {
        files.join("onedock-im-3.standby").exists()
    });
    end(agent, Signal::SIGKILL);
    eventually(MINUTE, "another agent", || {
        pid().is_some_and(|pid| pid != agent)
    });
    // A synchronisation's own way: another file takes the path in one step. Nobody ends the agent.
    let agent = pid().unwrap();
    let new = program.with_extension("new");
    fs::copy(env!("CARGO_BIN_EXE_onedock-im"), &new).unwrap();
    fs::rename(&new, &program).unwrap();
    let runs = |pid: i32| fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    eventually(MINUTE, "an agent of the new program", || {
        pid().is_some_and(|pid| pid != agent && runs(pid) == program)
    });
    run("stop");
    assert!(pid().is_none());
}
