//! The asynchronous form of [`Command`], for programs that run beside other work.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;
use tokio::runtime::Handle as Runtime;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::output::AFTER_THE_END;
use super::{Command, Handle, Output, ProcessError, confined};

impl Command {
    /// As [`Command::run`]. A call that is dropped kills its program.
    ///
    /// # Errors
    ///
    /// As of [`Command::run`].
    pub async fn output(mut self) -> Result<Output, ProcessError> {
        let mut command = tokio::process::Command::from(self.prepare()?);
        command.kill_on_drop(true);
        let runtime = Runtime::current();
        let started = confined::start(self.confined.take(), move || {
            let _here = runtime.enter();
            command.spawn()
        });
        let (mut child, _thread) = started.map_err(|e| self.not_started(e))?;
        let stdin = child.stdin.take();
        let input = std::mem::take(&mut self.input);
        let work = async {
            let fed = async {
                if let Some(mut pipe) = stdin {
                    // A program that does not read all of it says itself why.
                    let _ = pipe.write_all(&input).await;
                }
            };
            tokio::join!(fed, gather(&mut child, self.most)).1
        };
        match timeout(self.limit, work).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(source)) => Err(self.lost(source)),
            Err(_) => {
                // Dead before the answer, so that it writes nothing afterwards; but one of another
                // user (sudo) cannot be killed, and one that waits for a disk does not die of it.
                if child.start_kill().is_ok() && has_ended(&child).await {
                    let _ = child.wait().await;
                }
                Err(self.late())
            }
        }
    }
}

/// Whether a program that was killed ends soon.
async fn has_ended(child: &Child) -> bool {
    let handle = child.id().map(|pid| Handle::open(pid.cast_signed()));
    let Some(Ok(handle)) = handle else {
        return false;
    };
    let ended = spawn_blocking(move || handle.ends_within(AFTER_THE_END)).await;
    matches!(ended, Ok(Ok(true)))
}

/// Reads a program's outputs to their end and waits for it; the first `most` bytes of each are kept.
///
/// # Errors
///
/// It cannot be waited for.
pub async fn gather(child: &mut Child, most: usize) -> io::Result<Output> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let status = {
        let mut reading = std::pin::pin!(async {
            tokio::join!(read(out, &mut stdout, most), read(err, &mut stderr, most));
        });
        tokio::select! {
            () = &mut reading => child.wait().await?,
            status = child.wait() => {
                let _ = timeout(AFTER_THE_END, &mut reading).await;
                status?
            }
        }
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Output {
        code: status.code(),
        stdout: text(&stdout),
        stderr: text(&stderr),
    })
}

async fn read(pipe: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>, most: usize) {
    if let Some(mut pipe) = pipe {
        let _ = (&mut pipe).take(most as u64).read_to_end(into).await;
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    }
}
