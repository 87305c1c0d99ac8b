//! What the monitor asks of the engine, in structures of its own: only the fields that are
//! needed, and every container read by itself, so that one odd container cannot hide the
//! others.

use std::collections::HashMap;
use std::io::Read;
use std::time::Duration;

use onedock_common::engine::{LayerSize, labels};
use onedock_common::types::text::plain;
use onedock_common::{ContainerId, ContainerName, VmId};
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::http::{HttpError, Socket};

/// `{"label":["org.opennebula.vm","org.opennebula.driver=onedock"]}`, percent-encoded.
const FILTER: &str =
    "%7B%22label%22%3A%5B%22org.opennebula.vm%22%2C%22org.opennebula.driver%3Donedock%22%5D%7D";

/// `{"label":["org.opennebula.driver=onedock"]}`: VMs, and the trees of their further disks.
const ALL_FILTER: &str = "%7B%22label%22%3A%5B%22org.opennebula.driver%3Donedock%22%5D%7D";

/// How long the engine may take to read every folder of every VM's layer.
const WALK: Duration = Duration::from_secs(300);

/// How many bytes and lines of a container's last output are reported.
const OUTPUT_BYTES: usize = 2048;
const OUTPUT_LINES: usize = 20;

/// Why the engine gave no usable answer.
#[derive(Debug, Error)]
pub enum EngineError {
    /// No usable answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The answer is not the JSON that was asked for.
    #[error("the Docker engine's answer to {call} cannot be read (line {line}, column {column})", line = source.line(), column = source.column())]
    Json {
        /// What was asked.
        call: &'static str,
        /// Where reading stopped.
        source: serde_json::Error,
    },
}

/// A container's state as the engine names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Made, never started.
    Created,
    /// Running, or between two tries of a restart policy.
    Running,
    Paused,
    /// Its process has ended.
    Exited,
    /// The engine failed to remove it.
    Dead,
    /// On its way out, or a word that a newer engine uses.
    Other,
}

impl State {
    fn read(word: &str) -> Self {
        match word {
            "created" => Self::Created,
            "running" | "restarting" => Self::Running,
            "paused" => Self::Paused,
            "exited" | "stopped" => Self::Exited,
            "dead" => Self::Dead,
            _ => Self::Other,
        }
    }
}

/// One VM's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub vm: VmId,
    pub id: ContainerId,
    /// Whether it has the name that the driver gave it.
    pub own_name: bool,
    pub state: State,
}

/// All VMs' containers of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// In the engine's order; a VM may be there twice.
    pub containers: Vec<Listed>,
    /// False when an entry could not be read: then it is not known who is missing.
    pub complete: bool,
}

/// What is asked about one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// Its first process, when it runs.
    pub pid: Option<u32>,
    /// How its last run ended.
    pub exit_code: i64,
    /// Whether the kernel ended it for want of memory.
    pub oom_killed: bool,
    /// The runtime's complaint, when it could not be started.
    pub error: String,
    /// Whether its output is one raw stream.
    pub tty: bool,
}

/// What the host's record says of the engine.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Facts {
    pub server_version: String,
    pub driver: String,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// Whether a restart of dockerd leaves containers running.
    pub live_restore_enabled: bool,
    pub runtimes: HashMap<String, serde::de::IgnoredAny>,
    /// `name=seccomp…`, `name=userns`, `name=rootless`.
    pub security_options: Vec<String>,
}

/// The engine of this host, read-only.
#[derive(Debug, Clone)]
pub struct Engine {
    socket: Socket,
}

impl Engine {
    /// The engine at `DOCKER_HOST` when that names a unix socket, else at its usual place.
    pub fn local() -> Self {
        let named = std::env::var("DOCKER_HOST").ok();
        let path = named.as_deref().and_then(|h| h.strip_prefix("unix://"));
        Self::at(Socket::at(path.unwrap_or("/var/run/docker.sock")))
    }

    /// The engine behind `socket`.
    pub fn at(socket: Socket) -> Self {
        Self { socket }
    }

    /// All containers of VMs, whatever their state.
    pub fn list(&self) -> Result<Listing, EngineError> {
        let path = format!("/containers/json?all=1&filters={FILTER}");
        let body = self.socket.get(&path)?;
        read_list(&body)
    }

    /// What the layers of VMs and of their trees take. The engine walks each of them, so this
    /// may take minutes on a full host.
    pub fn layer_sizes(&self) -> Result<Vec<LayerSize>, EngineError> {
        let path = format!("/containers/json?all=1&size=1&filters={ALL_FILTER}");
        let body = self.socket.get_within(&path, WALK)?;
        let entries: Vec<&RawValue> = read("/containers/json", &body)?;
        let sizes = entries.iter().filter_map(|e| read_layer_size(e.get()));
        Ok(sizes.collect())
    }

    /// What the engine knows of one container.
    pub fn inspect(&self, id: &ContainerId) -> Result<Inspected, EngineError> {
        let body = self.socket.get(&format!("/containers/{id}/json"))?;
        let raw: RawInspect = read("/containers/…/json", &body)?;
        Ok(Inspected {
            pid: Some(raw.state.pid).filter(|pid| *pid > 0),
            exit_code: raw.state.exit_code,
            oom_killed: raw.state.oom_killed,
            error: raw.state.error,
            tty: raw.config.tty,
        })
    }

    /// The last lines that a container wrote, oldest first.
    pub fn last_lines(&self, id: &ContainerId, tty: bool) -> Result<Vec<String>, EngineError> {
        let path = format!("/containers/{id}/logs?stdout=1&stderr=1&tail={OUTPUT_LINES}");
        let body = self.socket.get(&path)?;
        Ok(last_lines(&body, tty))
    }

    /// Facts about the engine.
    pub fn facts(&self) -> Result<Facts, EngineError> {
        read("/info", &self.socket.get("/info")?)
    }

    /// A stream that has bytes whenever something happened to a VM's container.
    pub fn events(&self) -> Result<impl Read + use<>, EngineError> {
        let path = format!("/events?filters={FILTER}");
        Ok(self.socket.follow(&path)?)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawListed<'a> {
    id: &'a str,
    names: Option<Vec<String>>,
    labels: Option<HashMap<String, String>>,
    state: &'a str,
    size_rw: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawInspect {
    state: RawState,
    #[serde(default)]
    config: RawConfig,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    tty: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct RawState {
    pid: u32,
    exit_code: i64,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    error: String,
}

fn read<'a, T: Deserialize<'a>>(call: &'static str, body: &'a [u8]) -> Result<T, EngineError> {
    serde_json::from_slice(body).map_err(|source| EngineError::Json { call, source })
}

fn read_list(body: &[u8]) -> Result<Listing, EngineError> {
    let entries: Vec<&RawValue> = read("/containers/json", body)?;
    let mut listing = Listing {
        containers: Vec::with_capacity(entries.len()),
        complete: true,
    };
    for entry in entries {
        match read_listed(entry.get()) {
            Some(Some(listed)) => listing.containers.push(listed),
            Some(None) => {}
            None => listing.complete = false,
        }
    }
    Ok(listing)
}

/// `None`: cannot be read; `Some(None)`: can be read and is no VM of ours.
fn read_listed(entry: &str) -> Option<Option<Listed>> {
    let raw: RawListed<'_> = serde_json::from_str(entry).ok()?;
    let labels = raw.labels.unwrap_or_default();
    let label = |name: &str| labels.get(name).map(String::as_str);
    if label(labels::DRIVER) != Some(labels::ONEDOCK) {
        return Some(None);
    }
    // The tree of a disk is never started. It has no label of a VM from us, but its image may
    // bring one; and an image that brings the label of a tree does not hide its VM, which runs.
    let state = State::read(raw.state);
    if label(labels::TREE).is_some() && state == State::Created {
        return Some(None);
    }
    let Some(vm) = label(labels::VM) else {
        return Some(None);
    };
    // A label that is not a number is no VM's: only somebody else can have written it.
    let Ok(vm) = vm.parse::<VmId>() else {
        return Some(None);
    };
    let own = format!("/{}", ContainerName::of(vm));
    Some(Some(Listed {
        vm,
        id: raw.id.parse().ok()?,
        own_name: raw.names.unwrap_or_default().contains(&own),
        state,
    }))
}

fn read_layer_size(entry: &str) -> Option<LayerSize> {
    let raw: RawListed<'_> = serde_json::from_str(entry).ok()?;
    let labels = raw.labels.unwrap_or_default();
    let label = |name: &str| labels.get(name).map(String::as_str);
    LayerSize::of_listed(label, &raw.names.unwrap_or_default(), raw.size_rw)
}

/// The engine's log stream: frames of `[stream, 0, 0, 0, length as four bytes]` and text,
/// unless the container has a terminal.
fn last_lines(body: &[u8], tty: bool) -> Vec<String> {
    let mut text = Vec::new();
    if tty {
        text.extend_from_slice(body);
    } else {
        let mut rest = body;
        while let Some((&[_, _, _, _, a, b, c, d], after)) = rest.split_first_chunk::<8>() {
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            let (frame, after) = after.split_at(length.min(after.len()));
            text.extend_from_slice(frame);
            rest = after;
        }
    }
    let start = text.len().saturating_sub(OUTPUT_BYTES);
    let text = String::from_utf8_lossy(text.get(start..).unwrap_or(&[])).into_owned();
    let lines: Vec<String> = text
        .lines()
        .map(plain)
        .filter(|line| !line.is_empty())
        .collect();
    lines
        .get(lines.len().saturating_sub(OUTPUT_LINES)..)
        .unwrap_or(&[])
        .to_vec()
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
