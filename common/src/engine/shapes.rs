//! The engine's documents and ours: what an answer means, and what a request says.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerUpdateBody, HostConfig,
    HostConfigLogConfig, RestartPolicy, RestartPolicyNameEnum,
};

use super::docker::SILENCE;
use super::{ContainerInfo, CreateSpec, EngineError, Limits, NoAnswer, unwrapped};
use crate::reference::Repository;
use crate::secret::Credential;

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
    Ok(ContainerInfo {
        id: id
            .parse()
            .map_err(|e: crate::ids::BadContainer| unreadable(&e.to_string()))?,
        labels: answer
            .config
            .and_then(|c| c.labels)
            .unwrap_or_default()
            .into_iter()
            .collect(),
        running: state.running.unwrap_or(false),
        paused: state.paused.unwrap_or(false),
        started_before: state.started_at.is_some_and(|at| !at.starts_with("0001-")),
        exit_code: state.exit_code.unwrap_or(0),
        oom_killed: state.oom_killed.unwrap_or(false),
        limits: Limits {
            cpu_shares: host.cpu_shares.unwrap_or(0),
            // -1 after a quota was lifted.
            cpu_quota_us: host.cpu_quota.unwrap_or(0).max(0),
            memory: host.memory.unwrap_or(0),
            // A kernel without swap accounting says -1 or 0.
            swap: (host.memory_swap.unwrap_or(0) - host.memory.unwrap_or(0)).max(0),
        },
    })
}

/// The folder of a container's layer, where the engine stores it as overlay2 does.
pub(super) fn layer(answer: ContainerInspectResponse) -> Option<PathBuf> {
    let upper = answer
        .graph_driver?
        .data
        .get("UpperDir")
        .map(PathBuf::from)?;
    let folder = upper.parent()?;
    let digits = folder.file_name()?.to_str()?;
    let of_overlay = folder.parent()?.file_name()? == "overlay2"
        && upper.file_name()? == "diff"
        && digits.parse::<crate::ids::ContainerId>().is_ok();
    of_overlay.then(|| folder.to_owned())
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

/// A change of limits.
pub(super) fn update_body(limits: Limits) -> ContainerUpdateBody {
    ContainerUpdateBody {
        cpu_shares: Some(limits.cpu_shares),
        cpu_period: Some(if limits.cpu_quota_us == 0 {
            0
        } else {
            CPU_PERIOD_US
        }),
        // -1 lifts a quota that was there; 0 means "as it is".
        cpu_quota: Some(if limits.cpu_quota_us == 0 {
            -1
        } else {
            limits.cpu_quota_us
        }),
        memory: Some(limits.memory),
        memory_swap: Some(limits.memory.saturating_add(limits.swap)),
        ..ContainerUpdateBody::default()
    }
}

/// What a container is made with; all else of a VM comes with the boot spec.
pub(super) fn create_body(spec: &CreateSpec) -> ContainerCreateBody {
    let log_options = [("max-size", "10m"), ("max-file", "2")];
    ContainerCreateBody {
        hostname: Some(spec.hostname.to_string()),
        image: Some(spec.image.reference().to_string()),
        cmd: spec.cmd.clone(),
        labels: Some(spec.labels.clone().into_iter().collect()),
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
mod tests {
    use super::*;

    #[test]
    fn a_quota_that_was_lifted_is_the_same_as_none() {
        let id = "ab".repeat(32);
        let quota = |text: &str| {
            let answer = format!(
                r#"{{"Id":"{id}","State":{{"Running":true}},"HostConfig":{{"CpuQuota":{text}}}}}"#
            );
            let answer: ContainerInspectResponse = serde_json::from_str(&answer).unwrap();
            container(answer).unwrap().limits.cpu_quota_us
        };
        assert_eq!((quota("-1"), quota("0"), quota("50000")), (0, 0, 50_000));
    }

    #[test]
    fn fault_42_only_a_wait_that_was_answered_says_that_a_container_has_gone() {
        let answered = |status_code| {
            is_answer_of_wait(&Error::DockerResponseServerError {
                status_code,
                message: "x".into(),
            })
        };
        assert!(answered(404));
        assert!(!answered(500));
        assert!(!is_answer_of_wait(&Error::RequestTimeoutError));
    }
}
