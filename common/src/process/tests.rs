use std::time::Instant;

use super::*;

const SHORT: Duration = Duration::from_millis(50);

#[test]
fn a_program_is_fed_and_answers() {
    let output = Command::new("cat").input("hello").run().unwrap();
    assert!(output.succeeded());
    assert_eq!(output.stdout, "hello");
}

#[test]
fn why_a_program_failed_is_one_line() {
    let call = || Command::new("ls").args(["--", "/nowhere\nDEPLOY SUCCESS"]);
    let output = call().run().unwrap();
    assert!(!output.succeeded());
    assert!(output.last_line().contains("No such file"), "{output:?}");
    let silent = Output {
        code: Some(3),
        stdout: String::new(),
        stderr: "\n".into(),
    };
    assert_eq!(
        silent.reason(100),
        "it ended with code 3 and gave no reason"
    );
    assert_eq!(silent.last_line(), silent.reason(100));
    let killed = Output {
        code: None,
        ..silent
    };
    assert_eq!(killed.reason(100), "it was killed");
}

#[test]
fn a_program_that_hangs_is_killed_at_its_deadline() {
    let begun = Instant::now();
    let call = Command::new("sleep").args(["60"]).within(SHORT);
    let error = call.run().unwrap_err();
    assert_eq!(
        error.to_string(),
        "sleep did not end within 0 s and was stopped"
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_program_that_is_not_there_is_named_with_its_package() {
    let error = Command::new("onedock-none").run().unwrap_err();
    assert_eq!(error.to_string(), "onedock-none is not installed");
    let error = Command::new("onedock-none")
        .of_package("none")
        .run()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "onedock-none is not installed; install the package none"
    );
    // A folder, and a file that nobody may run, are no programs.
    assert_eq!(find("/etc"), None);
    assert_eq!(find("/etc/passwd"), None);
    assert_eq!(find("/bin/sh"), Some("/bin/sh".into()));
}

#[test]
fn the_beginning_of_a_long_output_is_kept_and_nobody_waits_for_a_reader() {
    let call = Command::new("head").args(["-c", "9000000", "/dev/zero"]);
    let output = call.keeping(10).run().unwrap();
    assert!(output.succeeded());
    assert_eq!(output.stdout.len(), 10);
}

#[test]
fn a_service_that_a_program_leaves_behind_does_not_hold_up_its_answer() {
    let begun = Instant::now();
    let script = "echo begun; sleep 30 & echo $!";
    let output = Command::new("sh").args(["-c", script]).run().unwrap();
    let pid = output.stdout.lines().last().unwrap();
    Handle::open(pid.parse().unwrap()).unwrap().kill().unwrap();
    assert!(output.stdout.starts_with("begun\n"));
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_bare_program_has_nothing_of_the_caller() {
    let output = Command::new("env").bare().run().unwrap();
    let mut names: Vec<_> = output.stdout.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
    let output = Command::new("pwd").bare().run().unwrap();
    assert_eq!(output.stdout, "/\n");
    // What may be an administrator's is found by name only where that is asked for.
    let output = Command::local("env").bare().run().unwrap();
    assert!(
        output.stdout.contains("PATH=/usr/local/sbin:"),
        "{output:?}"
    );
}

#[test]
fn a_process_is_told_from_a_later_one_with_its_number() {
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let pid = child.id().cast_signed();
    let stat = Stat::of(pid).unwrap();
    assert!(!stat.zombie);
    assert_eq!(Stat::of(pid).unwrap(), stat);
    let handle = Handle::of(&child).unwrap();
    assert!(!handle.ends_within(Duration::ZERO).unwrap());
    handle.kill().unwrap();
    assert!(handle.ends_within(Duration::from_secs(5)).unwrap());
    assert!(Stat::of(pid).unwrap().zombie);
    child.wait().unwrap();
    assert!(Stat::of(pid).is_err());
    assert!(handle.kill().is_err());
}

#[test]
fn a_child_that_hangs_is_ended_at_its_deadline() {
    let begun = Instant::now();
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let error = Handle::wait(&mut child, SHORT).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(begun.elapsed() < Duration::from_secs(5));
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let status = Handle::wait(&mut child, Duration::from_secs(5)).unwrap();
    assert!(status.success());
}

#[cfg(feature = "tokio")]
mod asynchronous {
    use super::*;

    #[tokio::test]
    async fn a_program_is_fed_and_answers() {
        let output = Command::new("cat").input("hello").output().await.unwrap();
        assert_eq!((output.code, output.stdout.as_str()), (Some(0), "hello"));
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_at_its_deadline() {
        let begun = Instant::now();
        let call = Command::new("sleep").args(["60"]).within(SHORT);
        let error = call.output().await.unwrap_err();
        assert!(matches!(error, ProcessError::Late { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn the_beginning_of_a_long_output_is_kept_and_nobody_waits_for_a_reader() {
        let call = Command::new("head").args(["-c", "9000000", "/dev/zero"]);
        let output = call.keeping(10).output().await.unwrap();
        assert!(output.succeeded());
        assert_eq!(output.stdout.len(), 10);
    }

    #[tokio::test]
    async fn a_service_that_a_program_leaves_behind_does_not_hold_up_its_answer() {
        let begun = Instant::now();
        let script = "echo begun; sleep 30 & echo $!";
        let call = Command::new("sh").args(["-c", script]);
        let output = call.output().await.unwrap();
        let pid = output.stdout.lines().last().unwrap();
        Handle::open(pid.parse().unwrap()).unwrap().kill().unwrap();
        assert!(output.stdout.starts_with("begun\n"));
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}
