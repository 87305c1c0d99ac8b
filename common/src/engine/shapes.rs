//! The engine's documents and ours: what an answer means, and what a request says.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerUpdateBody, HealthConfig, HostConfig,
    HostConfigLogConfig, ImageInspect, RestartPolicy, RestartPolicyNameEnum,
};

use serde_json::{Map, Value};

use super::{ContainerInfo, CreateSpec, EngineError, ImageState, Limits, NoAnswer, unwrapped};
use crate::types::image_config::ImageConfig;
use crate::types::reference::Repository;
use crate::types::secret::Credential;

/// Within a transfer, from one word of progress to the next. Unpacking a large layer is silent.
pub(super) const SILENCE: Duration = Duration::from_secs(600);

/// The period of the processor quota: 100 ms.
const CPU_PERIOD_US: i64 = 100_000;

/// The engine's refusal as ours. `socket` is where the engine was asked.
pub(super) fn error(socket: &Path, call: &'static str, error: &Error) -> EngineError {
    match error {
        Error::DockerResponseServerError {
            status_code,
            message,
        } => {
            let message = unwrapped(message);
            match status_code {
                404 => EngineError::Missing { call, message },
                409 => EngineError::Conflict { call, message },
                status => EngineError::Refused {
                    call,
                    status: *status,
                    message,
                },
            }
        }
        Error::DockerStreamError { error } => EngineError::Refused {
            call,
            status: 0,
            message: unwrapped(error),
        },
        Error::RequestTimeoutError => EngineError::Deadline {
            call,
            deadline: SILENCE,
        },
        Error::JsonDataError { message, .. } => EngineError::Unreadable {
            call,
            problem: message.clone(),
        },
        other => EngineError::Unreachable {
            socket: socket.to_owned(),
            reason: reason(socket, other),
        },
    }
}

/// Why a request did not arrive. A dead socket comes wrapped four times with the same text, so
/// that the last cause is the one that says something.
fn reason(socket: &Path, error: &Error) -> NoAnswer {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    match cause.downcast_ref::<std::io::Error>() {
        Some(error) => NoAnswer::of(socket, error),
        None => NoAnswer::Other(cause.to_string()),
    }
}

/// Whether the engine has answered a wait: the container is gone, or it ended with an error code.
pub(super) fn is_answer_of_wait(error: &Error) -> bool {
    matches!(
        error,
        Error::DockerContainerWaitError { .. }
            | Error::DockerResponseServerError {
                status_code: 404,
                ..
            }
    )
}

/// What matters of an inspected container.
pub(super) fn container(answer: ContainerInspectResponse) -> Result<ContainerInfo, EngineError> {
    let unreadable = |problem: &str| EngineError::Unreadable {
        call: "inspect",
        problem: problem.to_owned(),
    };
    let id = answer.id.ok_or_else(|| unreadable("there is no Id"))?;
    let state = answer
        .state
        .ok_or_else(|| unreadable("there is no State"))?;
    let host = answer.host_config.unwrap_or_default();
    let config = answer.config.unwrap_or_default();
    Ok(ContainerInfo {
        id: id
            .parse()
            .map_err(|e: crate::types::ids::BadContainer| unreadable(&e.to_string()))?,
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        runtime: host.runtime.unwrap_or_default(),
        running: state.running.unwrap_or(false),
        paused: state.paused.unwrap_or(false),
        started_before: state.started_at.is_some_and(|at| !at.starts_with("0001-")),
        exit_code: state.exit_code.unwrap_or(0),
        oom_killed: state.oom_killed.unwrap_or(false),
        terminal: config.tty.unwrap_or(false),
        pid: state
            .pid
            .and_then(|pid| u32::try_from(pid).ok())
            .filter(|pid| *pid > 0),
        stop_signal: config.stop_signal.filter(|name| !name.is_empty()),
        limits: Limits {
            cpu_shares: host.cpu_shares.unwrap_or(0),
            cpu_quota_us: quota(host.cpu_quota.unwrap_or(0)),
            memory: host.memory.unwrap_or(0),
            // A kernel without swap accounting says -1 or 0.
            swap: (host.memory_swap.unwrap_or(0) - host.memory.unwrap_or(0)).max(0),
            pids: pids(host.pids_limit.unwrap_or(0)),
        },
    })
}

/// What matters of an inspected image.
pub(super) fn image(answer: ImageInspect) -> ImageState {
    let has_layers = answer.root_fs.is_some();
    let Some(config) = answer.config.filter(|_| has_layers) else {
        return ImageState::Unknown;
    };
    let volumes = config.volumes.unwrap_or_default();
    ImageState::Known(ImageConfig::new(
        config.entrypoint.unwrap_or_default(),
        config.cmd.unwrap_or_default(),
        volumes.iter().map(String::as_str),
    ))
}

/// A login in the engine's form.
pub(super) fn credentials(
    repository: &Repository,
    credential: Option<&Credential>,
) -> Option<DockerCredentials> {
    credential.map(|c| DockerCredentials {
        username: Some(c.user.clone()),
        password: Some(c.password.clone()),
        serveraddress: Some(repository.registry().to_string()),
        ..DockerCredentials::default()
    })
}

/// What a change of limits asks of the processor quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QuotaChange {
    /// Nothing: there is none, and none is wanted. An engine keeps even a quota that means "none"
    /// and hands it to the runtime at every later start.
    Leave,
    /// This bound, in microseconds of each [`CPU_PERIOD_US`].
    Set(i64),
    /// No bound any more, as engine and kernel say it.
    Lift,
    /// No bound any more for a runtime that cannot write [`QuotaChange::Lift`]: crun before 1.8.4
    /// writes -1 without its sign on cgroup v1, and the kernel refuses the number (ERANGE).
    RaiseBeyondAnyHost,
}

impl QuotaChange {
    pub(super) fn between(before: Limits, after: Limits) -> Self {
        match (before.cpu_quota_us, after.cpu_quota_us) {
            (0, 0) => Self::Leave,
            (_, 0) => Self::Lift,
            (_, quota) => Self::Set(quota),
        }
    }
}

/// The quota of 8192 processors, the most that Linux runs on: it bounds nothing.
const BEYOND_ANY_HOST_US: i64 = 8192 * CPU_PERIOD_US;

/// The quota that an engine has kept; 0 for both forms of a lifted one.
fn quota(kept: i64) -> i64 {
    if (0..BEYOND_ANY_HOST_US).contains(&kept) {
        kept
    } else {
        0
    }
}

/// Whether a runtime's refusal is about the file of the processor quota on cgroup v1.
pub(super) fn is_quota_file(message: &str) -> bool {
    message.contains("cpu.cfs_quota_us")
}

/// The most processes that a kernel has (PID_MAX_LIMIT of 64 bits): it bounds nothing.
const BEYOND_ANY_PIDS: i64 = 1 << 22;

/// What a change of limits asks of the number of processes: nothing where none is wanted, as of
/// [`QuotaChange::Leave`]. A bound is lifted by a larger one, because crun before 1.9 writes the engine's
/// "none" as -1, which the kernel refuses.
fn pids_change(before: Limits, after: Limits) -> Option<i64> {
    match (before.pids, after.pids) {
        (0, 0) => None,
        (_, 0) => Some(BEYOND_ANY_PIDS),
        (_, pids) => Some(pids),
    }
}

/// The bound that an engine answers with; 0 for each form of none.
fn pids(answered: i64) -> i64 {
    if (0..BEYOND_ANY_PIDS).contains(&answered) {
        answered
    } else {
        0
    }
}

/// A change of limits.
pub(super) fn update_body(
    before: Limits,
    limits: Limits,
    quota: QuotaChange,
) -> ContainerUpdateBody {
    let pids_limit = pids_change(before, limits);
    let (cpu_period, cpu_quota) = match quota {
        QuotaChange::Leave => (None, None),
        QuotaChange::Set(quota) => (Some(CPU_PERIOD_US), Some(quota)),
        QuotaChange::Lift => (None, Some(-1)),
        QuotaChange::RaiseBeyondAnyHost => (Some(CPU_PERIOD_US), Some(BEYOND_ANY_HOST_US)),
    };
    ContainerUpdateBody {
        cpu_shares: Some(limits.cpu_shares),
        cpu_period,
        cpu_quota,
        memory: Some(limits.memory),
        memory_swap: Some(limits.memory.saturating_add(limits.swap)),
        pids_limit,
        ..ContainerUpdateBody::default()
    }
}

/// What a container is made with; all else of a VM comes with the boot spec.
pub(super) fn create_body(spec: &CreateSpec) -> Result<ContainerCreateBody, EngineError> {
    let body = own_body(spec);
    if spec.body.is_empty() && spec.host.is_empty() {
        return Ok(body);
    }
    let refused = |e: serde_json::Error| EngineError::Refused {
        call: "create",
        status: 400,
        message: format!("an option of Docker is not what the engine takes: {e}"),
    };
    let labels = body.labels.clone().unwrap_or_default();
    let mut value = serde_json::to_value(body).map_err(refused)?;
    merge(&mut value, &spec.body);
    if let Some(host) = value.get_mut("HostConfig") {
        merge(host, &spec.host);
    }
    let mut body: ContainerCreateBody = serde_json::from_value(value).map_err(refused)?;
    // The drivers' own labels stand over all others.
    body.labels.get_or_insert_default().extend(labels);
    Ok(body)
}

fn merge(into: &mut Value, fields: &Map<String, Value>) {
    let Some(into) = into.as_object_mut() else {
        return;
    };
    for (name, value) in fields {
        match (into.get_mut(name), value) {
            // Beside those that keep the engine from making volumes.
            (Some(Value::Object(own)), Value::Object(further)) if name == "Tmpfs" => {
                own.extend(further.clone());
            }
            _ => {
                into.insert(name.clone(), value.clone());
            }
        }
    }
}

fn own_body(spec: &CreateSpec) -> ContainerCreateBody {
    let log_options = [("max-size", "10m"), ("max-file", "2")];
    ContainerCreateBody {
        hostname: Some(spec.hostname.to_string()),
        image: Some(spec.image.reference().to_string()),
        cmd: spec.cmd.clone(),
        tty: Some(spec.terminal),
        open_stdin: Some(spec.terminal),
        labels: Some(spec.labels.clone().into_iter().collect()),
        // A check every millisecond would cost the host a processor, and nobody reads its answer.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".into()]),
            ..HealthConfig::default()
        }),
        // A namespace of its own in which the engine does nothing: the runtime plugs the NICs.
        network_disabled: Some(true),
        host_config: Some(HostConfig {
            network_mode: Some("none".into()),
            runtime: Some(spec.runtime.into()),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                maximum_retry_count: None,
            }),
            cpu_shares: Some(spec.limits.cpu_shares),
            cpu_period: (spec.limits.cpu_quota_us != 0).then_some(CPU_PERIOD_US),
            cpu_quota: (spec.limits.cpu_quota_us != 0).then_some(spec.limits.cpu_quota_us),
            memory: Some(spec.limits.memory),
            memory_swap: Some(spec.limits.memory.saturating_add(spec.limits.swap)),
            pids_limit: (spec.limits.pids > 0).then_some(spec.limits.pids),
            // Only what is mounted at such a path keeps the engine from making a volume there; the
            // runtime drops it at every start.
            tmpfs: (!spec.no_volume_at.is_empty()).then(|| {
                let paths = spec.no_volume_at.iter();
                paths
                    .map(|path| ((*path).to_owned(), String::new()))
                    .collect()
            }),
            storage_opt: spec
                .storage_mib
                .map(|mib| HashMap::from([("size".to_owned(), format!("{mib}M"))])),
            // A tenant's output must not fill the host's disk.
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".into()),
                config: Some(
                    log_options
                        .map(|(k, v)| (k.to_owned(), v.to_owned()))
                        .into_iter()
                        .collect::<HashMap<_, _>>(),
                ),
            }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

#[cfg(test)]
#[path = "shapes_tests.rs"]
mod tests;
