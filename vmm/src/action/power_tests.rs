//! Suspend, stop, restore and resize; and system datastores that are not ours.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use onedock_common::VmId;
use onedock_common::engine::fake::Failure;
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::boot::FirstProcess;
use onedock_node::request::Request;

use super::fake_node::{FakeNode, RECORDED, action, small, supported};

const VM: VmId = VmId::new(5);
/// LCM_STATE of a `save` and a `restore`.
const STOP: u32 = 5;
const SUSPEND: u32 = 6;
const MIGRATE: u32 = 7;
const RESUME: u32 = 21;

impl FakeNode {
    fn save(&self, lcm_state: u32) -> anyhow::Result<Answer> {
        let checkpoint = self.checkpoint();
        let arguments = ["one-5", &checkpoint, "node1", "5", "node1"];
        self.act("save", &arguments, &action(RECORDED, lcm_state))
    }

    fn restore(&self, document: &str) -> anyhow::Result<Answer> {
        let checkpoint = self.checkpoint();
        let arguments = [checkpoint.as_str(), "node1", "one-5", "5", "node1"];
        self.act("restore", &arguments, &action(document, RESUME))
    }

    fn checkpoint(&self) -> String {
        self.system_dir.join("checkpoint").display().to_string()
    }

    fn root_state(&self) -> (bool, bool, u32) {
        let containers = self.host.engine.containers();
        let root = containers.iter().find(|c| c.name == "one-5").unwrap();
        (root.info.running, root.info.paused, root.starts)
    }

    pub(super) fn resize(&self, memory: &str) -> anyhow::Result<Answer> {
        let memory = format!("<MEMORY><![CDATA[{memory}]]>");
        let text = small().replace("<MEMORY><![CDATA[256]]>", &memory);
        let text = text.replace("<CPU><![CDATA[0.5]]>", "<CPU><![CDATA[2]]>");
        self.act("resize", &["one-5", "5", "node1"], &action(&text, 62))
    }

    pub(super) fn resize_disk(&self, disk: &str, size: &str) -> anyhow::Result<Answer> {
        let arguments = ["one-5", disk, size, "PFZN", "node1", "5", "node1"];
        self.act("resize_disk", &arguments, &action(RECORDED, 61))
    }
}

#[test]
fn a_suspended_vm_is_frozen_and_goes_on_where_it_was() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    node.save(SUSPEND).unwrap();
    node.save(SUSPEND).unwrap();
    assert_eq!(node.root_state(), (true, true, 1));
    let answer = node.restore(&small()).unwrap();
    assert!(answer.notes.is_empty(), "{answer:?}");
    node.assert_runs_once(1);
    assert!(!node.system_dir.join("checkpoint").exists());
    assert!(node.restore(&small()).unwrap().notes.is_empty());
    node.assert_runs_once(1);
}

#[test]
fn a_frozen_vm_whose_host_was_rebooted_is_started_and_the_loss_is_told() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    node.save(SUSPEND).unwrap();
    node.host.engine.change("one-5", |c| {
        c.info.paused = false;
        c.info.running = false;
        c.info.exit_code = 137;
    });
    let answer = node.restore(&small()).unwrap();
    assert!(answer.notes[0].contains("its memory is lost"), "{answer:?}");
    node.assert_runs_once(2);
}

#[test]
fn a_stopped_vm_is_ended_with_its_disks_let_go_of_and_started_with_the_template_of_then() {
    for state in [STOP, MIGRATE] {
        let node = FakeNode::full();
        node.deploy_with(RECORDED).unwrap();
        node.save(state).unwrap();
        node.save(state).unwrap();
        assert_eq!(node.root_state(), (false, false, 1));
        assert!(matches!(
            node.host.root.requests()[0],
            Request::SettleDisks { .. }
        ));
        let changed = supported().replace(
            "<IP><![CDATA[10.77.0.23]]></IP>",
            "<IP><![CDATA[10.77.0.99]]></IP>",
        );
        let answer = node.restore(&changed).unwrap();
        assert!(answer.notes.is_empty(), "{answer:?}");
        assert_eq!(node.root_state(), (true, false, 2));
        let spec = node.spec();
        assert_eq!(spec.nics[1].addresses[0].to_string(), "10.77.0.99/24");
        assert_eq!(node.booted_disks(), [1, 3, 4]);
    }
}

#[test]
fn a_save_or_restore_cut_off_at_any_call_leaves_the_vm_as_it_was_and_the_retry_works() {
    for failure in [Failure::Before(2), Failure::After(2)] {
        let node = FakeNode::new();
        node.deploy().unwrap();
        node.host.engine.fail(failure);
        node.save(SUSPEND).unwrap_err();
        assert_eq!(node.root_state(), (true, false, 1), "{failure:?}");
        assert!(!node.system_dir.join("checkpoint").exists());
        node.host.engine.heal();
        node.save(SUSPEND).unwrap();
        node.host.engine.fail(failure);
        node.restore(&small()).unwrap_err();
        node.host.engine.heal();
        node.restore(&small()).unwrap();
        node.assert_runs_once(1);
        node.host.engine.fail(failure);
        node.save(STOP).unwrap_err();
        node.host.engine.heal();
        node.save(STOP).unwrap();
        node.restore(&small()).unwrap();
        node.assert_runs_once(2);
    }
}

#[test]
fn an_end_whose_disks_are_not_let_go_of_fails_and_its_retry_waits_for_them() {
    for name in ["shutdown", "cancel"] {
        let node = FakeNode::full();
        node.deploy_with(RECORDED).unwrap();
        for failure in [Failure::Before(1), Failure::After(1)] {
            node.host.root.fail(Some(failure));
            let error = node.end(name).unwrap_err().to_string();
            assert!(error.contains("disks are not let go of"), "{error}");
        }
        node.host.root.fail(None);
        node.end(name).unwrap();
        assert_eq!(node.host.root.requests().len(), 1);
        assert_eq!(node.root_state(), (false, false, 1));
    }
}

#[test]
fn a_damaged_checkpoint_keeps_no_vm_from_starting_and_one_that_ended_is_not_suspended() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    node.save(STOP).unwrap();
    let error = node.save(SUSPEND).unwrap_err().to_string();
    assert!(error.contains("nothing to suspend"), "{error}");
    fs::write(node.checkpoint(), "{").unwrap();
    let answer = node.restore(&small()).unwrap();
    assert!(answer.notes[0].contains("damaged"), "{answer:?}");
    node.assert_runs_once(2);
}

#[test]
fn a_suspended_vm_can_be_cancelled_and_its_devices_are_left_alone() {
    let node = FakeNode::full();
    node.deploy().unwrap();
    node.save(SUSPEND).unwrap();
    let path = node.disk(1).display().to_string();
    let arguments = ["one-5", &path, "sdb", "1", "PFZN", "5", "node1"];
    let text = super::fake_node::with_disk(RECORDED, 1, "<ATTACH><![CDATA[YES]]></ATTACH>");
    let error = node
        .act("attach_disk", &arguments, &action(&text, 17))
        .unwrap_err()
        .to_string();
    assert!(error.contains("is suspended"), "{error}");
    node.end("cancel").unwrap();
    assert_eq!(node.root_state(), (false, false, 1));
}

#[test]
fn capacity_changes_live_and_less_memory_than_is_held_is_refused_with_numbers() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    let memory = || node.host.engine.containers()[0].info.limits.memory >> 20;
    node.resize("512").unwrap();
    assert_eq!(memory(), 512);
    let limits = node.host.engine.containers()[0].info.limits;
    assert_eq!(limits.cpu_shares, 2048);
    node.host.engine.hold(200 << 20);
    let error = node.resize("128").unwrap_err().to_string();
    assert!(
        error.contains("128 MB") && error.contains("200 MB"),
        "{error}"
    );
    assert_eq!(node.host.engine.containers()[0].info.limits, limits);
    node.resize("256").unwrap();
    assert_eq!(memory(), 256);
    for failure in [Failure::Before(2), Failure::After(2)] {
        node.host.engine.fail(failure);
        node.resize("512").unwrap_err();
        assert_eq!(memory(), 256, "{failure:?}");
        node.host.engine.heal();
    }
    node.resize("512").unwrap();
    assert_eq!(memory(), 512);
}

#[test]
fn a_file_disk_grows_live_and_no_disk_shrinks() {
    let node = FakeNode::full();
    node.deploy_with(RECORDED).unwrap();
    node.resize_disk("1", "80").unwrap();
    node.resize_disk("1", "80").unwrap();
    assert_eq!(fs::metadata(node.disk(1)).unwrap().len(), 80 << 20);
    assert!(matches!(
        node.host.root.requests()[..],
        [
            Request::GrowDisk { size_mib: 80, .. },
            Request::GrowDisk { size_mib: 80, .. }
        ]
    ));
    for (disk, size, text) in [
        ("1", "40", "cannot be made smaller"),
        ("4", "900", "can only be read"),
        ("9", "90", "has no DISK 9"),
        ("1", "99999999999999999", "cannot have"),
    ] {
        let error = node.resize_disk(disk, size).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    assert_eq!(node.host.root.requests().len(), 2);
    node.resize_disk("2", "64").unwrap();
    let containers = node.host.engine.containers();
    let root = containers.iter().find(|c| c.name == "one-5").unwrap();
    assert_eq!(root.info.limits.swap, 64 << 20);
}

#[test]
fn the_root_disk_and_a_tree_get_another_bound_where_the_storage_keeps_one() {
    let node = FakeNode::full();
    node.deploy_with(RECORDED).unwrap();
    for disk in ["0", "3"] {
        assert!(node.resize_disk(disk, "200").unwrap().notes.is_empty());
    }
    assert!(matches!(
        &node.host.root.requests()[1],
        Request::BoundLayer { size_mib: 200, .. }
    ));
    node.host.root.unbounded();
    for disk in ["0", "3"] {
        let notes = node.resize_disk(disk, "300").unwrap().notes;
        assert!(notes[0].contains("keeps no quotas"), "{notes:?}");
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
fn on_our_own_datastore_a_reconfigure_has_nothing_to_do_and_a_lost_context_is_told() {
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
fn a_vm_that_ignores_its_stop_signal_is_not_waited_for() {
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
