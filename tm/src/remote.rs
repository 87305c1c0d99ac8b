//! Calling the host's half, over ssh as OpenNebula's own transfer managers do: same user, same
//! keys, same configuration. The command is a fixed path; every value travels on standard input.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use onedock_common::answer::folded;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::location::HostName;
use crate::message::{Call, Outcome, Task};

/// Moving layers and disks may take long.
const TRANSFER: Duration = Duration::from_secs(3 * 60 * 60);
/// Everything else: the wait for another action on the VM, then some calls of the engine.
const WORK: Duration = Duration::from_secs(600);
/// `ssh`'s own word for "no connection".
const NO_CONNECTION: i32 = 255;
/// The shell's word for "no such program".
const NOT_FOUND: i32 = 127;

/// What follows the request.
pub(crate) enum Payload {
    Nothing,
    /// A file that was written for this call.
    File(std::fs::File),
}

/// Has `task` done on `host`. This machine is called without ssh.
pub(crate) async fn call(host: &HostName, task: Task, payload: Payload) -> anyhow::Result<Outcome> {
    let deadline = deadline(&task);
    let line = line(task)?;
    let mut child = spawn(host)?;
    let mut stdin = child
        .stdin
        .take()
        .context("the host's half has no standard input")?;
    let send = async move {
        stdin.write_all(&line).await?;
        if let Payload::File(file) = payload {
            tokio::io::copy(&mut tokio::fs::File::from_std(file), &mut stdin).await?;
        }
        stdin.shutdown().await
    };
    // A host that refuses stops reading; its reason is on standard error, not in the broken pipe.
    let (sent, output) = timeout(deadline, async { tokio::join!(send, gather(child)) })
        .await
        .with_context(|| late(host, deadline))?;
    let outcome = outcome(host, output?)?;
    sent.with_context(|| format!("the request to host {} broke off", host.as_str()))?;
    Ok(outcome)
}

/// Has `sent` done on one host and what it writes given to `received` on another.
pub(crate) async fn stream(
    (from, sent): (&HostName, Task),
    (to, received): (&HostName, Task),
) -> anyhow::Result<Outcome> {
    let (mut source, mut sink) = (spawn(from)?, spawn(to)?);
    let missing = "the host's half has no standard input or output";
    let mut request = source.stdin.take().context(missing)?;
    let mut output = source.stdout.take().context(missing)?;
    let mut input = sink.stdin.take().context(missing)?;
    let (sent, received) = (line(sent)?, line(received)?);
    let ask = async move {
        request.write_all(&sent).await?;
        request.shutdown().await
    };
    let carry = async move {
        input.write_all(&received).await?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let read = match output.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(read) => read,
            };
            input
                .write_all(buffer.get(..read).unwrap_or_default())
                .await?;
        }
        input.shutdown().await
    };
    let all = async { tokio::join!(ask, carry, gather(source), gather(sink)) };
    let (asked, carried, source, sink) = timeout(TRANSFER, all)
        .await
        .with_context(|| late(from, TRANSFER))?;
    let (source, sink) = (source?, sink?);
    // Who ended first tells why: the receiver has stopped reading, or the stream just ended.
    if carried.is_ok() && source.code != Some(0) {
        refused(from, &source)?;
    }
    let outcome = outcome(to, sink)?;
    if outcome != Outcome::Same {
        if source.code != Some(0) {
            refused(from, &source)?;
        }
        asked.with_context(|| format!("the request to host {} broke off", from.as_str()))?;
        carried.with_context(|| format!("the stream to host {} broke off", to.as_str()))?;
    }
    Ok(outcome)
}

fn line(task: Task) -> anyhow::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&Call::of(task))?;
    line.push(b'\n');
    Ok(line)
}

fn spawn(host: &HostName) -> anyhow::Result<Child> {
    start(host, command(host))
}

/// The error names the program: "No such file or directory" alone could mean any file.
fn start(host: &HostName, mut command: Command) -> anyhow::Result<Child> {
    let program = command.as_std().get_program().display().to_string();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| {
            format!(
                "cannot call host {}: {program} cannot be started",
                host.as_str()
            )
        })
}

fn late(host: &HostName, deadline: Duration) -> String {
    format!(
        "host {} did not answer within {} s",
        host.as_str(),
        deadline.as_secs()
    )
}

/// What the host's half has said.
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn outcome(host: &HostName, said: Said) -> anyhow::Result<Outcome> {
    if said.code != Some(0) {
        refused(host, &said)?;
    }
    serde_json::from_str(said.stdout.trim()).with_context(|| {
        format!(
            "host {} answered \"{}\"",
            host.as_str(),
            folded(&said.stdout, 200)
        )
    })
}

fn refused(host: &HostName, said: &Said) -> anyhow::Result<()> {
    match said.code {
        Some(NO_CONNECTION) if !host.is_here() => bail!(
            "host {} cannot be reached over ssh: {}",
            host.as_str(),
            folded(&said.stderr, 300)
        ),
        Some(NOT_FOUND) => bail!(
            "the drivers are not on host {} ({}); run 'onehost sync -f' on the front-end",
            host.as_str(),
            folded(&said.stderr, 200)
        ),
        _ => bail!("host {}: {}", host.as_str(), folded(&said.stderr, 500)),
    }
}

fn deadline(task: &Task) -> Duration {
    match task {
        Task::Stage { .. }
        | Task::Fetch { .. }
        | Task::Pack(_)
        | Task::Arrive { .. }
        | Task::Send { .. }
        | Task::Receive { .. }
        | Task::Save { .. }
        | Task::SnapCreate { .. }
        | Task::SnapRevert { .. }
        | Task::Move { .. } => TRANSFER,
        Task::Make { .. }
        | Task::MakeSwap { .. }
        | Task::Context { .. }
        | Task::Look { .. }
        | Task::Delete { .. }
        | Task::Depart { .. }
        | Task::Discard { .. }
        | Task::SnapDelete { .. }
        | Task::Resize { .. } => WORK,
    }
}

async fn gather(mut child: Child) -> anyhow::Result<Said> {
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let read_out = async {
        if let Some(pipe) = &mut out {
            pipe.take(64 * 1024).read_to_end(&mut stdout).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    let read_err = async {
        if let Some(pipe) = &mut err {
            pipe.take(64 * 1024).read_to_end(&mut stderr).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    let (a, b) = tokio::join!(read_out, read_err);
    a?;
    b?;
    // One that says more than anybody reads must not wait for a reader.
    drop((out, err));
    let status = child.wait().await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Said {
        code: status.code(),
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

fn command(host: &HostName) -> Command {
    if host.is_here() {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("onedock-tm"));
        let mut command = Command::new(program);
        command.arg("node");
        return command;
    }
    let mut command = Command::new("ssh");
    command.args([
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=20",
        // A host that loses its power says nothing any more.
        "-o",
        "ServerAliveInterval=15",
        "-o",
        "ServerAliveCountMax=4",
        "--",
        host.as_str(),
    ]);
    command.arg(remote_dir().join("tm/onedock/node"));
    command
}

/// SCRIPTS_REMOTE_DIR of oned.conf, which `oned` dumps to `config` at its start.
fn remote_dir() -> PathBuf {
    let var = match std::env::var_os("ONE_LOCATION") {
        Some(location) => Path::new(&location).join("var"),
        None => PathBuf::from("/var/lib/one"),
    };
    std::fs::read_to_string(var.join("config"))
        .ok()
        .and_then(|text| scripts_remote_dir(&text))
        .unwrap_or_else(|| PathBuf::from("/var/tmp/one"))
}

fn scripts_remote_dir(config: &str) -> Option<PathBuf> {
    let value = config
        .lines()
        .find_map(|line| line.trim().strip_prefix("SCRIPTS_REMOTE_DIR"))?;
    let path = Path::new(
        value
            .trim_start()
            .strip_prefix('=')?
            .trim()
            .trim_matches('"'),
    );
    // It becomes a word of a command line on the host.
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_');
    (path.is_absolute()
        && path
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .copied()
            .all(plain))
    .then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_goes_silent_is_given_up_and_no_value_is_on_the_command_line() {
        let command = command(&"node1".parse().unwrap());
        let words: Vec<_> = command
            .as_std()
            .get_args()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        assert!(words.iter().any(|w| w == "ServerAliveInterval=15"));
        let end = words.iter().position(|w| w == "--").unwrap();
        assert_eq!(words[end + 1], "node1");
        assert_eq!(words.len(), end + 3);
        assert!(words[end + 2].ends_with("/tm/onedock/node"));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let host = "node1".parse().unwrap();
        let error = start(&host, Command::new("onedock-there-is-no-ssh")).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "cannot call host node1: onedock-there-is-no-ssh cannot be started: No such file or \
             directory (os error 2)"
        );
    }

    #[test]
    fn the_folder_of_the_drivers_on_hosts_is_read_from_oned_s_dump() {
        let read = |text| scripts_remote_dir(text).map(|p| p.display().to_string());
        assert_eq!(
            read("PORT=2633\nSCRIPTS_REMOTE_DIR=/var/tmp/one\n"),
            Some("/var/tmp/one".into())
        );
        assert_eq!(
            read("SCRIPTS_REMOTE_DIR=\"/srv/one\""),
            Some("/srv/one".into())
        );
        assert_eq!(read("SCRIPTS_REMOTE_DIR=/tmp/$(id)"), None);
        assert_eq!(read("PORT=2633"), None);
    }
}
