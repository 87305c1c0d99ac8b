//! Whole actions on templates that ask for what is not served.

use onedock_common::opennebula::answer::Answer;

use super::bed::{Bed, TRACED, action, small, with_disk, without_disk};

/// The recorded template with its root disk only, and all that it asks.
fn recorded() -> String {
    (1..=4).fold(TRACED.to_owned(), |text, id| without_disk(&text, id))
}

fn put(text: &str, before: &str, what: &str) -> String {
    assert!(text.contains(before), "{before}");
    text.replacen(before, &format!("{what}{before}"), 1)
}

#[test]
fn a_deploy_says_what_the_template_asks_in_vain_and_is_silent_when_it_is_nothing() {
    let quiet = small();
    assert_eq!(
        Bed::new().deploy_with(&quiet).unwrap().notes,
        [] as [&str; 0]
    );
    for (before, what, said) in [
        (
            "<MEMORY>",
            "<GRAPHICS><TYPE>VNC</TYPE></GRAPHICS>",
            "GRAPHICS is not served",
        ),
        (
            "<BRIDGE>",
            "<OUTBOUND_AVG_BW>100</OUTBOUND_AVG_BW>",
            "OUTBOUND_AVG_BW of NIC 0 is not",
        ),
        (
            "<SET_HOSTNAME>",
            "<START_SCRIPT>id</START_SCRIPT>",
            "CONTEXT/START_SCRIPT is not",
        ),
        (
            "<LOGO>",
            "<DOCKER><ENV>A=1</ENV></DOCKER>",
            "DOCKER is not served",
        ),
        (
            "<LOGO>",
            "<DOCKER_VOLUMES>/x</DOCKER_VOLUMES>",
            "DOCKER_VOLUMES is not served",
        ),
        (
            "<SET_HOSTNAME>",
            "<DNS>nowhere</DNS>",
            "CONTEXT/DNS: \"nowhere\" is not the address",
        ),
    ] {
        let bed = Bed::new();
        let answer = bed.deploy_with(&put(&quiet, before, what)).unwrap();
        assert_eq!(answer.notes.len(), 1, "{:?}", answer.notes);
        assert!(
            answer.notes[0].starts_with(&format!("deploy: {said}")),
            "{:?}",
            answer.notes
        );
        assert_eq!(answer.output.as_deref(), Some("one-5"));
        bed.assert_runs_once(1);
    }
}

#[test]
fn a_deploy_that_asks_for_what_is_refused_makes_nothing() {
    let bed = Bed::new();
    let text = put(&small(), "<BRIDGE>", "<FILTER>clean-traffic</FILTER>");
    let error = bed.deploy_with(&text).unwrap_err().to_string();
    assert!(error.contains("FILTER of NIC 0"), "{error}");
    bed.assert_nothing_left();
}

#[test]
fn an_attach_of_a_disk_speaks_of_that_disk_and_refuses_a_secret_one() {
    let attach = |bed: &Bed, extra: &str| -> anyhow::Result<Answer> {
        let mut text = TRACED.to_owned();
        for id in 2..=4 {
            text = without_disk(&text, id);
        }
        let text = with_disk(&text, 1, &format!("<ATTACH>YES</ATTACH>{extra}"));
        let path = bed.disk(1).display().to_string();
        let arguments = ["one-5", &path, "sdb", "1", "PFZN", "5", "node1"];
        bed.act("attach_disk", &arguments, &action(&text, 17))
    };
    let bed = Bed::full();
    bed.deploy().unwrap();
    let error = attach(&bed, "<LUKS_SECRET>x</LUKS_SECRET>").unwrap_err();
    assert!(
        error.to_string().contains("LUKS_SECRET of DISK 1"),
        "{error}"
    );
    assert_eq!(bed.shown(), [] as [u32; 0]);
    let answer = attach(&bed, "<TOTAL_IOPS_SEC>9</TOTAL_IOPS_SEC>").unwrap();
    assert_eq!(answer.notes.len(), 1);
    assert!(answer.notes[0].starts_with("attach_disk: TOTAL_IOPS_SEC of DISK 1 is not served"));
    assert_eq!(bed.shown(), [1]);
}

#[test]
fn an_alias_cannot_come_to_a_running_vm_or_go_from_it_and_oned_hears_of_it() {
    let bed = Bed::new();
    bed.deploy().unwrap();
    let arguments = ["one-5", "sdd", "5", "node1"];
    let usual = action(&small(), 25);
    assert!(
        bed.act("prereconfigure", &arguments, &usual)
            .unwrap()
            .notes
            .is_empty()
    );
    let hot = put(&usual, "<ALIAS_ID>", "<ATTACH><![CDATA[YES]]></ATTACH>");
    let error = bed
        .act("prereconfigure", &arguments, &hot)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("the alias NIC 2 cannot be attached to a running VM"),
        "{error}"
    );
    let arguments = ["one-6", "sdd", "6", "node1"];
    assert!(bed.act("prereconfigure", &arguments, &usual).is_err());
}

#[test]
fn a_new_context_of_a_running_vm_is_told_what_of_it_is_not_done() {
    let bed = Bed::new();
    bed.deploy().unwrap();
    let path = bed.disk(5).display().to_string();
    let arguments = ["one-5", "sdd", &path, "5", "node1"];
    let said = |document: &str| bed.act("reconfigure", &arguments, document).unwrap().notes;
    assert!(said(&action(&small(), 3)).is_empty());
    let lines = said(&action(&recorded(), 3));
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("reconfigure: CONTEXT/START_SCRIPT is not served"));
}

#[test]
fn a_suspended_vm_goes_on_whatever_its_template_asks_and_the_log_says_what_is_not_served() {
    let bed = Bed::new();
    bed.deploy_with(&small()).unwrap();
    let checkpoint = bed.system_dir.join("checkpoint").display().to_string();
    let text = put(&small(), "<BRIDGE>", "<FILTER>clean-traffic</FILTER>");
    let arguments = ["one-5", &checkpoint, "node1", "5", "node1"];
    bed.act("save", &arguments, &action(&text, 6)).unwrap();
    let arguments = [checkpoint.as_str(), "node1", "one-5", "5", "node1"];
    let answer = bed.act("restore", &arguments, &action(&text, 21)).unwrap();
    assert_eq!(answer.notes.len(), 1, "{:?}", answer.notes);
    assert!(answer.notes[0].starts_with("restore: FILTER of NIC 0 is not served"));
}
