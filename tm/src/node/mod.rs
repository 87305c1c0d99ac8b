//! The host's half: one typed request on standard input, done as oneadmin with the host's engine.

mod arrive;
mod container;
mod context;
mod delete;
mod depart;
#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod fault_tests;
mod file;
mod freeze;
mod layer;
mod look;
pub(crate) mod monitor_ds;
mod r#move;
mod pack;
mod rest;
mod sidecar;
mod snapshot;
mod stage;
mod staging;
mod volume;

use std::fs;
use std::io::{BufRead, Read as _, stdin};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use onedock_common::VmId;
use onedock_common::answer::Answer;
use onedock_common::config::Config;
use onedock_common::descriptor::prepare_system_dir;
use onedock_common::engine::{Docker, Engine, EngineError};
use onedock_common::lock::{LockError, VmLock};
use onedock_common::paths::Paths;
use onedock_node::client::Helper;

use crate::location::Place;
use crate::message::{Call, LIMIT, Outcome, Task};
use crate::system::System;

/// How long a task waits for another one on the same VM.
const LOCK_WAIT: Duration = Duration::from_secs(180);

/// What a task works with.
pub(crate) struct Node<'a, E> {
    pub(crate) engine: E,
    pub(crate) paths: Paths,
    pub(crate) config: &'a Config,
    /// What needs root.
    pub(crate) helper: Helper,
}

impl<E> Node<'_, E> {
    fn lock(&self, vm: VmId) -> Result<VmLock, LockError> {
        VmLock::acquire(&self.paths, vm, LOCK_WAIT)
    }

    /// Whether this machine has no engine at all: a front-end, where disks wait. A host that was
    /// set up must have one, and its engine must answer.
    fn has_no_engine(&self, error: &EngineError) -> bool {
        matches!(error, EngineError::Unreachable { .. }) && !self.helper.is_installed()
    }

    /// The same of an error that has it as its cause.
    fn lacks_engine(&self, error: &anyhow::Error) -> bool {
        error
            .downcast_ref::<EngineError>()
            .is_some_and(|e| self.has_no_engine(e))
    }
}

impl<E: Engine> Node<'_, E> {
    /// The VM's lock; what an action that died has frozen goes on.
    async fn begin(&self, vm: VmId) -> anyhow::Result<VmLock> {
        let lock = self.lock(vm)?;
        freeze::thaw_left(self, vm).await?;
        Ok(lock)
    }
}

pub(crate) async fn run(config: &Config) -> anyhow::Result<Answer> {
    // What follows the first line is a task's own, so the reader is kept.
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
        paths: paths(&call.task),
        config,
        helper: Helper::default(),
    };
    let done = match call.task {
        Task::Context { disk } => {
            let _lock = node.begin(disk.vm()).await?;
            context::receive(&disk, input)?;
            Outcome::Done
        }
        // Asked without the lock: on the same host the sender holds it.
        Task::Receive { place, token } if is_source(&place, &token)? => Outcome::Same,
        Task::Receive { place, .. } => {
            let _lock = node.begin(place.vm()).await?;
            receive(&place, &mut input)?;
            Outcome::Done
        }
        Task::Send { place } => {
            let _lock = node.begin(place.vm()).await?;
            freeze::stopped(&node, place.vm()).await?;
            send(&place)?;
            return Ok(Answer::done());
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

/// The state folder, as `setup node` makes it. A front-end that is no host has none: its locks lie
/// beside its datastores' VMs, where oneadmin can write.
fn paths(task: &Task) -> Paths {
    let system = Paths::system();
    match task.place().folder().parent() {
        Some(datastore) if !system.boot_dir().is_dir() => Paths::at(datastore.join(".onedock")),
        _ => system,
    }
}

/// The VM's folder with the datastore's marker.
fn prepare(disk: &Place, system: System) -> anyhow::Result<()> {
    let folder = disk.folder();
    prepare_system_dir(folder, system.marker())
        .with_context(|| format!("the VM's folder {} cannot be made", folder.display()))?;
    if !system.is_stock() {
        // Context files hold passwords: nobody but the drivers and root looks into a VM's folder.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o750))?;
    }
    Ok(())
}

fn send(place: &Place) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match place.disk() {
        Some(_) => volume::send(&place.path(), &mut out),
        None => rest::send(place.folder(), &mut out),
    }
}

/// Whether the place is the one that the sender reads from, by another name of this host.
fn is_source(place: &Place, token: &str) -> anyhow::Result<bool> {
    sidecar::is_same_place(&sidecar::base(place), token, System::Onedock)
}

fn receive(place: &Place, input: &mut impl BufRead) -> anyhow::Result<()> {
    prepare(place, System::Onedock)?;
    match place.disk() {
        Some(_) => volume::receive(&place.path(), input),
        None => rest::receive(place.folder(), input),
    }
}

impl<E: Engine> Node<'_, E> {
    async fn perform(&self, task: Task) -> anyhow::Result<Outcome> {
        match task {
            Task::Stage {
                disk,
                system,
                image,
                source,
                persistent,
                dockerrun,
                snapshots,
            } => {
                let wanted = stage::Wanted {
                    image,
                    source,
                    persistent,
                    dockerrun,
                    snapshots,
                };
                stage::run(self, &disk, system, wanted).await
            }
            Task::Look { place, token } => {
                let _lock = self.begin(place.vm()).await?;
                look::run(&place, token.as_deref())
            }
            Task::Delete {
                place,
                system,
                saved,
                registry_is_clean,
            } => {
                let removal = delete::Removal {
                    place: &place,
                    system,
                    saved: saved.as_ref(),
                    registry_is_clean,
                };
                delete::run(self, removal).await
            }
            Task::Move { from, to } => r#move::run(self, &from, &to).await,
            Task::Pack(job) => pack::run(self, &job).await,
            Task::Arrive {
                disk,
                system,
                descriptor,
                token,
            } => arrive::run(self, &disk, system, *descriptor, &token).await,
            Task::Depart {
                disk,
                system,
                state,
                container,
            } => depart::run(self, &disk, system, state, container.as_ref()).await,
            Task::Discard { place } => rest::discard(self, &place).await,
            Task::SnapCreate {
                disk,
                id,
                credential,
            } => snapshot::create(self, &disk, id, credential).await,
            Task::SnapRevert { disk, id } => snapshot::revert(self, &disk, id).await,
            Task::SnapDelete { disk, id } => snapshot::delete(self, &disk, id).await,
            Task::Fetch {
                disk,
                system,
                image,
                meta,
                persistent,
                snapshots,
            } => {
                let wanted = file::Wanted {
                    image,
                    meta,
                    persistent,
                    snapshots,
                };
                file::fetch(self, &disk, system, wanted).await
            }
            Task::Make {
                disk,
                size_mib,
                format,
            } => file::make(self, &disk, size_mib, format).await,
            Task::MakeSwap { disk, size_mib } => file::make_swap(self, &disk, size_mib).await,
            Task::Save {
                disk,
                snapshot,
                repository,
                tag,
                credential,
                from,
            } => {
                let job = file::Saving {
                    snapshot,
                    repository,
                    tag,
                    credential,
                    from,
                };
                file::save(self, &disk, job).await
            }
            Task::Resize { disk, size_mib } => file::resize(self, &disk, size_mib).await,
            Task::Context { .. } | Task::Send { .. } | Task::Receive { .. } => {
                bail!("a request with content of its own reached the engine's tasks")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onedock_common::engine::NoAnswer;

    #[test]
    fn a_host_that_was_set_up_is_never_taken_for_one_without_an_engine() {
        let dir = tempfile::tempdir().unwrap();
        let helper = dir.path().join("onedock-node");
        let config = Config::default();
        let node = Node {
            engine: (),
            paths: Paths::at(dir.path()),
            config: &config,
            helper: Helper::at(&helper),
        };
        // An engine that was stopped takes its socket away.
        let stopped = || EngineError::Unreachable {
            socket: dir.path().join("docker.sock"),
            reason: NoAnswer::NoSocket,
        };
        assert!(node.has_no_engine(&stopped()), "a front-end");
        assert!(node.lacks_engine(&stopped().into()));
        std::fs::write(&helper, "").unwrap();
        assert!(!node.has_no_engine(&stopped()), "its containers are there");
        assert!(!node.lacks_engine(&stopped().into()));
    }
}
