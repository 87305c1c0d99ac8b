//! Reboot, reconfigure and the end of a VM; and system datastores that are not ours.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use onedock_common::VmId;
use onedock_common::engine::fake::Failure;
use onedock_common::state::boot::FirstProcess;

use super::fake_node::{FakeNode, RECORDED, action, small};

const VM: VmId = VmId::new(5);

#[test]
fn an_end_whose_disks_are_not_let_go_of_fails_and_its_retry_waits_for_them() {
    for name in ["shutdown", "cancel"] {
        let node = FakeNode::full();
        node.deploy_with(RECORDED).unwrap();
        for failure in [Failure::Before(1), Failure::After(1)] {
            node.host.root.fail(Some(failure));
            let error = node.end(name).unwrap_err().to_string();
            assert!(error.contains("something of it is still there"), "{error}");
        }
        node.host.root.fail(None);
        node.end(name).unwrap();
        assert_eq!(node.host.root.requests().len(), 1);
        assert_eq!(node.root_state(), (false, false, 1));
    }
}

#[test]
fn on_a_stock_datastore_the_context_image_becomes_a_folder_that_keeps_its_place() {
    for tm_mad in ["ssh", "shared", "local"] {
        let node = FakeNode::new();
        let context = node.dir.path().join("context");
        fs::create_dir(&context).unwrap();
        fs::write(context.join("context.sh"), "A='1'\n").unwrap();
        fs::write(context.join("old"), "").unwrap();
        fs::remove_dir(node.disk(5)).unwrap();
        node.iso(5, &context);
        let text = small().replacen(
            "<TM_MAD><![CDATA[onedock]]></TM_MAD>\n   <DS_ID>",
            &format!("<TM_MAD><![CDATA[{tm_mad}]]></TM_MAD>\n   <DS_ID>"),
            1,
        );
        node.deploy_with(&text).unwrap();
        let folder = node.host.paths.context_folder(VM);
        assert_eq!(node.spec().context.as_ref(), Some(&folder));
        let place = fs::metadata(&folder).unwrap().ino();
        fs::write(context.join("context.sh"), "A='2'\n").unwrap();
        fs::remove_file(context.join("old")).unwrap();
        node.iso(5, &context);
        let path = node.disk(5).display().to_string();
        let document = action(&text, 3);
        let arguments = ["one-5", "sdd", "5", "node1"];
        node.act("prereconfigure", &arguments, &document).unwrap();
        let arguments = ["one-5", "sdd", &path, "5", "node1"];
        node.act("reconfigure", &arguments, &document).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().ino(), place);
        let now = fs::read_to_string(folder.join("context.sh")).unwrap();
        assert_eq!(now, "A='2'\n");
        assert!(!folder.join("old").exists());
    }
}

#[test]
fn on_our_own_datastore_a_reconfigure_has_nothing_to_do_and_a_lost_context_is_logged() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    let path = node.disk(5).display().to_string();
    let arguments = ["one-5", "sdd", &path, "5", "node1"];
    let document = action(&small(), 3);
    node.act("reconfigure", &arguments, &document).unwrap();
    assert!(!node.host.paths.context_folder(VM).exists());
    fs::remove_dir(node.disk(5)).unwrap();
    let error = node.act("reconfigure", &arguments, &document).unwrap_err();
    assert!(error.to_string().contains("disk.5"), "{error}");
}

#[test]
fn a_reboot_takes_up_a_changed_configuration_and_starts_a_vm_without_a_usable_one() {
    for name in ["reboot", "reset"] {
        let node = FakeNode::full();
        node.deploy_with(RECORDED).unwrap();
        let arguments = ["one-5", "node1", "5", "node1"];
        let before = node.spec();
        let changed = RECORDED
            .replace(
                "<SET_HOSTNAME><![CDATA[web01]]>",
                "<SET_HOSTNAME><![CDATA[web02]]>",
            )
            .replace(
                "<ETH1_MASK><![CDATA[255.255.255.0]]>",
                "<ETH1_MASK><![CDATA[255.255.0.0]]>",
            );
        let answer = node.act(name, &arguments, &action(&changed, 3)).unwrap();
        assert!(answer.notes.is_empty(), "{answer:?}");
        let now = node.spec();
        assert_eq!(now.hostname.as_str(), "web02");
        assert_eq!(now.nics[1].addresses[0].prefix(), 16);
        assert_eq!((&now.disks, &now.args), (&before.disks, &before.args));
        // A NIC that no action has plugged is none of this start.
        let other = changed.replace("<TARGET><![CDATA[one-5-1]]>", "<TARGET><![CDATA[web]]>");
        node.act(name, &arguments, &action(&other, 3)).unwrap();
        assert_eq!(node.spec().nics, now.nics);

        let bad = changed.replace("<MEMORY><![CDATA[256]]>", "<MEMORY><![CDATA[x]]>");
        for document in [action(&bad, 3), String::new()] {
            let answer = node.act(name, &arguments, &document).unwrap();
            assert!(answer.notes[0].contains("not in effect"), "{answer:?}");
            assert_eq!(node.spec(), now);
        }
        assert_eq!(node.root_state(), (true, false, 5));
    }
}

#[test]
fn a_renamed_vm_has_its_new_name_after_a_reboot() {
    let node = FakeNode::new();
    let named = small().replace("<SET_HOSTNAME><![CDATA[web01]]></SET_HOSTNAME>", "");
    node.deploy_with(&named).unwrap();
    let old = node.spec().hostname;
    let name = format!("<NAME>{}</NAME>", old);
    assert!(named.contains(&name), "the traced VM has no plain name");
    let renamed = named.replacen(&name, "<NAME>shop</NAME>", 1);
    node.act(
        "reboot",
        &["one-5", "node1", "5", "node1"],
        &action(&renamed, 3),
    )
    .unwrap();
    assert_eq!(node.spec().hostname.as_str(), "shop");
}

#[test]
fn a_shell_has_a_terminal_and_one_of_a_former_version_is_still_kept_alive() {
    let node = FakeNode::new();
    let shell = super::fake_node::with_disk(&small(), 0, "<DOCKERRUN><![CDATA[bash]]></DOCKERRUN>");
    node.deploy_with(&shell).unwrap();
    assert!(node.host.engine.containers()[0].info.terminal);
    assert_eq!(node.spec().first, FirstProcess::Command);
    node.end("shutdown").unwrap();
    node.host
        .engine
        .change("one-5", |c| c.info.terminal = false);
    node.deploy_with(&shell).unwrap();
    assert_eq!(node.spec().first, FirstProcess::KeepAlive);
    node.assert_runs_once(2);
}

#[test]
fn attack_36_a_vm_that_ignores_its_stop_signal_is_not_waited_for() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    let grace = node.host.config.stop_grace;
    node.end("shutdown").unwrap();
    assert_eq!(node.host.engine.last_grace(), Some(grace));
    let script = "trap '' TERM; echo ready; exec sleep 100";
    let mut deaf = Command::new("sh")
        .args(["-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    deaf.stdout.take().unwrap().read_exact(&mut ready).unwrap();
    for (signal, waits) in [(None, Duration::ZERO), (Some("KILL"), grace)] {
        for action in ["shutdown", "reboot"] {
            node.deploy().unwrap();
            node.host.engine.change("one-5", |c| {
                c.info.pid = Some(deaf.id());
                c.info.stop_signal = signal.map(str::to_owned);
            });
            node.end(action).unwrap();
            assert_eq!(
                node.host.engine.last_grace(),
                Some(waits),
                "{action} {signal:?}"
            );
        }
    }
    deaf.kill().unwrap();
    deaf.wait().unwrap();
}
