//! What the host's half does when its connection is cut.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use onedock_tests::machine::{Machine, Setting};

use crate::PROGRAM;

/// Runs the host's half with exactly these bytes on its standard input.
fn node(machine: &Machine, input: &[u8]) -> Result<Output> {
    let socket = machine.folder().join("no-engine.sock");
    machine.inside(|| {
        let mut child = Command::new(PROGRAM)
            .arg("node")
            .env("DOCKER_HOST", format!("unix://{}", socket.display()))
            .env("ONEDOCK_CONF", "/etc/onedock/onedock.conf")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("no input")?;
        // One that refuses stops reading.
        let _ = stdin.write_all(input);
        drop(stdin);
        Ok(child.wait_with_output()?)
    })
}

fn request(name: &str, disk: &Path) -> Vec<u8> {
    let (version, disk) = (env!("CARGO_PKG_VERSION"), disk.display());
    let body = match name {
        "context" => format!(r#"{{"disk":"{disk}"}}"#),
        "receive" => format!(r#"{{"path":"{disk}","token":"t"}}"#),
        _ => format!(r#"{{"path":"{disk}"}}"#),
    };
    let line = format!(r#"{{"version":"{version}","request":"{name}","body":{body}}}"#);
    (line + "\n").into_bytes()
}

/// The host's half refuses the input, in one line that gives `reason`.
fn refuses(machine: &Machine, input: &[u8], what: &str, reason: &str) -> Result<()> {
    let output = node(machine, input)?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !output.status.success() && output.stdout.is_empty(),
        "{what}: taken for whole: {output:?}"
    );
    let is_one_line = stderr.trim_end().lines().count() == 1;
    ensure!(is_one_line && stderr.contains(reason), "{what}: {stderr}");
    Ok(())
}

#[test]
fn a_request_that_was_cut_anywhere_does_nothing() -> Result<()> {
    let machine = Machine::start(Setting::default())?;
    let disk = machine.folder().join("101/5/disk.5");
    fs::create_dir_all(&disk)?;
    fs::write(disk.join("context.sh"), "A='1'\n")?;
    for task in ["context", "receive", "send", "discard"] {
        let whole = request(task, &disk);
        for end in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
            let what = format!("{task} {end}");
            refuses(&machine, &whole[..end], &what, "is not one line")?;
            ensure!(disk.join("context.sh").exists(), "{task} {end}: it is gone");
        }
    }
    Ok(())
}

#[test]
fn a_context_whose_connection_was_cut_at_its_beginning_leaves_the_old_one() -> Result<()> {
    let machine = Machine::start(Setting::default())?;
    let disk = machine.folder().join("101/5/disk.5");
    fs::create_dir_all(&disk)?;
    fs::write(disk.join("context.sh"), "A='1'\n")?;
    let context = request("context", &disk);
    // No byte, a part of a length, an end mark without its digest.
    for more in [&b""[..], &[0, 0], &[0, 0, 0, 9, b'x'], &[0; 4]] {
        let input = [&context[..], more].concat();
        refuses(&machine, &input, "context", "did not arrive whole")?;
        ensure!(
            fs::read_to_string(disk.join("context.sh"))? == "A='1'\n",
            "the context is gone"
        );
        ensure!(
            fs::read_dir(disk.parent().context("no folder")?)?.count() == 1,
            "something stays beside it"
        );
    }
    let folder = machine.folder().join("101/6");
    let receive = request("receive", &folder.join("disk.1"));
    for more in [&b""[..], &[0, 0], &[0, 0, 0, 9, b'{'], &[0; 4]] {
        let input = [&receive[..], more].concat();
        refuses(&machine, &input, "receive", "was not received")?;
        ensure!(!folder.join("disk.1").exists(), "a part of a disk");
    }
    Ok(())
}
