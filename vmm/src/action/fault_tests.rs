//! Every action interrupted at every call of the engine, repeated, and in the wrong order: what
//! is left must be as if it had run once, or not at all. The engine is the one in memory; the
//! same actions run against the real one in the workspace's tests.

use onedock_common::VmId;
use onedock_common::engine::ImageState;
use onedock_common::engine::fake::Failure;
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::boot::BootSpec;
use onedock_common::types::image_config::ImageConfig;
use onedock_node::request::Request;

use super::Action;
use super::fake_node::{FakeNode, image, small};

#[test]
fn a_first_deploy_answers_the_deploy_id_with_four_calls_of_the_engine() {
    let node = FakeNode::new();
    assert_eq!(node.deploy().unwrap(), Answer::line("one-5"));
    node.assert_runs_once(1);
    assert_eq!(
        node.host.engine.calls(),
        ["named", "create", "start", "watch"]
    );
}

#[test]
fn what_an_earlier_version_has_staged_starts_by_what_the_engine_says_of_its_image() {
    let node = FakeNode::new();
    let (path, image) = (node.disk(0), image(6));
    let mut descriptor = node.descriptor();
    descriptor.image_config = None;
    descriptor.write(&path).unwrap();
    for (state, words) in [
        (ImageState::Missing, "is not on this host"),
        (
            ImageState::Unknown,
            "does not know the command and the volumes",
        ),
    ] {
        node.host.engine.set_image(&image, state);
        let error = node.deploy().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(node.host.engine.containers().is_empty());
    }
    let known = ImageConfig {
        cmd: vec!["nginx".into()],
        ..ImageConfig::default()
    };
    node.host.engine.set_image(&image, ImageState::Known(known));
    node.deploy().unwrap();
    assert_eq!(node.spec().args, ["nginx"]);
}

#[test]
fn a_vm_whose_image_was_pruned_while_it_was_powered_off_resumes() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    node.end("shutdown").unwrap();
    node.host.engine.set_image(&image(6), ImageState::Missing);
    node.deploy().unwrap();
    node.assert_runs_once(2);
    assert_eq!(node.spec().args, ["httpd"]);
}

#[test]
fn a_root_disk_that_only_the_engine_can_save_is_said_once_at_its_first_start() {
    let node = FakeNode::new();
    node.host.engine.record_no_layers();
    let answer = node.deploy().unwrap();
    assert!(
        answer.notes[0].starts_with("DISK 0 will be saved by the Docker engine's own commit"),
        "{answer:?}"
    );
    assert_eq!(node.end("shutdown").unwrap().notes, Vec::<String>::new());
    assert_eq!(node.deploy().unwrap(), Answer::line("one-5"));
}

#[test]
fn an_engine_that_ignores_our_runtime_starts_no_vm_without_nics() {
    let node = FakeNode::new();
    node.host.engine.ignore_runtime();
    let error = node.deploy().unwrap_err().to_string();
    assert!(
        error.contains("by its own runtime crun in place of onedock"),
        "{error}"
    );
    node.assert_nothing_left();
}

#[test]
fn fault_3_what_an_earlier_start_has_left_goes_before_the_next_and_before_a_removal() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    node.end("shutdown").unwrap();
    let before = node.host.root.requests().len();
    node.deploy().unwrap();
    let requests = node.host.root.requests();
    assert!(
        matches!(requests[before..], [Request::Settle { .. }]),
        "{requests:?}"
    );
    // A first start that fails: the engine may have forgotten its process.
    let node = FakeNode::new();
    node.host.engine.die_with(Some(1));
    node.deploy().unwrap_err();
    let requests = node.host.root.requests();
    assert!(
        matches!(requests[0], Request::Settle { .. }),
        "{requests:?}"
    );
    assert!(node.host.engine.calls().contains(&"kill"));
    node.assert_nothing_left();
}

#[test]
fn fault_48_a_vm_whose_container_was_renamed_is_ended_and_its_foreign_namesake_is_not() {
    for action in ["shutdown", "cancel"] {
        let node = FakeNode::new();
        node.deploy().unwrap();
        node.host
            .engine
            .change("one-5", |one| one.name = "renamed".into());
        node.host.engine.add("one-5", Default::default());
        node.host
            .engine
            .change("one-5", |one| one.info.running = true);
        node.end(action).unwrap();
        for container in node.host.engine.containers() {
            let running = container.name == "one-5";
            assert_eq!(container.info.running, running, "{action}");
        }
    }
}

#[test]
fn fault_6_a_second_deploy_of_a_running_vm_changes_nothing_and_answers_the_same() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    assert_eq!(node.deploy().unwrap(), Answer::line("one-5"));
    node.assert_runs_once(1);
}

#[test]
fn faults_1_to_6_a_deploy_cut_off_at_any_call_is_finished_by_the_next() {
    for call in 1..=4 {
        for failure in [Failure::Before(call), Failure::After(call)] {
            let node = FakeNode::new();
            node.host.engine.fail(failure);
            node.deploy().expect_err(&format!("{failure:?}"));
            node.host.engine.heal();
            assert_eq!(node.deploy().unwrap(), Answer::line("one-5"), "{failure:?}");
            node.assert_runs_once(1);
            assert!(
                !node.host.paths.journal(VmId::new(5)).exists(),
                "{failure:?}"
            );
        }
    }
}

#[test]
fn fault_1_a_deploy_that_fails_leaves_nothing_that_it_made() {
    for failure in [
        Failure::Before(3),
        Failure::After(3),
        Failure::Before(4),
        Failure::After(4),
    ] {
        let node = FakeNode::new();
        node.host.engine.fail(failure);
        node.deploy().expect_err(&format!("{failure:?}"));
        node.assert_nothing_left();
    }
}

#[test]
fn fault_2_a_container_that_an_interrupted_deploy_made_is_taken_up() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    // As after a kill between create and the descriptor's writing.
    node.host.engine.change("one-5", |c| {
        c.info.running = false;
        c.info.started_before = false;
        c.starts = 0;
    });
    let mut descriptor = node.descriptor();
    descriptor.container = None;
    descriptor.write(&node.system_dir.join("disk.0")).unwrap();
    node.deploy().unwrap();
    node.assert_runs_once(1);
}

#[test]
fn fault_2_a_container_that_the_engine_still_makes_for_a_deploy_cut_off_is_waited_for() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    node.host.engine.change("one-5", |c| {
        c.info.running = false;
        c.info.started_before = false;
        c.starts = 0;
    });
    let mut descriptor = node.descriptor();
    descriptor.container = None;
    descriptor.write(&node.system_dir.join("disk.0")).unwrap();
    node.host.engine.hide(3);
    assert_eq!(node.deploy().unwrap(), Answer::line("one-5"));
    node.assert_runs_once(1);
}

#[test]
fn fault_45_a_command_that_dies_at_once_fails_the_deploy_with_its_code_and_last_words() {
    let node = FakeNode::new();
    node.host.engine.die_with(Some(3));
    let error = format!("{:#}", node.deploy().unwrap_err());
    assert!(
        error.contains("exit code 3; last output: the last line"),
        "{error}"
    );
    node.assert_nothing_left();
}

#[test]
fn a_resume_that_fails_leaves_the_container_and_its_layer_stopped() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    let id = node.descriptor().container;
    node.end("shutdown").unwrap();
    node.host.engine.die_with(Some(1));
    node.deploy().unwrap_err();
    let containers = node.host.engine.containers();
    assert_eq!(containers.len(), 1);
    assert!(!containers[0].info.running);
    assert_eq!(node.descriptor().container, id);
    node.host.engine.die_with(None);
    let answer = node.deploy().unwrap();
    assert!(answer.notes[0].contains("exit code 1"), "{answer:?}");
    node.assert_runs_once(3);
}

#[test]
fn a_resume_whose_answer_was_lost_does_not_leave_the_vm_running() {
    for lost in [2, 3] {
        let node = FakeNode::new();
        node.deploy().unwrap();
        node.end("shutdown").unwrap();
        node.host.engine.fail(Failure::After(lost));
        node.deploy().unwrap_err();
        let calls = node.host.engine.calls();
        assert!(["start", "watch"].contains(&calls[lost - 1]), "{calls:?}");
        let containers = node.host.engine.containers();
        assert_eq!((containers.len(), containers[0].info.running), (1, false));
        node.host.engine.heal();
        node.deploy().unwrap();
        node.assert_runs_once(3);
    }
}

#[test]
fn fault_40_an_engine_that_hangs_while_a_deploy_is_taken_back_holds_it_half_a_minute() {
    for (hangs, resume) in [("remove", false), ("kill", true)] {
        let node = FakeNode::new();
        if resume {
            node.deploy().unwrap();
            node.end("shutdown").unwrap();
        }
        node.host.engine.die_with(Some(3));
        node.host.engine.hang(Some(hangs));
        let error = node.deploy_in_no_time().unwrap_err().to_string();
        assert!(error.contains("exit code 3"), "{error}");
        assert!(error.contains("did not answer within 30 s"), "{error}");
        node.host.engine.hang(None);
        node.host.engine.die_with(None);
        node.deploy().unwrap();
        node.assert_runs_once(if resume { 3 } else { 2 });
    }
}

#[test]
fn fault_17_a_resume_with_another_template_has_its_capacity_and_nics() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    node.end("shutdown").unwrap();
    let changed = small()
        .replace("<MEMORY><![CDATA[256]]>", "<MEMORY><![CDATA[512]]>")
        .replace(
            "<IP><![CDATA[10.77.0.23]]></IP>",
            "<IP><![CDATA[10.77.0.99]]></IP>",
        );
    node.deploy_with(&changed).unwrap();
    node.assert_runs_once(2);
    let container = &node.host.engine.containers()[0].info;
    assert_eq!(container.limits.memory, 512 << 20);
    let spec = BootSpec::read(&node.host.paths, &container.id)
        .unwrap()
        .unwrap();
    assert_eq!(spec.nics[1].addresses[0].to_string(), "10.77.0.99/24");
}

#[test]
fn fault_19_a_foreign_container_of_the_name_is_refused_and_left_alone() {
    let node = FakeNode::new();
    node.host.engine.add(
        "one-5",
        [("org.opennebula.vm".to_owned(), "5".to_owned())].into(),
    );
    let error = node.deploy().unwrap_err().to_string();
    assert!(
        error.contains("taken by a container that is not OpenNebula's"),
        "{error}"
    );
    node.end("cancel").unwrap();
    assert_eq!(node.host.engine.containers().len(), 1);
}

#[test]
fn a_container_removed_by_hand_is_not_silently_replaced_by_an_empty_disk() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    let id = node.descriptor().container.unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime
        .block_on(onedock_common::engine::Engine::remove(
            &node.host.engine,
            &id,
        ))
        .unwrap();
    let error = node.deploy().unwrap_err().to_string();
    assert!(
        error.contains("does not have the container")
            && error.contains("or begin anew from the image"),
        "{error}"
    );
}

#[test]
fn faults_7_and_16_ending_twice_interrupted_or_without_a_container_succeeds() {
    for action in ["shutdown", "cancel"] {
        let node = FakeNode::new();
        node.end(action).unwrap();
        node.deploy().unwrap();
        for call in 1..=2 {
            node.host.engine.fail(Failure::After(call));
            node.end(action).expect_err(action);
            node.host.engine.heal();
        }
        node.end(action).unwrap();
        node.end(action).unwrap();
        let containers = node.host.engine.containers();
        assert_eq!((containers.len(), containers[0].info.running), (1, false));
    }
}

/// A process that waits for a disk whose daemon hangs dies once root has ended the daemon.
#[test]
fn fault_60_a_vm_that_does_not_die_of_kill_is_settled_and_killed_once_more() {
    for (action, call) in [("shutdown", "stop"), ("cancel", "kill")] {
        let node = FakeNode::new();
        node.deploy().unwrap();
        node.host.engine.keep_alive(call, 1);
        node.end(action).unwrap();
        let settled = |request: &Request| matches!(request, Request::Settle { .. });
        assert!(node.host.root.requests().iter().any(settled), "{action}");
        assert!(!node.host.engine.containers()[0].info.running, "{action}");
        node.deploy().unwrap();
        node.host.engine.keep_alive("kill", 2);
        node.end("cancel").unwrap_err();
    }
}

#[test]
fn reboot_and_reset_start_the_same_container_again() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    node.end("reboot").unwrap();
    node.end("reset").unwrap();
    node.assert_runs_once(3);
}

#[test]
fn a_vm_on_a_system_datastore_of_another_kind_is_refused_with_one_clear_line() {
    let node = FakeNode::new();
    let small = small();
    let other = small.replacen(
        "<TM_MAD><![CDATA[onedock]]></TM_MAD>\n   <DS_ID>",
        "<TM_MAD><![CDATA[ceph]]></TM_MAD>\n   <DS_ID>",
        1,
    );
    assert_ne!(other, small);
    let error = node.deploy_with(&other).unwrap_err().to_string();
    assert!(error.contains("TM_MAD=ceph"), "{error}");
    node.assert_nothing_left();
}

#[test]
fn an_action_that_is_not_supported_is_refused_in_one_line() {
    let node = FakeNode::new();
    let error = node.end("snapshot_create").unwrap_err().to_string();
    assert!(
        error.starts_with("snapshot_create is not supported by onedock"),
        "{error}"
    );
    assert!("rm".parse::<Action>().is_err());
}

#[test]
fn an_end_by_a_driver_is_not_told_as_one_by_itself_and_a_crash_is() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    node.end("cancel").unwrap();
    assert!(node.end("cancel").unwrap().notes.is_empty());
    assert!(node.deploy().unwrap().notes.is_empty());
    node.host.engine.change("one-5", |c| {
        c.info.running = false;
        c.info.exit_code = 3;
    });
    let notes = node.end("shutdown").unwrap().notes;
    assert!(notes[0].contains("exit code 3"), "{notes:?}");
}
