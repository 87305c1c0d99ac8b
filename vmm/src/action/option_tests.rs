//! Options of Docker over the life of a VM.

use std::path::Path;

use onedock_common::options::policy::Policy;
use onedock_common::state::boot::FirstProcess;

use super::fake_node::{FakeNode, action, small, with_disk};

fn asking(section: &str) -> String {
    let text = small();
    assert!(text.contains("<LOGO>"));
    text.replacen("<LOGO>", &format!("<DOCKER>{section}</DOCKER><LOGO>"), 1)
}

fn policy(text: &str) -> Policy {
    Policy::parse(text, Path::new("/p")).unwrap()
}

fn allowing() -> FakeNode {
    let mut node = FakeNode::new();
    node.host.policy = policy("[default]\nallow = [\"*\"]");
    node
}

#[test]
fn what_a_template_asks_is_in_the_container_and_in_its_boot_spec() {
    let node = allowing();
    let text = asking(
        "<COMMAND>date -u</COMMAND><ENV>A=1</ENV><PRIVILEGED>YES</PRIVILEGED><KEEPALIVE>YES</KEEPALIVE>",
    );
    node.deploy_with(&text).unwrap();
    let spec = node.spec();
    assert_eq!(spec.args, ["date", "-u"]);
    assert_eq!(spec.first, FirstProcess::KeepAlive);
    assert_eq!(spec.environment, ["A=1".parse().unwrap()]);
    let label = &node.host.engine.containers()[0].info.labels["org.opennebula.options"];
    assert_eq!(label, "{\"body\":{},\"host\":{\"Privileged\":true}}");
}

#[test]
fn a_forbidden_option_makes_nothing_and_that_of_a_further_disk_is_not_asked() {
    let node = FakeNode::new();
    let error = node
        .deploy_with(&asking("<PRIVILEGED>YES</PRIVILEGED>"))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("DOCKER/PRIVILEGED is not allowed"),
        "{error}"
    );
    node.assert_nothing_left();
    let own = "<DOCKER_OPTIONS>{\"Env\": [\"A=own\"]}</DOCKER_OPTIONS>";
    node.deploy_with(&with_disk(&small(), 0, own)).unwrap();
    assert_eq!(node.spec().environment, ["A=own".parse().unwrap()]);
    let node = FakeNode::full();
    let foreign = "<DOCKER_OPTIONS>{\"Cmd\": [\"evil\"]}</DOCKER_OPTIONS>";
    let text = with_disk(&super::fake_node::supported(), 3, foreign);
    node.deploy_with(&text).unwrap();
    assert_eq!(node.spec().args, ["httpd"]);
}

#[test]
fn a_powered_off_vm_loses_capabilities_with_its_next_start_and_keeps_no_other_right() {
    let node = allowing();
    node.deploy_with(&asking(
        "<CAP_ADD>NET_ADMIN</CAP_ADD><SHM_SIZE>2m</SHM_SIZE>",
    ))
    .unwrap();
    node.end("shutdown").unwrap();
    let answer = node
        .deploy_with(&asking("<SHM_SIZE>4m</SHM_SIZE>"))
        .unwrap();
    assert_eq!(
        node.spec().drop_capabilities,
        ["NET_ADMIN".parse().unwrap()]
    );
    assert!(
        answer.notes.iter().any(|note| note.ends_with(": ShmSize")),
        "{answer:?}"
    );
    node.end("shutdown").unwrap();
    node.deploy_with(&asking(
        "<CAP_ADD>NET_ADMIN</CAP_ADD><SHM_SIZE>2m</SHM_SIZE>",
    ))
    .unwrap();
    assert!(node.spec().drop_capabilities.is_empty());

    node.end("shutdown").unwrap();
    let answer = node.deploy_with(&asking(
        "<CAP_ADD>NET_ADMIN</CAP_ADD><SHM_SIZE>2m</SHM_SIZE><TERMINAL>NO</TERMINAL>",
    ));
    let notes = answer.unwrap().notes;
    assert!(
        notes.iter().any(|note| note.ends_with(": Tty")),
        "{notes:?}"
    );

    let node = allowing();
    node.deploy_with(&asking("<PRIVILEGED>YES</PRIVILEGED>"))
        .unwrap();
    node.end("shutdown").unwrap();
    let error = node.deploy().unwrap_err().to_string();
    assert!(error.contains("made with the option Privileged"), "{error}");
    assert_eq!(node.root_state(), (false, false, 1));
    node.deploy_with(&asking("<PRIVILEGED>YES</PRIVILEGED>"))
        .unwrap();
}

#[test]
fn a_reboot_gives_no_right_that_a_start_would_not_give() {
    let mut node = allowing();
    let text = asking("<CAP_ADD>NET_ADMIN</CAP_ADD>");
    node.deploy_with(&text).unwrap();
    let arguments = ["one-5", "node1", "5", "node1"];
    node.host.policy = policy("");
    for reboot in ["reboot", "reset"] {
        let error = node.act(reboot, &arguments, &action(&text, 3)).unwrap_err();
        assert!(
            error.to_string().contains("CAP_ADD is not allowed"),
            "{error}"
        );
        assert_eq!(node.root_state(), (true, false, 1));
    }
    node.act("reboot", &arguments, &action(&small(), 3))
        .unwrap();
    assert_eq!(
        node.spec().drop_capabilities,
        ["NET_ADMIN".parse().unwrap()]
    );
}

#[test]
fn a_running_vm_is_resized_and_reconfigured_whatever_its_template_asks_now() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    let document = action(&asking("<FOO>1</FOO>"), 3);
    let answer = node
        .act("resize", &["one-5", "node1", "5", "node1"], &document)
        .unwrap();
    assert!(
        answer.notes[0].contains("FOO is not an option"),
        "{answer:?}"
    );
    let path = node.disk(5).display().to_string();
    let answer = node
        .act(
            "reconfigure",
            &["one-5", "sdd", &path, "5", "node1"],
            &document,
        )
        .unwrap();
    assert!(
        answer.notes[0].contains("FOO is not an option"),
        "{answer:?}"
    );
}

#[test]
fn a_container_of_a_call_that_was_cut_off_is_made_anew_with_other_options() {
    let node = allowing();
    node.deploy_with(&asking("<PRIVILEGED>YES</PRIVILEGED>"))
        .unwrap();
    node.host.engine.change("one-5", |container| {
        container.info.running = false;
        container.info.started_before = false;
    });
    node.deploy().unwrap();
    assert_eq!(node.host.engine.containers().len(), 1);
    let label = &node.host.engine.containers()[0].info.labels["org.opennebula.options"];
    assert!(label.is_empty(), "{label}");
}

#[test]
fn the_site_s_bound_of_processes_is_every_vm_s() {
    let mut node = FakeNode::new();
    node.host.config.pids = 256;
    node.deploy_with(&asking("<PIDS_LIMIT>4096</PIDS_LIMIT>"))
        .unwrap();
    assert_eq!(node.host.engine.containers()[0].info.limits.pids, 256);
    let node = FakeNode::new();
    node.deploy_with(&asking("<PIDS_LIMIT>50</PIDS_LIMIT>"))
        .unwrap();
    assert_eq!(node.host.engine.containers()[0].info.limits.pids, 50);
}
