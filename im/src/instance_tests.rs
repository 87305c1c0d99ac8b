use std::process::{Command, Stdio};
use std::thread;

use super::*;

fn instance() -> (tempfile::TempDir, Instance) {
    let dir = tempfile::tempdir().unwrap();
    let instance = Instance::new(dir.path().join("one_db"), HostId::new(3)).unwrap();
    (dir, instance)
}

#[test]
fn a_foreign_process_with_the_same_number_is_never_ended() {
    let (_dir, instance) = instance();
    let mut child = Command::new("sleep")
        .arg("60")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let mut other = Identity::of(pid).unwrap();
    other.start -= 1;
    fs::write(instance.pid_file(), serde_json::to_vec(&other).unwrap()).unwrap();
    instance.end_earlier().unwrap();
    assert!(
        child.try_wait().unwrap().is_none(),
        "it started at another time"
    );
    assert!(!instance.pid_file().exists());
    let real = Identity::of(pid).unwrap();
    fs::write(instance.pid_file(), serde_json::to_vec(&real).unwrap()).unwrap();
    let waited = thread::scope(|scope| {
        let waiter = scope.spawn(|| child.wait().unwrap());
        instance.end_earlier().unwrap();
        waiter.join().unwrap()
    });
    assert!(!waited.success());
}

#[test]
fn a_request_serves_the_standby_of_its_own_start_until_it_is_withdrawn() {
    let (_dir, instance) = instance();
    let first = instance.keep_request("<A/>").unwrap();
    assert_eq!(instance.request(&first).unwrap().configuration, "<A/>");
    assert_eq!(first.as_str().parse(), Ok(first.clone()));
    let second = instance.keep_request("<B/>").unwrap();
    assert!(instance.request(&first).is_none());
    assert_eq!(instance.request(&second).unwrap().configuration, "<B/>");
    instance.end_earlier().unwrap();
    assert!(instance.request(&second).is_none());
}

#[test]
fn garbage_in_the_pid_file_names_nobody() {
    let (_dir, instance) = instance();
    for text in [
        "",
        "1",
        "{\"pid\":1}",
        "{\"pid\":-1,\"start\":0,\"boot_id\":\"\"}",
    ] {
        fs::write(instance.pid_file(), text).unwrap();
        instance.end_earlier().unwrap();
    }
    instance.end_earlier().unwrap();
}

#[test]
fn fault_61_a_second_agent_of_the_same_host_is_refused_while_the_first_lives() {
    let (_dir, instance) = instance();
    let claim = instance.claim().unwrap();
    assert!(matches!(instance.claim(), Err(InstanceError::Busy(_))));
    let other = Instance::new(instance.dir(), HostId::new(4)).unwrap();
    drop(other.claim().unwrap());
    drop(claim);
    // A child that another test's thread forks holds the lock until it becomes its program.
    wait::until(GRACE, || instance.claim().ok()).expect("the first has ended");
}

#[test]
fn attack_45_a_link_in_place_of_the_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("one_db")).unwrap();
    let refused = Instance::new(dir.path().join("one_db"), HostId::new(3));
    assert!(matches!(refused, Err(InstanceError::Foreign(_))));
}
