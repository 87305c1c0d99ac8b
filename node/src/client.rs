//! The drivers' client of `onedock-node`, by the one line in sudoers: one typed request on its
//! standard input, one typed answer, and a deadline on every call.

use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::{Context as _, bail};
use onedock_common::process::{self, Output, ProcessError, gather};
use onedock_common::state::paths::Paths;
use onedock_common::types::text::folded;
use onedock_common::{ContainerId, VmId};
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep};

use crate::request::{Answer, LIMIT, Request};

/// Where `setup node` installs it.
const PROGRAM: &str = "/usr/lib/onedock/onedock-node";
/// The most of its reason that is quoted, in bytes.
const QUOTED: usize = 1000;
/// How long an archive may stand still, and how long the program may take to end behind it.
const STANDSTILL: Duration = Duration::from_secs(300);

/// What needs root on the node.
pub trait Root {
    /// Has it done. Every request can be repeated.
    ///
    /// # Errors
    ///
    /// The program's own reason in one line, an answer of another version, or none in time.
    fn call(&self, request: &Request) -> impl Future<Output = anyhow::Result<Answer>>;
}

/// Lets root forget where the layers of a removed container were, if that is recorded.
///
/// # Errors
///
/// Those of the call.
pub async fn forget_layer(
    root: &impl Root,
    paths: &Paths,
    container: &ContainerId,
) -> anyhow::Result<()> {
    if paths.layer_record(container).exists() {
        let container = container.clone();
        root.call(&Request::ForgetLayer { container }).await?;
    }
    Ok(())
}

/// Lets root take back what was recorded of a start ([`Request::Settle`]).
///
/// # Errors
///
/// Those of the call: something of the VM is still there.
pub async fn settle(
    root: &impl Root,
    vm: VmId,
    container: &ContainerId,
) -> anyhow::Result<Option<String>> {
    let container = container.clone();
    let answer = root.call(&Request::Settle { vm, container }).await;
    let answer = answer.context("the VM has ended, but something of it is still there")?;
    if let Some(note) = &answer.note {
        tracing::warn!("{note}");
    }
    Ok(answer.note)
}

/// `onedock-node` through sudo, without sudo where the driver is root already.
#[derive(Debug, Clone)]
pub struct Helper(PathBuf);

impl Default for Helper {
    fn default() -> Self {
        Self::at(PROGRAM)
    }
}

impl Root for Helper {
    async fn call(&self, request: &Request) -> anyhow::Result<Answer> {
        let (program, arguments) = self.words();
        let output = process::Command::new(program)
            .args(arguments)
            .input(serde_json::to_vec(request)?)
            .within(deadline(request))
            .keeping(LIMIT)
            .output()
            .await;
        let output = match output {
            Ok(output) => output,
            Err(ProcessError::Late { limit, .. }) => {
                bail!("{} did not end within {} s", self.name(), limit.as_secs())
            }
            Err(error) => bail!("{error}; run 'onedock setup node' on this host"),
        };
        succeeded(&output)?;
        serde_json::from_str(&output.stdout).with_context(|| {
            format!(
                "{} is of another version; run 'onedock setup node'",
                self.name()
            )
        })
    }
}

impl Helper {
    /// Another program in its place.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self(program.into())
    }

    /// Whether it is installed, which is what makes a host a node.
    pub fn is_installed(&self) -> bool {
        self.0.exists()
    }

    /// Begins to pack the layer of `container`; `whole`: with the layers below.
    ///
    /// # Errors
    ///
    /// The program cannot be run.
    pub fn pack_layer(&self, container: &ContainerId, whole: bool) -> anyhow::Result<Archive> {
        let request = Request::PackLayer {
            container: container.clone(),
            whole,
        };
        let mut child = self.spawn()?;
        let (stdin, archive) = (child.stdin.take(), child.stdout.take());
        let request = serde_json::to_vec(&request)?;
        tokio::spawn(async move {
            if let Some(mut stdin) = stdin {
                // One that refuses stops reading; its reason is on standard error.
                let _ = stdin.write_all(&request).await;
            }
        });
        // Its standard output is the archive; what is left to gather is the reason of a failure.
        let mut ended = Packer(tokio::spawn(async move { gather(&mut child, LIMIT).await }));
        let end = async move {
            let output = (&mut ended.0).await.map_err(io::Error::other)??;
            succeeded(&output)
                .map_err(|e| io::Error::other(format!("the layer cannot be packed: {e}")))
        };
        Ok(Archive {
            stream: archive.context("the packing program has no output")?,
            end: Some(Box::pin(end)),
            at_end: false,
            standstill: Box::pin(sleep(STANDSTILL)),
            waits: false,
        })
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let (program, arguments) = self.words();
        let mut command = Command::new(program);
        command.args(arguments);
        let program = program.display();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {program}; run 'onedock setup node' on this host"))
    }

    /// The program to call, and its arguments.
    fn words(&self) -> (&Path, Vec<&OsStr>) {
        if nix::unistd::geteuid().is_root() {
            (&self.0, Vec::new())
        } else {
            let arguments = vec![OsStr::new("-n"), self.0.as_os_str()];
            (Path::new("/usr/bin/sudo"), arguments)
        }
    }

    fn name(&self) -> std::path::Display<'_> {
        self.0.display()
    }
}

/// The packing program, which ends with who reads its archive.
struct Packer(JoinHandle<io::Result<Output>>);

impl Drop for Packer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn succeeded(output: &Output) -> anyhow::Result<()> {
    if output.succeeded() {
        return Ok(());
    }
    match folded(&output.stderr, QUOTED).trim_end_matches('.') {
        "" => bail!("onedock-node failed: {}", output.reason(QUOTED)),
        reason => bail!("{reason}"),
    }
}

/// How long a request may take. Root's part cannot be ended from here (sudo runs it), so that each
/// is longer than what root itself waits for, where that is bound.
const fn deadline(request: &Request) -> Duration {
    Duration::from_secs(match request {
        Request::Unplug { .. } | Request::ChangeNames { .. } => 10,
        Request::BoundLayer { .. } | Request::ForgetLayer { .. } => 60,
        // A disk would be shown of which OpenNebula believes that it is not. Root waits a minute
        // for another call, and checks and grows a file system in up to three runs of two minutes;
        // only the growth of an ext2, which has no journal, is not bound.
        Request::PlugDisk { .. } => 480,
        // A daemon that lets go of a disk writes first what it has not written; a growing disk waits
        // for the daemon's new size and two minutes for its file system, behind another call.
        Request::UnplugDisk { .. } | Request::GrowDisk { .. } | Request::Settle { .. } => 300,
        // Root waits a minute for another call, and for each NIC as long as a switch that hangs.
        Request::ChangeNics { .. } => 300,
        // As long as a VM is frozen for it.
        Request::SyncDisk { .. } => 600,
        Request::PackLayer { .. } => STANDSTILL.as_secs(),
    })
}

/// A layer's archive while it is written. That the program failed is an error at the end of reading,
/// never an archive that just ends; so is one that stands still.
pub struct Archive {
    stream: ChildStdout,
    /// The program's end, until it was waited for.
    end: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>>,
    at_end: bool,
    /// Runs while a reader waits for the program.
    standstill: Pin<Box<Sleep>>,
    waits: bool,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Archive")
            .field("at_end", &self.at_end)
            .finish_non_exhaustive()
    }
}

impl Archive {
    fn poll_program(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.at_end {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
            if buffer.filled().len() > before || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            self.at_end = true;
        }
        if let Some(end) = &mut self.end {
            let ended = ready!(end.as_mut().poll(context));
            self.end = None;
            ended?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Archive {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(done) = self.poll_program(context, buffer) {
            self.waits = false;
            return Poll::Ready(done);
        }
        if !std::mem::replace(&mut self.waits, true) {
            let limit = Instant::now() + STANDSTILL;
            self.standstill.as_mut().reset(limit);
        }
        ready!(self.standstill.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!(
                "onedock-node wrote nothing of the layer for {} s",
                STANDSTILL.as_secs()
            ),
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    const REQUEST: Request = Request::Unplug {
        vm: VmId::new(5),
        host_ends: Vec::new(),
    };

    /// A program that does `script` in the helper's place. As another user, sudo refuses it.
    fn helper(script: &str) -> (TempDir, Helper) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("onedock-node");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        (dir, Helper::at(path))
    }

    fn is_root() -> bool {
        nix::unistd::geteuid().is_root()
    }

    async fn packed(helper: &Helper) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut archive = helper.pack_layer(&"ab".repeat(32).parse()?, false)?;
        archive.read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    #[tokio::test]
    async fn the_request_is_sent_whole_and_the_answer_is_read() {
        let (dir, helper) =
            helper("cat > $(dirname $0)/asked; echo '{\"done\":true,\"note\":\"later\"}'");
        let answer = helper.call(&REQUEST).await;
        if is_root() {
            assert_eq!(answer.unwrap().note.as_deref(), Some("later"));
            let asked = fs::read(dir.path().join("asked")).unwrap();
            assert_eq!(serde_json::from_slice::<Request>(&asked).unwrap(), REQUEST);
        } else {
            answer.unwrap_err();
        }
    }

    #[tokio::test]
    async fn an_answer_of_another_version_a_failure_and_no_program_are_errors_that_say_so() {
        if !is_root() {
            return;
        }
        for (script, reason) in [
            (
                "cat > /dev/null",
                "another version; run 'onedock setup node'",
            ),
            ("cat > /dev/null; echo '{\"ok\":true}'", "another version"),
            ("echo 'disk 3\nis in use.' >&2; exit 1", "disk 3 is in use"),
            (
                "exit 3",
                "onedock-node failed: it ended with code 3 and gave no reason",
            ),
        ] {
            let (_dir, helper) = helper(script);
            let error = format!("{:#}", helper.call(&REQUEST).await.unwrap_err());
            assert!(error.contains(reason), "{script}: {error}");
        }
        let none = Helper::at("/none");
        for error in [
            none.call(&REQUEST).await.unwrap_err(),
            packed(&none).await.unwrap_err(),
        ] {
            assert!(error.to_string().contains("onedock setup node"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_hangs_is_given_up_at_the_deadline() {
        if !is_root() {
            return;
        }
        let (_dir, helper) = helper("exec sleep 20");
        let begin = Instant::now();
        let error = helper.call(&REQUEST).await.unwrap_err().to_string();
        assert!(error.contains("did not end within 10 s"), "{error}");
        assert_eq!(begin.elapsed().as_secs(), 10);
        let error = packed(&helper).await.unwrap_err().to_string();
        assert!(error.contains("nothing of the layer for 300 s"), "{error}");
    }

    #[tokio::test]
    async fn a_program_that_fails_is_an_error_of_the_archive_with_its_words() {
        for (script, whole) in [
            ("printf layer", is_root()),
            ("printf layer; echo no space >&2; exit 1", false),
        ] {
            let (_dir, helper) = helper(script);
            match packed(&helper).await {
                Ok(bytes) => assert!(whole && bytes == b"layer", "{script}"),
                Err(e) => assert!(!whole && e.to_string().contains("cannot be packed"), "{e}"),
            }
        }
    }
}
