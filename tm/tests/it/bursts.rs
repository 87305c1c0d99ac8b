//! Connections that a host's sshd refuses because many come at once.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onedock_tests::machine::{Machine, Setting};

use crate::PROGRAM;
use crate::sshd::{self, Server};

/// A machine without an engine.
struct FrontEnd(Machine);

impl FrontEnd {
    fn start() -> Result<Self> {
        let machine = Machine::start(Setting::default())?;
        machine.inside(|| {
            fs::write(
                "/etc/hosts",
                "127.0.0.1 localhost\n127.0.0.2 node-a node-b\n",
            )?;
            fs::write("/etc/onedock/onedock.conf", "ONEDOCK_REGISTRY_AUTH=/none\n")?;
            // Locks lie beside each datastore then, as if each were another host's.
            fs::remove_dir("/var/lib/onedock/boot")?;
            sshd::lay_drivers(PROGRAM)
        })?;
        fs::write(machine.folder().join("context.sh"), "A='1'\n")?;
        Ok(Self(machine))
    }

    /// The variables of the programs, on both sides of ssh.
    fn variables(&self) -> [(&'static str, String); 2] {
        let socket = self.0.folder().join("no-engine.sock");
        [
            ("DOCKER_HOST", format!("unix://{}", socket.display())),
            ("ONEDOCK_CONF", "/etc/onedock/onedock.conf".to_owned()),
        ]
    }

    /// A disk's path in a datastore of the test.
    fn disk(&self, datastore: &str, vm: usize, disk: u32) -> PathBuf {
        self.0
            .folder()
            .join(format!("{datastore}/{vm}/disk.{disk}"))
    }

    fn tm(&self, words: &[&str], path: Option<&Path>) -> Result<Output> {
        self.0.inside(|| {
            let mut command = Command::new(PROGRAM);
            command
                .args(words)
                .envs(self.variables())
                .stdin(Stdio::null());
            if let Some(path) = path {
                let others = std::env::var("PATH").unwrap_or_default();
                command.env("PATH", format!("{}:{others}", path.display()));
            }
            command.output().context("the program cannot be run")
        })
    }

    fn context(&self, vm: usize, path: Option<&Path>) -> Result<Output> {
        let file = self.0.folder().join("context.sh");
        let disk = format!("node-a:{}", self.disk("101", vm, 5).display());
        let words = ["context", text(&file)?, &disk, &vm.to_string(), "101"];
        self.tm(&words, path)
    }

    /// An `ssh` that runs `line` first; `calls` has one line for each call of it.
    fn ssh(&self, line: &str) -> Result<Ssh> {
        let folder = self.0.folder().join("bin");
        fs::create_dir_all(&folder)?;
        let (program, calls) = (folder.join("ssh"), folder.join("calls"));
        let text = format!(
            "#!/bin/sh\necho \"$*\" >> {calls}\nnth=$(grep -c . {calls})\n{line}\nexec {PROGRAM} node\n",
            calls = calls.display()
        );
        fs::write(&program, text)?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        Ok(Ssh { folder, calls })
    }
}

struct Ssh {
    folder: PathBuf,
    calls: PathBuf,
}

impl Ssh {
    fn calls(&self) -> Result<usize> {
        Ok(fs::read_to_string(&self.calls)?.lines().count())
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

fn succeeded(output: &Output) -> Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && stderr.is_empty(), "{stderr}");
    Ok(())
}

const REFUSED: &str =
    "echo 'kex_exchange_identification: Connection closed by remote host' >&2; exit 255";

#[test]
fn a_call_that_is_refused_before_the_log_in_is_made_again() -> Result<()> {
    let front = FrontEnd::start()?;
    // OpenSSH 10 ends without a word where its configuration says LogLevel ERROR.
    for refusal in [REFUSED, "exit 255"] {
        let ssh = front.ssh(&format!("if [ $nth -lt 4 ]; then {refusal}; fi"))?;
        succeeded(&front.context(5, Some(&ssh.folder))?)?;
        ensure!(ssh.calls()? == 4, "{refusal}: {} calls", ssh.calls()?);
        let file = front.disk("101", 5, 5).join("context.sh");
        ensure!(fs::read_to_string(&file)? == "A='1'\n", "other content");
        fs::remove_file(file)?;
        fs::remove_file(&ssh.calls)?;
    }
    Ok(())
}

#[test]
fn a_call_that_the_host_may_have_begun_or_that_cannot_succeed_is_made_once() -> Result<()> {
    let front = FrontEnd::start()?;
    for (line, words) in [
        // The request was read.
        (format!("read request; {REFUSED}"), "kex_exchange"),
        // What was begun with it was killed.
        ("read request; exit 255".to_owned(), "ssh gave no reason"),
        // There was an answer.
        (format!("echo '\"do'; {REFUSED}"), "kex_exchange"),
        // No log-in will ever be.
        (
            "echo 'oneadmin@node-a: Permission denied (publickey).' >&2; exit 255".to_owned(),
            "Permission denied",
        ),
        // Not ssh's own end.
        (
            "echo 'Connection closed by whom' >&2; exit 1".to_owned(),
            "whom",
        ),
    ] {
        let ssh = front.ssh(&line)?;
        let output = front.context(5, Some(&ssh.folder))?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            !output.status.success() && stderr.contains(words),
            "{line}: {stderr}"
        );
        ensure!(ssh.calls()? == 1, "{line}: {} calls", ssh.calls()?);
        fs::remove_file(&ssh.calls)?;
    }
    Ok(())
}

/// A disk of 3 MB, so that no pipe holds it.
fn content() -> Vec<u8> {
    (0..3_u32 << 20)
        .map(|n| (n / 4096).to_le_bytes()[0])
        .collect()
}

fn move_disk(front: &FrontEnd, ssh: &Ssh) -> Result<Output> {
    let (from, to) = (front.disk("101", 5, 1), front.disk("102", 5, 1));
    let words = [
        "mv",
        &format!("node-a:{}", from.display()),
        &format!("node-b:{}", to.display()),
        "5",
        "101",
    ];
    front.tm(&words, Some(&ssh.folder))
}

fn lay_disk(front: &FrontEnd) -> Result<()> {
    let from = front.disk("101", 5, 1);
    fs::create_dir_all(from.parent().context("no folder")?)?;
    fs::create_dir_all(front.0.folder().join("102"))?;
    Ok(fs::write(from, content())?)
}

#[test]
fn a_stream_whose_sender_or_receiver_is_refused_begins_again_and_loses_nothing() -> Result<()> {
    let front = FrontEnd::start()?;
    // Call 1 inspects, 2 sends, 3 receives and 4 removes, when none is refused.
    for refused in ["2", "3", "3|4", "2|4|5"] {
        lay_disk(&front)?;
        let ssh = front.ssh(&format!("case $nth in {refused}) {REFUSED};; esac"))?;
        succeeded(&move_disk(&front, &ssh)?).context(refused.to_owned())?;
        let to = front.disk("102", 5, 1);
        ensure!(fs::read(&to)? == content(), "{refused}: other content");
        ensure!(
            !front.disk("101", 5, 1).exists(),
            "{refused}: it is still there"
        );
        fs::remove_file(to)?;
        fs::remove_file(&ssh.calls)?;
    }
    Ok(())
}

#[test]
fn a_disk_that_the_last_step_of_a_killed_call_removes_under_this_one_is_moved() -> Result<()> {
    let front = FrontEnd::start()?;
    lay_disk(&front)?;
    let (from, to) = (front.disk("101", 5, 1), front.disk("102", 5, 1));
    // The call before has written it whole; its request to remove arrives before this call sends.
    fs::create_dir_all(to.parent().context("no folder")?)?;
    fs::write(&to, content())?;
    let remove = format!("if [ $nth = 2 ]; then rm {}; fi", from.display());
    let ssh = front.ssh(&remove)?;
    succeeded(&move_disk(&front, &ssh)?)?;
    ensure!(fs::read(&to)? == content(), "other content");
    ensure!(!from.exists(), "it is there again");
    // One that is nowhere is lost, not moved.
    fs::remove_file(&to)?;
    lay_disk(&front)?;
    fs::remove_file(&ssh.calls)?;
    let output = move_disk(&front, &ssh)?;
    ensure!(!output.status.success(), "a lost disk was moved");
    Ok(())
}

#[test]
fn a_stream_that_breaks_off_in_its_middle_fails_once_and_the_disk_stays() -> Result<()> {
    let front = FrontEnd::start()?;
    // The sender's connection ends after 1 MB, the receiver's after it has read something.
    for broken in [
        format!("if [ $nth = 2 ]; then {PROGRAM} node | head -c 1000000; {REFUSED}; fi"),
        format!("if [ $nth = 3 ]; then head -c 100 > /dev/null; {REFUSED}; fi"),
    ] {
        lay_disk(&front)?;
        let ssh = front.ssh(&broken)?;
        let output = move_disk(&front, &ssh)?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "{broken} succeeded");
        ensure!(stderr.contains("node-"), "{stderr}");
        // The fourth asks whether the disk has been moved all the same.
        ensure!(ssh.calls()? == 4, "{broken}: {} calls", ssh.calls()?);
        ensure!(
            fs::read(front.disk("101", 5, 1))? == content(),
            "other content"
        );
        ensure!(!front.disk("102", 5, 1).exists(), "a part has arrived");
        fs::remove_file(&ssh.calls)?;
    }
    Ok(())
}

#[test]
fn forty_calls_at_once_on_a_stock_sshd_all_succeed() -> Result<()> {
    let front = FrontEnd::start()?;
    let key = sshd::key(front.0.folder())?;
    let log = front.0.folder().join("sshd.log");
    let server = Server {
        address: "127.0.0.2",
        key: &key,
        // The default of sshd_config(5).
        max_startups: "10:30:100",
        log: Some(&log),
    };
    server.start(&front.0, &front.variables())?;
    let begin = Instant::now();
    while !front
        .0
        .inside(|| Ok(Command::new("ssh").args(["node-a", "true"]).output()?))?
        .status
        .success()
    {
        ensure!(
            begin.elapsed() < Duration::from_secs(30),
            "sshd does not answer"
        );
        onedock_common::wait::pause(Duration::from_millis(50));
    }
    let failed: Vec<String> = thread::scope(|scope| {
        let calls: Vec<_> = (0..40)
            .map(|vm| {
                let front = &front;
                scope.spawn(move || succeeded(&front.context(vm, None)?))
            })
            .collect();
        let ended = calls.into_iter().map(|call| call.join());
        ended
            .filter_map(|result| match result {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("panicked".to_owned()),
            })
            .collect()
    });
    ensure!(
        failed.is_empty(),
        "{} of 40 failed: {failed:?}",
        failed.len()
    );
    for vm in 0..40 {
        ensure!(
            front.disk("101", vm, 5).join("context.sh").exists(),
            "VM {vm}"
        );
    }
    let log = fs::read_to_string(log)?;
    // As Debian 12 writes it, and in small letters from 13 on.
    ensure!(
        log.to_lowercase().contains("maxstartups"),
        "none was refused, so nothing was shown: {log}"
    );
    Ok(())
}
