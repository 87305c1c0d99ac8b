//! Every action interrupted at every call of the engine, repeated, and in the wrong order: what
//! is left must be as if it had run once, or not at all. The engine is the one in memory; the
//! same actions run against the real one in the workspace's tests.

use onedock_common::VmId;
use onedock_common::engine::fake::Failure;
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::boot::BootSpec;

use super::Action;
use super::bed::{Bed, small};

#[test]
fn a_first_deploy_answers_the_deploy_id_with_four_calls_of_the_engine() {
    let bed = Bed::new();
    assert_eq!(bed.deploy().unwrap(), Answer::line("one-5"));
    bed.assert_runs_once(1);
    assert_eq!(
        bed.host.engine.calls(),
        ["named", "image", "create", "start", "watch"]
    );
}

#[test]
fn fault_6_a_second_deploy_of_a_running_vm_changes_nothing_and_answers_the_same() {
    let bed = Bed::new();
    bed.deploy().unwrap();
    assert_eq!(bed.deploy().unwrap(), Answer::line("one-5"));
    bed.assert_runs_once(1);
}

#[test]
fn faults_1_to_6_a_deploy_cut_off_at_any_call_is_finished_by_the_next() {
    for call in 1..=5 {
        for failure in [Failure::Before(call), Failure::After(call)] {
            let bed = Bed::new();
            bed.host.engine.fail(failure);
            bed.deploy().expect_err(&format!("{failure:?}"));
            bed.host.engine.heal();
            assert_eq!(bed.deploy().unwrap(), Answer::line("one-5"), "{failure:?}");
            bed.assert_runs_once(1);
            assert!(
                !bed.host.paths.journal(VmId::new(5)).exists(),
                "{failure:?}"
            );
        }
    }
}

#[test]
fn fault_1_a_deploy_that_fails_leaves_nothing_that_it_made() {
    for failure in [
        Failure::Before(4),
        Failure::After(4),
        Failure::Before(5),
        Failure::After(5),
    ] {
        let bed = Bed::new();
        bed.host.engine.fail(failure);
        bed.deploy().expect_err(&format!("{failure:?}"));
        bed.assert_nothing_left();
    }
}

#[test]
fn fault_2_a_container_that_an_interrupted_deploy_made_is_taken_up() {
    let bed = Bed::new();
    bed.deploy().unwrap();
    // As after a kill between create and the descriptor's writing.
    bed.host.engine.change("one-5", |c| {
        c.info.running = false;
        c.info.started_before = false;
        c.starts = 0;
    });
    let mut descriptor = bed.descriptor();
    descriptor.container = None;
    descriptor.write(&bed.system_dir.join("disk.0")).unwrap();
    bed.deploy().unwrap();
    bed.assert_runs_once(1);
}

#[test]
fn fault_2_a_container_that_the_engine_still_makes_for_a_deploy_cut_off_is_waited_for() {
    let bed = Bed::new();
    bed.deploy().unwrap();
    bed.host.engine.change("one-5", |c| {
        c.info.running = false;
        c.info.started_before = false;
        c.starts = 0;
    });
    let mut descriptor = bed.descriptor();
    descriptor.container = None;
    descriptor.write(&bed.system_dir.join("disk.0")).unwrap();
    bed.host.engine.hide(3);
    assert_eq!(bed.deploy().unwrap(), Answer::line("one-5"));
    bed.assert_runs_once(1);
}

#[test]
fn fault_45_a_command_that_dies_at_once_fails_the_deploy_with_its_code_and_last_words() {
    let bed = Bed::new();
    bed.host.engine.die_with(Some(3));
    let error = format!("{:#}", bed.deploy().unwrap_err());
    assert!(
        error.contains("exit code 3; last output: the last line"),
        "{error}"
    );
    bed.assert_nothing_left();
}

#[test]
fn a_resume_that_fails_leaves_the_container_and_its_layer_stopped() {
    let bed = Bed::new();
    bed.deploy().unwrap();
    let id = bed.descriptor().container;
    bed.end("shutdown").unwrap();
    bed.host.engine.die_with(Some(1));
    bed.deploy().unwrap_err();
    let containers = bed.host.engine.containers();
    assert_eq!(containers.len(), 1);
    assert!(!containers[0].info.running);
    assert_eq!(bed.descriptor().container, id);
    bed.host.engine.die_with(None);
    let answer = bed.deploy().unwrap();
    assert!(answer.notes[0].contains("exit code 1"), "{answer:?}");
    bed.assert_runs_once(3);
}

#[test]
fn a_resume_whose_answer_was_lost_does_not_leave_the_vm_running() {
    for lost in [3, 4] {
        let bed = Bed::new();
        bed.deploy().unwrap();
        bed.end("shutdown").unwrap();
        bed.host.engine.fail(Failure::After(lost));
        bed.deploy().unwrap_err();
        let calls = bed.host.engine.calls();
        assert!(["start", "watch"].contains(&calls[lost - 1]), "{calls:?}");
        let containers = bed.host.engine.containers();
        assert_eq!((containers.len(), containers[0].info.running), (1, false));
        bed.host.engine.heal();
        bed.deploy().unwrap();
        bed.assert_runs_once(3);
    }
}

#[test]
fn fault_40_an_engine_that_hangs_while_a_deploy_is_taken_back_holds_it_half_a_minute() {
    for (hangs, resume) in [("remove", false), ("kill", true)] {
        let bed = Bed::new();
        if resume {
            bed.deploy().unwrap();
            bed.end("shutdown").unwrap();
        }
        bed.host.engine.die_with(Some(3));
        bed.host.engine.hang(Some(hangs));
        let error = bed.deploy_in_no_time().unwrap_err().to_string();
        assert!(error.contains("exit code 3"), "{error}");
        assert!(error.contains("did not answer within 30 s"), "{error}");
        bed.host.engine.hang(None);
        bed.host.engine.die_with(None);
        bed.deploy().unwrap();
        bed.assert_runs_once(if resume { 3 } else { 2 });
    }
}

#[test]
fn fault_17_a_resume_with_another_template_has_its_capacity_and_nics() {
    let bed = Bed::new();
    bed.deploy().unwrap();
    bed.end("shutdown").unwrap();
    let changed = small()
        .replace("<MEMORY><![CDATA[256]]>", "<MEMORY><![CDATA[512]]>")
        .replace(
            "<IP><![CDATA[10.77.0.23]]></IP>",
            "<IP><![CDATA[10.77.0.99]]></IP>",
        );
    bed.deploy_with(&changed).unwrap();
    bed.assert_runs_once(2);
    let container = &bed.host.engine.containers()[0].info;
    assert_eq!(container.limits.memory, 512 << 20);
    let spec = BootSpec::read(&bed.host.paths, &container.id)
        .unwrap()
        .unwrap();
    assert_eq!(spec.nics[1].addresses[0].to_string(), "10.77.0.99/24");
}

#[test]
fn fault_19_a_foreign_container_of_the_name_is_refused_and_left_alone() {
    let bed = Bed::new();
    bed.host.engine.add(
        "one-5",
        [("org.opennebula.vm".to_owned(), "5".to_owned())].into(),
    );
    let error = bed.deploy().unwrap_err().to_string();
    assert!(
        error.contains("taken by a container that is not OpenNebula's"),
        "{error}"
    );
    bed.end("cancel").unwrap();
    assert_eq!(bed.host.engine.containers().len(), 1);
}

#[test]
fn a_container_removed_by_hand_is_not_silently_replaced_by_an_empty_disk() {
    let bed = Bed::new();
    bed.deploy().unwrap();
    let id = bed.descriptor().container.unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime
        .block_on(onedock_common::engine::Engine::remove(
            &bed.host.engine,
            &id,
        ))
        .unwrap();
    let error = bed.deploy().unwrap_err().to_string();
    assert!(
        error.contains("removed behind OpenNebula's back"),
        "{error}"
    );
}

#[test]
fn faults_7_and_16_ending_twice_interrupted_or_without_a_container_succeeds() {
    for action in ["shutdown", "cancel"] {
        let bed = Bed::new();
        bed.end(action).unwrap();
        bed.deploy().unwrap();
        for call in 1..=2 {
            bed.host.engine.fail(Failure::After(call));
            bed.end(action).expect_err(action);
            bed.host.engine.heal();
        }
        bed.end(action).unwrap();
        bed.end(action).unwrap();
        let containers = bed.host.engine.containers();
        assert_eq!((containers.len(), containers[0].info.running), (1, false));
    }
}

#[test]
fn reboot_and_reset_start_the_same_container_again() {
    let bed = Bed::new();
    bed.deploy().unwrap();
    bed.end("reboot").unwrap();
    bed.end("reset").unwrap();
    bed.assert_runs_once(3);
}

#[test]
fn a_vm_on_a_system_datastore_of_another_kind_is_refused_with_one_clear_line() {
    let bed = Bed::new();
    let small = small();
    let other = small.replacen(
        "<TM_MAD><![CDATA[onedock]]></TM_MAD>\n   <DS_ID>",
        "<TM_MAD><![CDATA[ceph]]></TM_MAD>\n   <DS_ID>",
        1,
    );
    assert_ne!(other, small);
    let error = bed.deploy_with(&other).unwrap_err().to_string();
    assert!(error.contains("TM_MAD=ceph"), "{error}");
    bed.assert_nothing_left();
}

#[test]
fn an_action_that_is_not_served_says_so_in_one_line() {
    let bed = Bed::new();
    let error = bed.end("snapshot_create").unwrap_err().to_string();
    assert!(
        error.starts_with("snapshot_create is not served by onedock"),
        "{error}"
    );
    assert!("rm".parse::<Action>().is_err());
}

#[test]
fn an_end_by_a_driver_is_not_told_as_one_by_itself_and_a_crash_is() {
    let bed = Bed::new();
    bed.deploy().unwrap();
    bed.end("cancel").unwrap();
    assert!(bed.end("cancel").unwrap().notes.is_empty());
    assert!(bed.deploy().unwrap().notes.is_empty());
    bed.host.engine.change("one-5", |c| {
        c.info.running = false;
        c.info.exit_code = 3;
    });
    let notes = bed.end("shutdown").unwrap().notes;
    assert!(notes[0].contains("exit code 3"), "{notes:?}");
}
