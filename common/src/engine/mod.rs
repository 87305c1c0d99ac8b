//! The container engine as the drivers use it: a dozen verbs behind a trait, with one real
//! implementation ([`Docker`]) and one that keeps state in memory for fault tests ([`fake`]).
//!
//! Only checked types become part of a request's path: a container is named by its 64 digits or
//! by `one-<vm id>`, an image by a reference that ends in its digest.

#[cfg(feature = "engine")]
mod docker;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod labels;
mod layer_size;
#[cfg(feature = "engine")]
mod memory;
mod own;
#[cfg(feature = "engine")]
mod shapes;
#[cfg(feature = "engine")]
mod thaw;
mod unreachable;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};
use thiserror::Error;

#[cfg(feature = "engine")]
pub use docker::Docker;
pub use layer_size::LayerSize;
pub use own::own;
#[cfg(feature = "engine")]
pub use thaw::{ThawError, thaw, thaw_left};
pub use unreachable::NoAnswer;

use crate::types::digest::Digest;
use crate::types::ids::{ContainerId, ContainerName, VmId};
use crate::types::image_config::ImageConfig;
use crate::types::names::Hostname;
use crate::types::reference::{Repository, Source, Tag};
use crate::types::secret::Credential;

/// Why the engine did not do what it was asked.
#[derive(Debug, Error)]
pub enum EngineError {
    /// Nothing listens, or the socket may not be used.
    #[error("{}", reason.explain(socket))]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why nobody answers there.
        reason: NoAnswer,
    },
    /// No answer in time.
    #[error("the Docker engine did not answer {call} within {} s; look at dockerd's log", deadline.as_secs())]
    Deadline {
        /// What was asked.
        call: &'static str,
        /// How long was waited.
        deadline: Duration,
    },
    /// The engine knows no such thing (404).
    #[error("{message}")]
    Missing {
        /// What was asked.
        call: &'static str,
        /// The engine's words.
        message: String,
    },
    /// The state of the thing forbids it (409): a name that is taken, a removal that runs.
    #[error("{message}")]
    Conflict {
        /// What was asked.
        call: &'static str,
        /// The engine's words.
        message: String,
    },
    /// Any other refusal.
    #[error("{message}")]
    Refused {
        /// What was asked.
        call: &'static str,
        /// The HTTP status, 0 when the refusal came within a stream.
        status: u16,
        /// The engine's words without its wrapping.
        message: String,
    },
    /// An answer that cannot be read.
    #[error("the Docker engine's answer to {call} cannot be read: {problem}")]
    Unreadable {
        /// What was asked.
        call: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// What the engine answers when a process does not die of KILL (moby, `daemon/kill.go`).
const UNDYING: &str = "tried to kill container, but did not receive an exit event";

impl EngineError {
    /// Whether the thing that was asked about does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// Whether the engine has killed a container whose process does not end.
    pub fn is_undying(&self) -> bool {
        matches!(self, Self::Refused { message, .. } if message.contains(UNDYING))
    }
}

/// Whether the engine has an image, and what it says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageState {
    /// It is not staged on this host.
    Missing,
    /// It is here, and the engine says nothing of its configuration: of an image whose layers it did not
    /// pull, because it has them in another form already, containerd's image store says neither
    /// configuration nor layers (moby's `ImageInspect`, `multi.Best`). Taken for an image without a
    /// command and volumes, a VM would run the wrong thing and lose what its volumes hold.
    Unknown,
    Known(ImageConfig),
}

/// What is asked of the engine for a container; all else of a VM comes with the boot spec.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateSpec {
    /// The container's name.
    pub name: ContainerName,
    /// Its image.
    pub image: Source,
    /// The name inside; the runtime sets it anew at every start.
    pub hostname: Hostname,
    /// Ownership and history.
    pub labels: BTreeMap<String, String>,
    /// Only for an image that has no command: the engine wants one.
    pub cmd: Option<Vec<String>>,
    /// The OCI runtime's name in `daemon.json`.
    pub runtime: &'static str,
    /// Whether its first process has a terminal whose input stays open, as with `docker run -ti`.
    pub terminal: bool,
    /// VOLUME paths of the image at which the engine puts a file of its own: it would refuse to lay
    /// a volume there, and the whole container with it.
    pub no_volume_at: Vec<&'static str>,
    /// What it may use.
    pub limits: Limits,
    /// What its user asks of the engine beside: fields of its request and of HostConfig, in its API's form.
    pub body: Map<String, Value>,
    /// The latter.
    pub host: Map<String, Value>,
    /// The most that its layer may hold, in MiB, where the engine's storage can bound one; `None`
    /// for no bound.
    pub storage_mib: Option<u64>,
}

/// Limits that can be changed while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Relative weight, 1024 for one CPU.
    pub cpu_shares: i64,
    /// Microseconds of processor time per 100 ms; 0 for no bound.
    pub cpu_quota_us: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of swap beside the memory: what the VM's swap disks have, as a VM has none of its
    /// host's.
    pub swap: i64,
    /// Processes and threads at a time; 0 for no bound.
    pub pids: i64,
}

/// What the engine says of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerInfo {
    /// Its id.
    pub id: ContainerId,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The runtime that the engine was asked for, or its default.
    pub runtime: String,
    /// Whether its process runs (paused counts).
    pub running: bool,
    /// Whether it is paused.
    pub paused: bool,
    /// Whether it was ever started.
    pub started_before: bool,
    /// The last exit code.
    pub exit_code: i64,
    /// Whether the kernel killed it for memory.
    pub oom_killed: bool,
    /// Whether its first process has a terminal ([`CreateSpec::terminal`]).
    pub terminal: bool,
    /// Its first process as this host numbers it, when it runs.
    pub pid: Option<u32>,
    /// STOPSIGNAL as the image spells it; `None` for TERM.
    pub stop_signal: Option<String>,
    /// The limits that it has now.
    pub limits: Limits,
}

/// How a start ended within the time that it was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// Still running.
    Lives,
    /// Ended with this code.
    Ended(i64),
}

/// What a program that was run in a container left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Executed {
    /// Its exit code.
    pub code: i64,
    /// The lines of its standard output, at most [`EXEC_LINES`].
    pub lines: Vec<String>,
}

/// The most lines of a program's output that are read.
pub const EXEC_LINES: usize = 100;

/// The engine's verbs. Every call has a deadline of its own.
pub trait Engine {
    /// Whether an image is staged on this host, and what it asks for.
    fn image(&self, image: &Source) -> impl Future<Output = Result<ImageState, EngineError>>;
    /// Fetches an image by digest; the engine verifies it.
    fn pull(
        &self,
        image: &Source,
        credential: Option<&Credential>,
    ) -> impl Future<Output = Result<(), EngineError>>;
    /// Sends a tag that was made by `commit` to its registry; the digest that the registry got.
    fn push(
        &self,
        repository: &Repository,
        tag: &Tag,
        credential: Option<&Credential>,
    ) -> impl Future<Output = Result<Digest, EngineError>>;
    /// Removes a tag, and the image when nothing else names it; one that is gone is removed.
    fn untag(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> impl Future<Output = Result<(), EngineError>>;
    /// Makes an image of the container's layer.
    fn commit(
        &self,
        container: &ContainerId,
        repository: &Repository,
        tag: &Tag,
    ) -> impl Future<Output = Result<(), EngineError>>;
    /// Makes a container.
    fn create(&self, spec: &CreateSpec) -> impl Future<Output = Result<ContainerId, EngineError>>;
    /// Starts it; one that runs is started already.
    fn start(&self, container: &ContainerId) -> impl Future<Output = Result<(), EngineError>>;
    /// Waits whether it ends within `watch`.
    fn watch(
        &self,
        container: &ContainerId,
        watch: Duration,
    ) -> impl Future<Output = Result<Watched, EngineError>>;
    /// Sends the image's stop signal, and KILL after `grace`; one that does not run is stopped.
    fn stop(
        &self,
        container: &ContainerId,
        grace: Duration,
    ) -> impl Future<Output = Result<(), EngineError>>;
    /// Kills it at once; one that does not run is killed.
    fn kill(&self, container: &ContainerId) -> impl Future<Output = Result<(), EngineError>>;
    /// Removes it with its anonymous volumes; one that is gone is removed.
    fn remove(&self, container: &ContainerId) -> impl Future<Output = Result<(), EngineError>>;
    /// Changes its limits from `before` to `limits`. A bound that neither has is not asked for.
    fn limit(
        &self,
        container: &ContainerId,
        before: Limits,
        limits: Limits,
    ) -> impl Future<Output = Result<(), EngineError>>;
    /// What its processes hold of its memory, in bytes; `None` for one that does not run, and on a
    /// kernel that does not account for it.
    fn memory_held(
        &self,
        container: &ContainerId,
    ) -> impl Future<Output = Result<Option<u64>, EngineError>>;
    /// Looks at a container by its id.
    fn container(
        &self,
        container: &ContainerId,
    ) -> impl Future<Output = Result<Option<ContainerInfo>, EngineError>>;
    /// Looks at a container by its name.
    fn named(
        &self,
        name: ContainerName,
    ) -> impl Future<Output = Result<Option<ContainerInfo>, EngineError>>;
    /// The containers that have a VM's labels, whatever they are called ([`own`]).
    fn of_vm(&self, vm: VmId) -> impl Future<Output = Result<Vec<ContainerInfo>, EngineError>>;
    /// Freezes all its processes; one that is frozen is left so.
    fn pause(&self, container: &ContainerId) -> impl Future<Output = Result<(), EngineError>>;
    /// Lets them go on; one that is not frozen is left so.
    fn unpause(&self, container: &ContainerId) -> impl Future<Output = Result<(), EngineError>>;
    /// What the layers of all VMs' disks take. The engine walks each of them.
    fn sizes(&self) -> impl Future<Output = Result<Vec<LayerSize>, EngineError>>;
    /// Runs a program of the container in it, as its root user with the container's own rights, and waits
    /// at most `limit` for its end.
    fn exec(
        &self,
        container: &ContainerId,
        command: &[&str],
        limit: Duration,
    ) -> impl Future<Output = Result<Executed, EngineError>>;
    /// The last lines that it wrote, at most `lines`.
    fn last_lines(
        &self,
        container: &ContainerId,
        lines: u32,
    ) -> impl Future<Output = Result<Vec<String>, EngineError>>;
}

/// Kills a container. `false` when its process does not die of it, because it waits for something of the
/// host: whoever ends that kills once more.
///
/// # Errors
///
/// Any other of the engine's.
pub async fn kill(engine: &impl Engine, container: &ContainerId) -> Result<bool, EngineError> {
    match engine.kill(container).await {
        Err(error) if error.is_undying() => {
            tracing::warn!("{error}");
            Ok(false)
        }
        done => done.map(|()| true),
    }
}

/// The engine's own wrapping around what the runtime said, which no user needs to read.
pub fn unwrapped(message: &str) -> String {
    let mut text = message.trim();
    loop {
        let before = text;
        for prefix in [
            "failed to create task for container: ",
            "failed to create shim task: ",
            "failed to create shim: ",
            "OCI runtime create failed: ",
            "OCI runtime start failed: ",
            "failed to start shim: ",
            "cannot start a stopped process: ",
        ] {
            text = text.strip_prefix(prefix).unwrap_or(text);
        }
        text = text.strip_suffix(": unknown").unwrap_or(text);
        text = text.strip_suffix(": unknown.").unwrap_or(text);
        if text == before {
            return text.to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runtime_said_is_freed_of_the_engine_s_wrapping() {
        let wrapped = "failed to create shim task: OCI runtime create failed: the bridge onebr0 of NIC 0 does not exist on this host: unknown";
        assert_eq!(
            unwrapped(wrapped),
            "the bridge onebr0 of NIC 0 does not exist on this host"
        );
        assert_eq!(unwrapped("No such image: x"), "No such image: x");
    }

    #[test]
    fn a_container_that_does_not_die_is_told_from_other_refusals() {
        let refused = |message: &str| EngineError::Refused {
            call: "kill",
            status: 500,
            message: message.to_owned(),
        };
        let undying =
            "Cannot kill container: ab: tried to kill container, but did not receive an exit event";
        assert!(refused(undying).is_undying());
        assert!(!refused("Cannot kill container: ab: permission denied").is_undying());
    }
}
