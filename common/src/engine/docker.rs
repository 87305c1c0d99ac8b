//! The real engine, through bollard on its unix socket. Requests carry no version prefix, so
//! every engine from 20.10 on answers in its own default version.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::ContainerConfig;
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, CreateImageOptionsBuilder,
    InspectContainerOptions, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    LogsOptionsBuilder, PushImageOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
    WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::shapes::{QuotaChange, SILENCE};
use super::{
    ContainerInfo, CreateSpec, EXEC_LINES, Engine, EngineError, Executed, ImageState, LayerSize,
    Limits, NoAnswer, Watched,
};
use super::{memory, shapes};
use crate::engine::labels;
use crate::types::digest::Digest;
use crate::types::ids::{ContainerId, ContainerName, VmId};
use crate::types::reference::{Repository, Source, Tag};
use crate::types::secret::Credential;
use crate::types::text::plain;

/// An answer that needs no work of the engine.
const QUICK: Duration = Duration::from_secs(30);
/// Making, starting, stopping: a loaded host may take its time.
const WORK: Duration = Duration::from_secs(120);
/// The most of a program's output that is read, in bytes.
const EXEC_BYTES: usize = 64 * 1024;
/// Moving layers between the engine and a registry.
const TRANSFER: Duration = Duration::from_secs(3600);

/// The engine behind one unix socket.
#[derive(Debug, Clone)]
pub struct Docker {
    client: bollard::Docker,
    socket: PathBuf,
}

impl Docker {
    /// The engine of this host: `DOCKER_HOST` when it names a unix socket, else
    /// `/var/run/docker.sock`. Nothing is sent yet.
    pub fn local() -> Result<Self, EngineError> {
        let named = std::env::var("DOCKER_HOST").ok();
        let path = named
            .as_deref()
            .and_then(|host| host.strip_prefix("unix://"));
        Self::at(Path::new(path.unwrap_or("/var/run/docker.sock")))
    }

    /// The engine behind `socket`.
    pub fn at(socket: &Path) -> Result<Self, EngineError> {
        let unreachable = |problem: String| EngineError::Unreachable {
            socket: socket.to_owned(),
            reason: NoAnswer::Other(problem),
        };
        let path = socket
            .to_str()
            .ok_or_else(|| unreachable("the path is not UTF-8".into()))?;
        // The client takes no socket that is not there. A front-end has none, and only what asks
        // the engine may fail there: nobody listens at "/", which is.
        let path = if socket.exists() { path } else { "/" };
        // The client's own time limit stands behind all of ours.
        let seconds = TRANSFER.as_secs() + 60;
        let client =
            bollard::Docker::connect_with_unix(path, seconds, bollard::API_DEFAULT_VERSION)
                .map_err(|e| unreachable(e.to_string()))?;
        Ok(Self {
            client,
            socket: socket.to_owned(),
        })
    }

    async fn within<T>(
        &self,
        call: &'static str,
        deadline: Duration,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, EngineError> {
        tracing::debug!(call, "engine");
        match timeout(deadline, request).await {
            Err(_) => Err(EngineError::Deadline { call, deadline }),
            Ok(answer) => answer.map_err(|e| self.error(call, &e)),
        }
    }

    fn error(&self, call: &'static str, error: &Error) -> EngineError {
        shapes::error(&self.socket, call, error)
    }

    async fn inspect(&self, name: &str) -> Result<Option<ContainerInfo>, EngineError> {
        let request = self
            .client
            .inspect_container(name, None::<InspectContainerOptions>);
        match self.within("inspect", QUICK, request).await {
            Ok(answer) => shapes::container(answer).map(Some),
            Err(e) if e.is_missing() => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// A step of a transfer, which stalls when a registry accepts and never answers (fault 22).
async fn progressed<T>(step: impl Future<Output = T>) -> Result<T, Error> {
    timeout(SILENCE, step)
        .await
        .map_err(|_| Error::RequestTimeoutError)
}

impl Engine for Docker {
    async fn image(&self, image: &Source) -> Result<ImageState, EngineError> {
        let name = image.reference().to_string();
        match self
            .within("image inspect", QUICK, self.client.inspect_image(&name))
            .await
        {
            Ok(answer) => Ok(shapes::image(answer)),
            // `RootFS` is without the type that the API's description requires.
            Err(EngineError::Unreadable { .. }) => Ok(ImageState::Unknown),
            Err(e) if e.is_missing() => Ok(ImageState::Missing),
            Err(e) => Err(e),
        }
    }

    async fn pull(
        &self,
        image: &Source,
        credential: Option<&Credential>,
    ) -> Result<(), EngineError> {
        let options = CreateImageOptionsBuilder::default()
            .from_image(&image.reference().to_string())
            .build();
        let login = shapes::credentials(image.repository(), credential);
        let request = async {
            let mut progress = self.client.create_image(Some(options), None, login);
            while let Some(step) = progressed(progress.next()).await? {
                step?;
            }
            Ok(())
        };
        self.within("pull", TRANSFER, request).await
    }

    async fn push(
        &self,
        repository: &Repository,
        tag: &Tag,
        credential: Option<&Credential>,
    ) -> Result<Digest, EngineError> {
        let options = PushImageOptionsBuilder::default().tag(tag.as_str()).build();
        let name = repository.to_string();
        let login = shapes::credentials(repository, credential);
        let request = async {
            let mut digest = None;
            let mut progress = self.client.push_image(&name, Some(options), login);
            while let Some(step) = progressed(progress.next()).await? {
                // The last line says `<tag>: digest: sha256:… size: …`.
                if let Some(status) = step?.status {
                    let word = status
                        .split_whitespace()
                        .find_map(|w| w.parse::<Digest>().ok());
                    digest = word.filter(|_| status.contains("digest:")).or(digest);
                }
            }
            Ok(digest)
        };
        self.within("push", TRANSFER, request)
            .await?
            .ok_or_else(|| EngineError::Unreadable {
                call: "push",
                problem: "it ended without the digest of what was sent".into(),
            })
    }

    async fn untag(&self, repository: &Repository, tag: &Tag) -> Result<(), EngineError> {
        let options = RemoveImageOptionsBuilder::default().build();
        let name = format!("{repository}:{tag}");
        let request = self.client.remove_image(&name, Some(options), None);
        match self.within("image remove", WORK, request).await {
            Err(e) if !e.is_missing() => Err(e),
            _ => Ok(()),
        }
    }

    async fn commit(
        &self,
        container: &ContainerId,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<(), EngineError> {
        let options = CommitContainerOptionsBuilder::default()
            .container(container.as_str())
            .repo(&repository.to_string())
            .tag(tag.as_str())
            .pause(true)
            .build();
        let request = self
            .client
            .commit_container(options, ContainerConfig::default());
        self.within("commit", TRANSFER, request).await.map(drop)
    }

    async fn create(&self, spec: &CreateSpec) -> Result<ContainerId, EngineError> {
        let name = spec.name.to_string();
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let request = self
            .client
            .create_container(Some(options), shapes::create_body(spec)?);
        let answer = self.within("create", WORK, request).await?;
        answer.id.parse().map_err(
            |e: crate::types::ids::BadContainer| EngineError::Unreadable {
                call: "create",
                problem: e.to_string(),
            },
        )
    }

    async fn start(&self, container: &ContainerId) -> Result<(), EngineError> {
        let request = self
            .client
            .start_container(container.as_str(), None::<StartContainerOptions>);
        self.within("start", WORK, request).await
    }

    async fn watch(
        &self,
        container: &ContainerId,
        watch: Duration,
    ) -> Result<Watched, EngineError> {
        let options = WaitContainerOptionsBuilder::default()
            .condition("not-running")
            .build();
        let mut waiting = Box::pin(
            self.client
                .wait_container(container.as_str(), Some(options)),
        );
        match timeout(watch, waiting.next()).await {
            Err(_) => Ok(Watched::Lives),
            Ok(None) => Ok(Watched::Ended(0)),
            Ok(Some(Ok(answer))) => Ok(Watched::Ended(answer.status_code)),
            Ok(Some(Err(Error::DockerContainerWaitError { code, .. }))) => Ok(Watched::Ended(code)),
            Ok(Some(Err(e))) => Err(self.error("wait", &e)),
        }
    }

    async fn stop(&self, container: &ContainerId, grace: Duration) -> Result<(), EngineError> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let request = self
            .client
            .stop_container(container.as_str(), Some(options));
        match self.within("stop", grace + WORK, request).await {
            Err(e) if !e.is_missing() => Err(e),
            _ => Ok(()),
        }
    }

    async fn kill(&self, container: &ContainerId) -> Result<(), EngineError> {
        let options = KillContainerOptionsBuilder::default()
            .signal("KILL")
            .build();
        let request = self
            .client
            .kill_container(container.as_str(), Some(options));
        match self.within("kill", WORK, request).await {
            // 409: it does not run.
            Ok(()) | Err(EngineError::Missing { .. } | EngineError::Conflict { .. }) => {}
            Err(e) => return Err(e),
        }
        match self.watch(container, WORK).await {
            Ok(Watched::Ended(_)) => Ok(()),
            Ok(Watched::Lives) => Err(EngineError::Deadline {
                call: "kill",
                deadline: WORK,
            }),
            Err(e) if e.is_missing() => Ok(()),
            Err(e) => Err(e),
        }
    }

    async fn remove(&self, container: &ContainerId) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::default()
            .v(true)
            .force(true)
            .build();
        let request = self
            .client
            .remove_container(container.as_str(), Some(options));
        match self.within("remove", WORK, request).await {
            Ok(()) | Err(EngineError::Missing { .. }) => Ok(()),
            // Somebody else's removal runs: it is gone when that has ended.
            Err(EngineError::Conflict { call, message }) => {
                let options = WaitContainerOptionsBuilder::default()
                    .condition("removed")
                    .build();
                let mut gone = Box::pin(
                    self.client
                        .wait_container(container.as_str(), Some(options)),
                );
                match timeout(WORK, gone.next()).await {
                    Err(_) => Err(EngineError::Conflict { call, message }),
                    Ok(Some(Err(e))) if !shapes::is_answer_of_wait(&e) => {
                        Err(self.error("wait", &e))
                    }
                    Ok(_) => Ok(()),
                }
            }
            Err(e) => Err(e),
        }
    }

    async fn limit(
        &self,
        container: &ContainerId,
        before: Limits,
        limits: Limits,
    ) -> Result<(), EngineError> {
        let update = async |quota| {
            let body = shapes::update_body(before, limits, quota);
            let request = self.client.update_container(container.as_str(), body);
            self.within("update", WORK, request).await.map(drop)
        };
        let quota = QuotaChange::between(before, limits);
        match update(quota).await {
            Err(EngineError::Refused { message, .. })
                if quota == QuotaChange::Lift && shapes::is_quota_file(&message) =>
            {
                update(QuotaChange::RaiseBeyondAnyHost).await
            }
            done => done,
        }
    }

    async fn memory_held(&self, container: &ContainerId) -> Result<Option<u64>, EngineError> {
        let request = self
            .client
            .inspect_container(container.as_str(), None::<InspectContainerOptions>);
        let answer = self.within("inspect", QUICK, request).await?;
        let pid = answer.state.and_then(|s| s.pid).filter(|pid| *pid > 0);
        Ok(pid.and_then(memory::held_beside))
    }

    async fn container(
        &self,
        container: &ContainerId,
    ) -> Result<Option<ContainerInfo>, EngineError> {
        self.inspect(container.as_str()).await
    }

    async fn named(&self, name: ContainerName) -> Result<Option<ContainerInfo>, EngineError> {
        self.inspect(&name.to_string()).await
    }

    async fn of_vm(&self, vm: VmId) -> Result<Vec<ContainerInfo>, EngineError> {
        let labels = [
            (labels::DRIVER, labels::ONEDOCK),
            (labels::VM, &vm.to_string()),
        ]
        .map(|(label, value)| format!("{label}={value}"));
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&HashMap::from([("label".to_owned(), labels.to_vec())]))
            .build();
        let request = self.client.list_containers(Some(options));
        let mut found = Vec::new();
        for listed in self.within("list", QUICK, request).await? {
            if let Some(id) = listed.id {
                found.extend(self.inspect(&id).await?);
            }
        }
        Ok(found)
    }

    async fn pause(&self, container: &ContainerId) -> Result<(), EngineError> {
        let request = self.client.pause_container(container.as_str());
        match self.within("pause", WORK, request).await {
            Err(e) => match self.container(container).await? {
                Some(now) if now.paused => Ok(()),
                _ => Err(e),
            },
            done => done,
        }
    }

    async fn unpause(&self, container: &ContainerId) -> Result<(), EngineError> {
        let request = self.client.unpause_container(container.as_str());
        match self.within("unpause", WORK, request).await {
            Err(e) if !e.is_missing() => match self.container(container).await? {
                Some(now) if now.paused => Err(e),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    async fn sizes(&self) -> Result<Vec<LayerSize>, EngineError> {
        let ours = HashMap::from([(
            "label".to_owned(),
            vec![format!("{}={}", labels::DRIVER, labels::ONEDOCK)],
        )]);
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .size(true)
            .filters(&ours)
            .build();
        let request = self.client.list_containers(Some(options));
        let all = self.within("list", WORK, request).await?;
        Ok(all
            .into_iter()
            .filter_map(|one| {
                let labels = one.labels.unwrap_or_default();
                let label = |name: &str| labels.get(name).map(String::as_str);
                LayerSize::of_listed(label, &one.names.unwrap_or_default(), one.size_rw)
            })
            .collect())
    }

    async fn exec(
        &self,
        container: &ContainerId,
        command: &[&str],
        limit: Duration,
    ) -> Result<Executed, EngineError> {
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            user: Some("0"),
            cmd: Some(command.to_vec()),
            ..CreateExecOptions::default()
        };
        let request = async {
            let id = self
                .client
                .create_exec(container.as_str(), options)
                .await?
                .id;
            let mut bytes = Vec::new();
            let started = self
                .client
                .start_exec(&id, None::<StartExecOptions>)
                .await?;
            if let StartExecResults::Attached { mut output, .. } = started {
                while let Some(part) = output.next().await {
                    let part = part?.into_bytes();
                    bytes.extend_from_slice(&part[..part.len().min(EXEC_BYTES - bytes.len())]);
                }
            }
            let code = self.client.inspect_exec(&id).await?.exit_code.unwrap_or(-1);
            Ok(Executed {
                code,
                lines: String::from_utf8_lossy(&bytes)
                    .lines()
                    .map(plain)
                    .take(EXEC_LINES)
                    .collect(),
            })
        };
        self.within("exec", limit, request).await
    }

    async fn last_lines(
        &self,
        container: &ContainerId,
        lines: u32,
    ) -> Result<Vec<String>, EngineError> {
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .tail(&lines.to_string())
            .build();
        let request = async {
            let mut output = String::new();
            let mut parts = Box::pin(self.client.logs(container.as_str(), Some(options)));
            while let Some(part) = parts.next().await {
                output.push_str(&String::from_utf8_lossy(&part?.into_bytes()));
                if output.len() > LAST_LINES_LIMIT {
                    break;
                }
            }
            Ok(output)
        };
        let output = self.within("logs", QUICK, request).await?;
        Ok(output
            .lines()
            .map(plain)
            .filter(|l| !l.is_empty())
            .collect())
    }
}

/// The most that is read of a container's last output, in bytes.
const LAST_LINES_LIMIT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_engine_is_only_what_asks_it_fails_and_names_its_socket() {
        let socket = Path::new("/nonexistent/docker.sock");
        let docker = Docker::at(socket).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let name = crate::ContainerName::of(crate::VmId::new(1));
        let error = runtime.block_on(docker.named(name)).unwrap_err();
        assert!(
            matches!(&error, EngineError::Unreachable { socket: named, reason: NoAnswer::NoSocket } if named == socket),
            "{error}"
        );
    }
}
