use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};

use super::*;
use crate::process::Command;

const USER: User = User {
    uid: 4711,
    gid: 4712,
};

/// What a shell says in a root with the file `disk` in it.
fn in_root(script: &str) -> crate::process::Output {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk.1");
    fs::write(&disk, "content").unwrap();
    chown(&disk, Some(USER.uid), Some(USER.gid)).unwrap();
    let root = PrivateRoot::new(USER, move |folder| {
        fs::write(folder.join("disk"), "")?;
        private_root::bind(&disk, &folder.join("disk"), false)
    });
    let command = Command::new("sh").args(["-c", script]);
    command.confined(Confinement::to_root(root)).run().unwrap()
}

#[test]
fn attack_40_a_program_in_a_root_of_its_own_is_another_user_without_rights() {
    // Of the builtins of a shell alone: there is no /proc in it.
    let output = in_root("id -u; id -g; id -G; echo $$; cat disk; echo more >>disk; cat disk");
    assert_eq!(
        output.stdout, "4711\n4712\n4712\n1\ncontentcontentmore\n",
        "{output:?}"
    );
    let output = in_root(
        "ls -A /; ls -A /dev /proc /etc; cat /proc/mounts; touch /usr/x; id -u >/new; cat /new",
    );
    for name in ["root", "home", "var", "run", "tmp", "srv"] {
        assert!(
            !output.stdout.lines().any(|line| line == name),
            "{output:?}"
        );
    }
    assert!(output.stderr.contains("/usr/x"), "{output:?}");
    assert!(output.stdout.ends_with("4711\n"), "{output:?}");
}

#[test]
fn attack_40_a_program_in_a_root_of_its_own_makes_no_sockets_no_namespaces_and_no_mounts() {
    for (refused, script) in [
        (
            "a socket",
            "exec perl -e 'socket(S, 2, 1, 0) or die \"refused: $!\"'",
        ),
        (
            "a unix socket",
            "exec perl -e 'socket(S, 1, 1, 0) or die \"refused: $!\"'",
        ),
        ("a user namespace", "exec unshare -U true"),
        ("a mount", "exec mount -t tmpfs none /etc"),
        (
            "tracing",
            "exec perl -e 'syscall(101, 0, 0, 0, 0) < 0 and die \"refused: $!\"'",
        ),
        (
            "x32",
            "exec perl -e 'syscall(0x40000000 + 39) < 0 and die \"refused: $!\"'",
        ),
        (
            "another user",
            "exec perl -e '$< = 0; $> = 0; $> == 0 or die \"refused: $!\"'",
        ),
        (
            "more than 1 MiB of files",
            "exec dd if=/usr/bin/perl of=/big bs=1M count=2",
        ),
    ] {
        let output = in_root(script);
        assert_ne!(output.code, Some(0), "{refused}: {output:?}");
        assert_ne!(output.stderr, "", "{refused}: {output:?}");
    }
}

#[test]
fn a_program_in_a_root_of_its_own_has_threads_children_and_pipes() {
    let output =
        in_root("seq 3 | sort -r | head -1; wc -c </disk; xz --version >/dev/null && echo ran");
    assert!(output.stdout.starts_with("3\n7\n"), "{output:?}");
}

#[test]
fn a_confined_program_has_bounded_memory_and_leaves_no_core() {
    let output = Command::new("sh")
        .args(["-c", "sleep 0.2; ulimit -d; ulimit -c; ulimit -Hd"])
        .confined(Confinement::beneath([]).with_memory(512 << 20))
        .run()
        .unwrap();
    assert_eq!(output.stdout, "524288\n0\n524288\n", "{output:?}");
}

#[test]
fn a_program_of_the_drivers_user_reaches_its_folder_and_no_socket() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("inside");
    fs::create_dir(&inside).unwrap();
    let script = format!("echo x >{0}/made && cat {0}/made", inside.display());
    let run = |script: &str| {
        let to = Confinement::beneath([inside.clone()]);
        Command::new("sh")
            .args(["-c", script])
            .confined(to)
            .run()
            .unwrap()
    };
    assert_eq!(run(&script).stdout, "x\n");
    assert_eq!(
        fs::metadata(inside.join("made")).unwrap().uid(),
        nix::unistd::getuid().as_raw()
    );
    let socket = run("exec perl -e 'socket(S, 2, 1, 0) or die \"refused: $!\"'");
    assert!(socket.stderr.contains("refused"), "{socket:?}");
    let outside = run(&format!("echo x >{}/outside", dir.path().display()));
    // A kernel without Landlock leaves the files that the user has.
    assert_ne!(outside.code == Some(0), has_landlock(), "{outside:?}");
}

#[test]
fn attack_40_a_program_of_the_drivers_user_does_nothing_to_other_processes_and_modes() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let mut other = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let run = |script: &str| {
        let to = Confinement::beneath([dir.path().to_owned()]);
        let command = Command::new("sh").args(["-c", script]).confined(to);
        command.run().unwrap()
    };
    let pid = other.id();
    let file = dir.path().join("file");
    for script in [
        format!("kill -9 {pid}"),
        format!("prlimit --pid {pid} --nofile=1:1"),
        format!("chmod 777 {}", file.display()),
    ] {
        let output = run(&script);
        assert_ne!(output.code, Some(0), "{script}: {output:?}");
    }
    assert!(run("ulimit -n 100 && test $(ulimit -n) = 100").succeeded());
    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn what_cannot_be_laid_starts_nothing() {
    let root = PrivateRoot::new(USER, |_| Err(io::Error::other("no disk")));
    let error = Command::new("true")
        .confined(Confinement::to_root(root))
        .run();
    assert_eq!(
        error.unwrap_err().to_string(),
        "true cannot be started: no disk"
    );
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn a_confined_program_ends_with_its_call() {
    let call = Command::new("sleep").args(["60"]);
    let call = call
        .confined(Confinement::beneath([]))
        .within(std::time::Duration::from_millis(50));
    assert!(
        call.output()
            .await
            .unwrap_err()
            .to_string()
            .contains("did not end")
    );
    let output = Command::new("echo")
        .args(["heard"])
        .confined(Confinement::beneath([]));
    assert_eq!(output.output().await.unwrap().stdout, "heard\n");
}

fn has_landlock() -> bool {
    use landlock::{ABI, Access as _, AccessFs, Ruleset, RulesetAttr as _, RulesetStatus};
    let asked = thread::spawn(|| {
        let rules = Ruleset::default().handle_access(AccessFs::from_all(ABI::V1));
        rules
            .unwrap()
            .create()
            .unwrap()
            .restrict_self()
            .unwrap()
            .ruleset
    });
    asked.join().unwrap() != RulesetStatus::NotEnforced
}
