//! Calling the node half of another host, over ssh as OpenNebula's own transfer managers do: same
//! user, same keys, same configuration. The command is a fixed path; every value travels on standard input.

mod again;

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::sys::memfd::{MFdFlags, memfd_create};
use onedock_common::process::{Output, gather};
use onedock_common::types::text::folded;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::again::{Pauses, is_refused};
use crate::location::HostName;
use crate::request::{self, Arrival, Request};

/// `ssh`'s own word for "no connection".
const NO_CONNECTION: i32 = 255;
/// The shell's word for "no such program".
const NOT_FOUND: i32 = 127;
/// How much of a reply is read, in bytes.
const REPLY: usize = 64 * 1024;
/// How much of a stream is carried at a time.
const PIECE: usize = 256 * 1024;
/// The most that a pipe holds which nobody has read (pipe(7)).
const PIPE: usize = 64 * 1024;

/// What follows the request.
pub(crate) enum Payload {
    Nothing,
    /// A file that was written for this call.
    File(File),
}

/// Has `request` done on `host`. This machine is called without ssh.
pub(crate) async fn call<R: Request>(
    host: &HostName,
    request: &R,
    payload: Payload,
) -> anyhow::Result<R::Reply> {
    let deadline = R::DEADLINE;
    let mut input = Input::new(request::line(request)?, payload)?;
    let output = timeout(deadline, async {
        let mut pauses = Pauses::new();
        loop {
            let output = gather(&mut spawn(host, input.stdin()?)?, REPLY).await?;
            let again = is_refused_by(&output, host) && input.is_unread()?;
            if !(again && pauses.pause(host).await) {
                return anyhow::Ok(output);
            }
        }
    });
    reply(host, &output.await.with_context(|| late(host, deadline))??)
}

/// Has `sent` done on one host and what it writes given to `received` on another.
pub(crate) async fn stream<S: Request, R: Request<Reply = Arrival>>(
    (from, sent): (&HostName, &S),
    (to, received): (&HostName, &R),
) -> anyhow::Result<Arrival> {
    let carried = timeout(S::DEADLINE, async {
        let source = Source::open(from, request::line(sent)?).await?;
        source.carry(to, request::line(received)?).await
    });
    carried.await.with_context(|| late(from, S::DEADLINE))?
}

/// A request with what follows it, as a file that ssh reads. How far it was read shows whether the
/// host can have begun.
struct Input(File);

impl Input {
    fn new(line: Vec<u8>, payload: Payload) -> anyhow::Result<Self> {
        let unwritten = "the request to a host cannot be written";
        let mut file = match payload {
            // There may be passwords in it.
            Payload::Nothing => {
                File::from(memfd_create(c"request", MFdFlags::MFD_CLOEXEC).context(unwritten)?)
            }
            Payload::File(_) => tempfile::tempfile().context(unwritten)?,
        };
        file.write_all(&line).context(unwritten)?;
        if let Payload::File(mut content) = payload {
            io::copy(&mut content, &mut file).context(unwritten)?;
        }
        Ok(Self(file))
    }

    /// The request from its beginning.
    fn stdin(&mut self) -> anyhow::Result<Stdio> {
        self.0.rewind()?;
        Ok(self.0.try_clone()?.into())
    }

    /// Whether ssh has read nothing of it. It reads as soon as the host has opened a session, before
    /// it looks at any answer of that session, so that the host has then begun nothing.
    fn is_unread(&mut self) -> anyhow::Result<bool> {
        Ok(self.0.stream_position()? == 0)
    }
}

/// A host that has begun to send.
struct Source<'a> {
    host: &'a HostName,
    /// What was read of it and may have to be given to the receiver again.
    first: Vec<u8>,
    stream: ChildStdout,
    ended: JoinHandle<io::Result<Output>>,
}

impl<'a> Source<'a> {
    async fn open(host: &'a HostName, line: Vec<u8>) -> anyhow::Result<Self> {
        let mut input = Input::new(line, Payload::Nothing)?;
        let mut pauses = Pauses::new();
        loop {
            let mut child = spawn(host, input.stdin()?)?;
            let missing = "the node half has no standard output";
            let mut stream = child.stdout.take().context(missing)?;
            let ended = tokio::spawn(ended(child));
            let mut first = vec![0; PIECE];
            let read = stream.read(&mut first).await.unwrap_or(0);
            first.truncate(read);
            if read > 0 {
                return Ok(Self {
                    host,
                    first,
                    stream,
                    ended,
                });
            }
            let output = ended.await??;
            if is_refused_by(&output, host) && input.is_unread()? && pauses.pause(host).await {
                continue;
            }
            ensure!(output.code == Some(0), complaint(host, &output));
            bail!("host {} has sent nothing", host.as_str());
        }
    }

    /// Gives all of it to the receiver, whose connection is made again when it was refused.
    async fn carry(mut self, to: &HostName, request: Vec<u8>) -> anyhow::Result<Arrival> {
        let mut begin = Begin {
            bytes: request,
            whole: true,
        };
        begin.add(&std::mem::take(&mut self.first));
        let mut pauses = Pauses::new();
        loop {
            let mut child = spawn(to, Stdio::piped())?;
            let missing = "the node half has no standard input";
            let mut input = Counted {
                to: child.stdin.take().context(missing)?,
                written: 0,
            };
            let ended = tokio::spawn(ended(child));
            let carried = pour(&mut begin, &mut self.stream, &mut input).await;
            let unread = begin.whole && input.is_unread()?;
            drop(input);
            let output = ended.await??;
            if carried.is_err() && unread && is_refused_by(&output, to) && pauses.pause(to).await {
                continue;
            }
            return self.finish(to, carried, output).await;
        }
    }

    async fn finish(
        self,
        to: &HostName,
        carried: io::Result<()>,
        sink: Output,
    ) -> anyhow::Result<Arrival> {
        // One that is not read to its end must not wait for a reader.
        drop(self.stream);
        let source = self.ended.await??;
        // Who ended first knows why: the receiver has stopped reading, or the stream just ended.
        if carried.is_ok() && source.code != Some(0) {
            refused(self.host, &source)?;
        }
        let arrival = reply(to, &sink)?;
        if arrival == Arrival::Done {
            if source.code != Some(0) {
                refused(self.host, &source)?;
            }
            carried.with_context(|| format!("the stream to host {} broke off", to.as_str()))?;
        }
        Ok(arrival)
    }
}

/// The beginning of what the receiver is given, held as long as it may have to be given again.
struct Begin {
    bytes: Vec<u8>,
    /// False when more than this was given.
    whole: bool,
}

impl Begin {
    /// What a pipe cannot hold was read by somebody, and is not given again.
    fn add(&mut self, bytes: &[u8]) {
        self.whole = self.whole && self.bytes.len() <= PIPE;
        if self.whole {
            self.bytes.extend_from_slice(bytes);
        } else {
            self.bytes.clear();
        }
    }
}

async fn pour(begin: &mut Begin, output: &mut ChildStdout, input: &mut Counted) -> io::Result<()> {
    input.write_all(&begin.bytes).await?;
    let mut buffer = vec![0; PIECE];
    loop {
        // That a source broke off is noticed by the receiver, for which the end is missing.
        let read = output.read(&mut buffer).await.unwrap_or(0);
        let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else {
            return Ok(());
        };
        begin.add(piece);
        input.write_all(piece).await?;
    }
}

/// A pipe to a program that may end before it reads.
struct Counted {
    to: ChildStdin,
    written: u64,
}

impl Counted {
    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.to.write(bytes).await?;
            self.written += written as u64;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Whether all that was written is still in the pipe.
    fn is_unread(&self) -> io::Result<bool> {
        Ok(rustix::io::ioctl_fionread(&self.to)? == self.written)
    }
}

fn spawn(host: &HostName, stdin: Stdio) -> anyhow::Result<Child> {
    start(host, command(host), stdin)
}

/// The error names the program: "No such file or directory" alone could mean any file.
fn start(host: &HostName, mut command: Command, stdin: Stdio) -> anyhow::Result<Child> {
    let program = command.as_std().get_program().display().to_string();
    command
        .stdin(stdin)
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

/// Whether the host's sshd has closed the connection before anybody was logged in.
fn is_refused_by(output: &Output, host: &HostName) -> bool {
    !host.is_here()
        && output.code == Some(NO_CONNECTION)
        && output.stdout.is_empty()
        && is_refused(&output.stderr)
}

fn reply<T: DeserializeOwned>(host: &HostName, output: &Output) -> anyhow::Result<T> {
    if output.code != Some(0) {
        refused(host, output)?;
    }
    serde_json::from_str(output.stdout.trim()).with_context(|| {
        format!(
            "host {} answered \"{}\"",
            host.as_str(),
            folded(&output.stdout, 200)
        )
    })
}

fn refused(host: &HostName, output: &Output) -> anyhow::Result<()> {
    bail!(complaint(host, output))
}

fn complaint(host: &HostName, output: &Output) -> String {
    match output.code {
        Some(NO_CONNECTION) if !host.is_here() => format!(
            "host {} cannot be reached over ssh: {}",
            host.as_str(),
            match folded(&output.stderr, 300).as_str() {
                "" => "ssh gave no reason; 'ssh -v' to the host as this user shows it",
                words => words,
            }
        ),
        Some(NOT_FOUND) => format!(
            "the drivers are not on host {} ({}); run 'onehost sync -f' on the front-end",
            host.as_str(),
            folded(&output.stderr, 200)
        ),
        _ => format!("host {}: {}", host.as_str(), folded(&output.stderr, 500)),
    }
}

async fn ended(mut child: Child) -> io::Result<Output> {
    gather(&mut child, REPLY).await
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
        // A host that loses its power answers nothing any more.
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
        let program = Command::new("onedock-there-is-no-ssh");
        let error = start(&host, program, Stdio::null()).unwrap_err();
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
