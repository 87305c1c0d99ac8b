//! The host's half: one typed request on standard input, done as oneadmin with the host's engine.

mod context;
mod delete;
#[cfg(test)]
mod fault_tests;
pub(crate) mod monitor_ds;
mod r#move;
mod push;
mod stage;

use std::io::{BufRead as _, Read as _, stdin};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use onedock_common::VmId;
use onedock_common::answer::Answer;
use onedock_common::config::Config;
use onedock_common::engine::{Docker, Engine};
use onedock_common::lock::{LockError, VmLock};
use onedock_common::paths::Paths;

use crate::message::{Call, LIMIT, Outcome, Task};

/// How long a task waits for another one on the same VM.
const LOCK_WAIT: Duration = Duration::from_secs(180);

/// What a task works with.
pub(crate) struct Node<'a, E> {
    pub(crate) engine: E,
    pub(crate) paths: Paths,
    pub(crate) config: &'a Config,
}

impl<E> Node<'_, E> {
    fn lock(&self, vm: VmId) -> Result<VmLock, LockError> {
        VmLock::acquire(&self.paths, vm, LOCK_WAIT)
    }
}

pub(crate) async fn run(config: &Config) -> anyhow::Result<Answer> {
    // The archive of a `context` follows the first line, so the reader is kept.
    let mut input = stdin().lock();
    let mut line = Vec::new();
    input
        .by_ref()
        .take(LIMIT)
        .read_until(b'\n', &mut line)
        .context("the request cannot be read")?;
    ensure!(
        line.ends_with(b"\n"),
        "the request is not one line of at most {LIMIT} bytes"
    );
    let call = parse(&line)?;
    let node = Node {
        engine: Docker::local()?,
        paths: Paths::system(),
        config,
    };
    let done = match call.task {
        Task::Context { disk } => {
            let _lock = node.lock(disk.vm())?;
            context::unpack(&disk, input)?;
            Outcome::Done
        }
        task => node.perform(task).await?,
    };
    Ok(Answer::line(serde_json::to_string(&done)?))
}

fn parse(line: &[u8]) -> anyhow::Result<Call> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: String,
    }
    let here = env!("CARGO_PKG_VERSION");
    let Version { version } =
        serde_json::from_slice(line).context("the request is not from onedock's front-end half")?;
    ensure!(
        version == here,
        "the front-end has onedock {version} and this host has {here}; run 'onehost sync -f' on the front-end"
    );
    serde_json::from_slice(line).context("the request cannot be read")
}

impl<E: Engine> Node<'_, E> {
    async fn perform(&self, task: Task) -> anyhow::Result<Outcome> {
        match task {
            Task::Stage {
                disk,
                image,
                source,
                persistent,
                dockerrun,
            } => {
                let wanted = stage::Wanted {
                    image,
                    source,
                    persistent,
                    dockerrun,
                };
                stage::run(self, &disk, wanted).await
            }
            Task::Delete { place } => delete::run(self, &place).await,
            Task::Move { from, to } => r#move::run(self, &from, &to),
            Task::Push {
                disk,
                repository,
                tag,
                credential,
            } => push::run(self, &disk, &repository, &tag, credential.as_ref()).await,
            Task::Context { .. } => unreachable_context(),
        }
    }
}

/// A `context` has been done before, because its archive is on standard input.
fn unreachable_context() -> anyhow::Result<Outcome> {
    anyhow::bail!("a context request reached the engine's tasks")
}
