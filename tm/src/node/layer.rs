//! A container's layer as an archive, from the one program that may read it: `onedock-node`.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll, ready};

use anyhow::Context as _;
use onedock_node::request::Request;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::process::{Child, ChildStdout, Command};

/// The one program that may do it, by the one line in sudoers.
pub(crate) const NODE: &str = "/usr/lib/onedock/onedock-node";

/// The archive while it is written. That the program failed is an error at the end of reading,
/// never an archive that just ends.
pub(super) struct Packed {
    archive: ChildStdout,
    /// The program's end, once it was not yet asked for.
    end: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>>,
    at_end: bool,
}

/// Begins to pack the layer in `folder`; `whole`: with the layers below.
pub(super) fn pack(helper: &Path, folder: PathBuf, whole: bool) -> anyhow::Result<Packed> {
    let request = serde_json::to_vec(&Request::PackLayer {
        layer: folder,
        whole,
    })?;
    let mut child = spawn(helper)?;
    let archive = child
        .stdout
        .take()
        .context("the packing program has no output")?;
    feed(&mut child, request);
    let mut errors = child.stderr.take();
    let told = tokio::spawn(async move {
        let mut text = Vec::new();
        if let Some(pipe) = &mut errors {
            let _ = pipe.take(64 * 1024).read_to_end(&mut text).await;
        }
        String::from_utf8_lossy(&text).trim().to_owned()
    });
    let end = async move {
        let status = child.wait().await?;
        if status.success() {
            return Ok(());
        }
        let told = told.await.unwrap_or_default();
        Err(io::Error::other(format!(
            "the layer cannot be packed: {told}"
        )))
    };
    Ok(Packed {
        archive,
        end: Some(Box::pin(end)),
        at_end: false,
    })
}

/// Has something done that answers shortly.
pub(super) async fn ask(helper: &Path, request: &Request) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec(request)?;
    let mut child = spawn(helper)?;
    feed(&mut child, bytes);
    let output = child.wait_with_output().await?;
    anyhow::ensure!(
        output.status.success(),
        "{}",
        onedock_common::answer::folded(&String::from_utf8_lossy(&output.stderr), 400)
    );
    Ok(())
}

fn spawn(helper: &Path) -> anyhow::Result<Child> {
    let root = nix::unistd::geteuid().is_root();
    let mut command = if root {
        Command::new(helper)
    } else {
        let mut command = Command::new("/usr/bin/sudo");
        command.arg("-n").arg(helper);
        command
    };
    let program = command.as_std().get_program().display().to_string();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {program}; run 'onedock setup node' on this host"))
}

/// One that refuses stops reading; its reason is on standard error, not in the broken pipe.
fn feed(child: &mut Child, request: Vec<u8>) {
    if let Some(mut stdin) = child.stdin.take() {
        tokio::spawn(async move { stdin.write_all(&request).await });
    }
}

impl AsyncRead for Packed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.at_end {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.archive).poll_read(context, buffer))?;
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

/// Writes the whole archive to a file without a name in `folder`, so that nothing of it outlives
/// this process.
pub(super) async fn spool(mut packed: Packed, folder: &Path) -> anyhow::Result<tokio::fs::File> {
    let told = || {
        format!(
            "the layer cannot be kept in {} on this host",
            folder.display()
        )
    };
    let file = tempfile::tempfile_in(folder).with_context(told)?;
    let mut file = tokio::fs::File::from_std(file);
    tokio::io::copy(&mut packed, &mut file)
        .await
        .with_context(told)?;
    file.flush().await.with_context(told)?;
    file.rewind().await.with_context(told)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_is_an_error_of_the_archive_with_its_words() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        for helper in ["/bin/false", "/bin/true"] {
            let spooled = runtime.block_on(async {
                let packed = pack(Path::new(helper), "/none".into(), false)?;
                spool(packed, dir.path()).await
            });
            // As another user sudo refuses, which is an error as well.
            let root = nix::unistd::geteuid().is_root();
            assert_eq!(spooled.is_ok(), root && helper == "/bin/true", "{helper}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_host_that_was_not_set_up_is_told_how() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let _inside = runtime.enter();
        let error = pack(Path::new("/none"), "/none".into(), false)
            .err()
            .unwrap();
        assert!(error.to_string().contains("onedock setup node"), "{error}");
    }
}
