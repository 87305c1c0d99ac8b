//! The engine's documents and ours: what an answer means, and what a request says.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerUpdateBody, HostConfig,
    HostConfigLogConfig, RestartPolicy, RestartPolicyNameEnum,
};

use super::{ContainerInfo, CreateSpec, EngineError, Limits, NoAnswer, unwrapped};
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
        },
    })
}

/// A VOLUME path of an image as the engine mounts it: without `.`, `..` and double slashes.
pub(super) fn cleaned(path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
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
        && digits.parse::<crate::types::ids::ContainerId>().is_ok();
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

/// A change of limits.
pub(super) fn update_body(limits: Limits, quota: QuotaChange) -> ContainerUpdateBody {
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
        tty: Some(spec.terminal),
        open_stdin: Some(spec.terminal),
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
        assert_eq!(quota(&BEYOND_ANY_HOST_US.to_string()), 0);
    }

    #[test]
    fn a_volume_path_is_the_one_that_the_engine_mounts() {
        for (path, mounted) in [
            ("/data", "/data"),
            ("/a/../data/", "/data"),
            ("//srv/./x", "/srv/x"),
            ("/../..", "/"),
        ] {
            assert_eq!(cleaned(path), Path::new(mounted), "{path}");
        }
    }

    fn spec(terminal: bool) -> CreateSpec {
        CreateSpec {
            name: crate::ContainerName::of(crate::VmId::new(5)),
            image: format!("docker://front:5000/x@sha256:{}", "ab".repeat(32))
                .parse()
                .unwrap(),
            hostname: "web".parse().unwrap(),
            labels: std::collections::BTreeMap::new(),
            cmd: None,
            runtime: "onedock",
            terminal,
            no_volume_at: vec!["/etc/hosts"],
            limits: Limits {
                cpu_shares: 512,
                cpu_quota_us: 0,
                memory: 1 << 28,
                swap: 0,
            },
            storage_mib: None,
        }
    }

    #[test]
    fn the_bound_of_a_root_disk_is_in_mib_and_none_where_none_is_asked_for() {
        for (storage_mib, option) in [(None, None), (Some(74), Some("74M"))] {
            let bounded = CreateSpec {
                storage_mib,
                ..spec(true)
            };
            let options = create_body(&bounded).host_config.unwrap().storage_opt;
            let size = options.map(|options| options["size"].clone());
            assert_eq!(size.as_deref(), option);
        }
    }

    #[test]
    fn a_vm_has_a_terminal_whose_input_stays_open_and_a_tree_has_none() {
        for terminal in [true, false] {
            let body = create_body(&spec(terminal));
            assert_eq!(body.tty, Some(terminal));
            assert_eq!(body.open_stdin, Some(terminal));
            // An engine closes the input with its first reader where this is set.
            assert_eq!(body.stdin_once, None);
            let tmpfs = body.host_config.unwrap().tmpfs.unwrap();
            assert_eq!(tmpfs.keys().collect::<Vec<_>>(), ["/etc/hosts"]);
        }
    }

    #[test]
    fn a_vm_without_vcpu_has_no_quota_in_any_update() {
        let limits = |cpu_quota_us| Limits {
            cpu_shares: 512,
            cpu_quota_us,
            memory: 1 << 28,
            swap: 0,
        };
        for (before, after, expected) in [
            (0, 0, None),
            (0, 50_000, Some(50_000)),
            (50_000, 200_000, Some(200_000)),
            (200_000, 200_000, Some(200_000)),
            (50_000, 0, Some(-1)),
        ] {
            let change = QuotaChange::between(limits(before), limits(after));
            let body = update_body(limits(after), change);
            assert_eq!(body.cpu_quota, expected, "{before} to {after}");
            let bounds = expected.is_some_and(|quota| quota > 0);
            assert_eq!(body.cpu_period, bounds.then_some(CPU_PERIOD_US));
            assert_eq!(body.cpu_shares, Some(512));
        }
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
