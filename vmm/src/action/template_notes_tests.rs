//! Whole actions on templates that ask for what is not supported.

use onedock_common::opennebula::answer::Answer;

use onedock_node::request::Request;

use super::fake_node::{FakeNode, RECORDED, action, small, with_disk, without_disk};

/// The recorded template with its root disk only, and all that it asks.
fn recorded() -> String {
    (1..=4).fold(RECORDED.to_owned(), |text, id| without_disk(&text, id))
}

fn put(text: &str, before: &str, what: &str) -> String {
    assert!(text.contains(before), "{before}");
    text.replacen(before, &format!("{what}{before}"), 1)
}

#[test]
fn a_deploy_says_what_the_template_asks_in_vain_and_is_silent_when_it_is_nothing() {
    let quiet = small();
    assert_eq!(
        FakeNode::new().deploy_with(&quiet).unwrap().notes,
        [] as [&str; 0]
    );
    for (before, what, said) in [
        (
            "<MEMORY>",
            "<GRAPHICS><TYPE>VNC</TYPE></GRAPHICS>",
            "GRAPHICS is not supported",
        ),
        (
            "<BRIDGE>",
            "<SCRIPT>/root/up</SCRIPT>",
            "SCRIPT of NIC 0 is not",
        ),
        (
            "<SET_HOSTNAME>",
            "<DNS_HOSTNAME>YES</DNS_HOSTNAME>",
            "CONTEXT/DNS_HOSTNAME is not",
        ),
        (
            "<LOGO>",
            "<DOCKER><PORTS>80</PORTS></DOCKER>",
            "DOCKER/PORTS has no effect",
        ),
        (
            "<LOGO>",
            "<DOCKER_COLOUR>red</DOCKER_COLOUR>",
            "DOCKER_COLOUR is not an option",
        ),
        (
            "<SET_HOSTNAME>",
            "<DNS>nowhere</DNS>",
            "CONTEXT/DNS: \"nowhere\" is not the address",
        ),
    ] {
        let node = FakeNode::new();
        let answer = node.deploy_with(&put(&quiet, before, what)).unwrap();
        assert_eq!(answer.notes.len(), 1, "{:?}", answer.notes);
        assert!(
            answer.notes[0].starts_with(&format!("deploy: {said}")),
            "{:?}",
            answer.notes
        );
        assert_eq!(answer.output.as_deref(), Some("one-5"));
        node.assert_runs_once(1);
    }
}

#[test]
fn a_deploy_that_asks_for_what_is_refused_makes_nothing() {
    let node = FakeNode::new();
    let text = put(&small(), "<BRIDGE>", "<FILTER>clean-traffic</FILTER>");
    let error = node.deploy_with(&text).unwrap_err().to_string();
    assert!(error.contains("FILTER of NIC 0"), "{error}");
    node.assert_nothing_left();
}

#[test]
fn an_attach_of_a_disk_speaks_of_that_disk_and_refuses_a_secret_one() {
    let attach = |node: &FakeNode, extra: &str| -> anyhow::Result<Answer> {
        let mut text = RECORDED.to_owned();
        for id in 2..=4 {
            text = without_disk(&text, id);
        }
        let text = with_disk(&text, 1, &format!("<ATTACH>YES</ATTACH>{extra}"));
        let path = node.disk(1).display().to_string();
        let arguments = ["one-5", &path, "sdb", "1", "PFZN", "5", "node1"];
        node.act("attach_disk", &arguments, &action(&text, 17))
    };
    let node = FakeNode::full();
    node.deploy().unwrap();
    let error = attach(&node, "<LUKS_SECRET>x</LUKS_SECRET>").unwrap_err();
    assert!(
        error.to_string().contains("LUKS_SECRET of DISK 1"),
        "{error}"
    );
    assert_eq!(node.booted_disks(), [] as [u32; 0]);
    let answer = attach(&node, "<TOTAL_IOPS_SEC>9</TOTAL_IOPS_SEC>").unwrap();
    assert_eq!(answer.notes.len(), 1);
    assert!(answer.notes[0].starts_with("attach_disk: TOTAL_IOPS_SEC of DISK 1 is not supported"));
    assert_eq!(node.booted_disks(), [1]);
}

#[test]
fn a_new_context_of_a_running_vm_is_told_what_of_it_is_not_done() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    let path = node.disk(5).display().to_string();
    let arguments = ["one-5", "sdd", &path, "5", "node1"];
    let said = |document: &str| node.act("reconfigure", &arguments, document).unwrap().notes;
    assert!(said(&action(&small(), 3)).is_empty());
    assert!(
        node.host.engine.executed().is_empty(),
        "nothing is to be applied inside"
    );
    let named = put(
        &small(),
        "<SET_HOSTNAME>",
        "<DNS_HOSTNAME>YES</DNS_HOSTNAME>",
    );
    let lines = said(&action(&named, 3));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("reconfigure: CONTEXT/DNS_HOSTNAME is not supported"));
    // What is applied inside says itself what it could not do.
    node.host.engine.say(&["TIMEZONE x is not a time zone"]);
    let lines = said(&action(&recorded(), 3));
    assert_eq!(lines, ["reconfigure: TIMEZONE x is not a time zone"]);
    assert_eq!(
        node.host.engine.executed(),
        ["/dev/onedock-context reconfigure"]
    );
}

#[test]
fn new_names_of_a_running_vm_are_in_force_at_once_and_from_its_next_start_on() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    let path = node.disk(5).display().to_string();
    let arguments = ["one-5", "sdd", &path, "5", "node1"];
    let changes = || {
        let requests = node.host.root.requests();
        let named = requests.into_iter().filter_map(|request| match request {
            Request::ChangeNames { before, spec, .. } => {
                Some((before.hostname.to_string(), spec.hostname.to_string()))
            }
            _ => None,
        });
        named.collect::<Vec<_>>()
    };
    node.act("reconfigure", &arguments, &action(&small(), 3))
        .unwrap();
    assert_eq!(changes(), []);
    let renamed = small().replace("<![CDATA[web01]]></SET_HOSTNAME>", "db</SET_HOSTNAME>");
    assert_ne!(renamed, small());
    for _ in 0..2 {
        node.act("reconfigure", &arguments, &action(&renamed, 3))
            .unwrap();
        assert_eq!(changes(), [("web01".to_owned(), "db".to_owned())]);
    }
    assert_eq!(node.spec().hostname.as_str(), "db");
    // Without a name in its context it keeps the one that it has until its next start.
    let unnamed = small()
        .replace("<SET_HOSTNAME>", "<NO_HOSTNAME>")
        .replace("</SET_HOSTNAME>", "</NO_HOSTNAME>");
    node.act("reconfigure", &arguments, &action(&unnamed, 3))
        .unwrap();
    assert_eq!((changes().len(), node.spec().hostname.as_str()), (1, "db"));
}

#[test]
fn a_vm_that_cannot_apply_a_new_context_says_when_it_counts() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    let path = node.disk(5).display().to_string();
    let arguments = ["one-5", "sdd", &path, "5", "node1"];
    let document = action(&recorded(), 3);
    node.host.engine.refuse("exec", 1);
    let notes = node
        .act("reconfigure", &arguments, &document)
        .unwrap()
        .notes;
    assert!(
        notes[0].contains("could not be applied inside"),
        "{notes:?}"
    );
    node.host
        .engine
        .change("one-5", |container| container.info.paused = true);
    let notes = node
        .act("reconfigure", &arguments, &document)
        .unwrap()
        .notes;
    assert_eq!(notes, [] as [&str; 0]);
    assert!(node.host.engine.executed().is_empty());
}

#[test]
fn a_suspended_vm_goes_on_whatever_its_template_asks_for_and_the_log_notes_what_is_not_supported() {
    let node = FakeNode::new();
    node.deploy_with(&small()).unwrap();
    let checkpoint = node.system_dir.join("checkpoint").display().to_string();
    let text = put(&small(), "<BRIDGE>", "<FILTER>clean-traffic</FILTER>");
    let arguments = ["one-5", &checkpoint, "node1", "5", "node1"];
    node.act("save", &arguments, &action(&text, 6)).unwrap();
    let arguments = [checkpoint.as_str(), "node1", "one-5", "5", "node1"];
    let answer = node.act("restore", &arguments, &action(&text, 21)).unwrap();
    assert_eq!(answer.notes.len(), 1, "{:?}", answer.notes);
    assert!(answer.notes[0].starts_with("restore: FILTER of NIC 0 is not supported"));
}
