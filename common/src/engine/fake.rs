//! An engine in memory. It keeps state, enforces the order of calls as the real one does, and can
//! fail at its nth call: before the call has an effect, or after it (an answer that was lost).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::{
    ContainerInfo, CreateSpec, Engine, EngineError, Executed, ImageState, LayerSize, Limits,
    Watched,
};
use crate::engine::labels::is_of_vm;
use crate::types::digest::Digest;
use crate::types::ids::{ContainerId, ContainerName, VmId};
use crate::types::image_config::ImageConfig;
use crate::types::reference::{Repository, Source, Tag};
use crate::types::secret::Credential;

/// When a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The call has no effect.
    Before(usize),
    /// The call has its effect, and its answer is lost.
    After(usize),
}

/// A container of the fake.
#[derive(Debug, Clone)]
pub struct FakeContainer {
    /// What the engine would say of it.
    pub info: ContainerInfo,
    /// Its name.
    pub name: String,
    /// How often it was started.
    pub starts: u32,
}

#[derive(Debug, Default)]
struct State {
    images: BTreeMap<String, ImageState>,
    containers: Vec<FakeContainer>,
    calls: Vec<&'static str>,
    failure: Option<Failure>,
    /// Every start of a container ends at once with this code.
    dies_with: Option<i64>,
    /// Calls of this name never answer.
    hangs: Option<&'static str>,
    /// So many further calls of this name are refused.
    refused: Option<(&'static str, u32)>,
    /// With these words.
    refusal: Option<&'static str>,
    /// So many calls of `named` do not see a container that is there.
    unseen: u32,
    /// Where the runtime records layers; `None`: the engine's storage is no overlay.
    layers: Option<PathBuf>,
    /// It takes its own runtime whatever it is asked for.
    ignores_runtime: bool,
    /// It can bound no layer.
    unbounded: bool,
    /// What the processes of every container hold.
    held: u64,
    last_grace: Option<Duration>,
    /// What was run in containers.
    executed: Vec<String>,
    /// What every program that is run in a container says.
    output: Vec<String>,
    made: u64,
}

/// What actions in several threads see and change.
#[derive(Debug, Default)]
pub struct Shared<T>(Mutex<T>);

impl<T> Shared<T> {
    /// For one look.
    pub fn borrow(&self) -> MutexGuard<'_, T> {
        self.borrow_mut()
    }

    /// For one change. Another thread has its turn first, so that actions which are not kept apart
    /// by the VM's lock get in one another's way.
    pub fn borrow_mut(&self) -> MutexGuard<'_, T> {
        thread::yield_now();
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine in memory.
#[derive(Debug, Default)]
pub struct FakeEngine {
    state: Shared<State>,
}

impl FakeEngine {
    /// An engine that has this image staged.
    pub fn with_image(image: &Source, config: ImageConfig) -> Self {
        let engine = Self::default();
        engine
            .state
            .borrow_mut()
            .images
            .insert(image.to_string(), ImageState::Known(config));
        engine
    }

    /// How long the last `stop` waits before it kills.
    pub fn last_grace(&self) -> Option<Duration> {
        self.state.borrow().last_grace
    }

    /// Lets a call fail, counted from 1 from now on.
    pub fn fail(&self, failure: Failure) {
        let mut state = self.state.borrow_mut();
        state.calls.clear();
        state.failure = Some(failure);
    }

    /// Lets no call fail any more, and forgets the calls so far.
    pub fn heal(&self) {
        let mut state = self.state.borrow_mut();
        state.calls.clear();
        state.failure = None;
    }

    /// Lets every process end at once with `code`.
    pub fn die_with(&self, code: Option<i64>) {
        self.state.borrow_mut().dies_with = code;
    }

    /// Lets every call of this name hang (`start`, `stop`, `kill`, `remove`, `commit`).
    pub fn hang(&self, call: Option<&'static str>) {
        self.state.borrow_mut().hangs = call;
    }

    /// Refuses the next calls of this name, so many of them.
    pub fn refuse(&self, call: &'static str, times: u32) {
        self.state.borrow_mut().refused = Some((call, times));
    }

    /// Processes that wait for something of the host do not die of so many kills or stops.
    pub fn keep_alive(&self, call: &'static str, times: u32) {
        let mut state = self.state.borrow_mut();
        state.refused = Some((call, times));
        state.refusal = Some(super::UNDYING);
    }

    /// Keeps containers from `named` for so many calls, as the engine does while it makes one:
    /// the name is taken before the container can be seen.
    pub fn hide(&self, calls: u32) {
        self.state.borrow_mut().unseen = calls;
    }

    /// Lets the runtime record layers in this folder.
    pub fn record_layers(&self, folder: PathBuf) {
        self.state.borrow_mut().layers = Some(folder);
    }

    /// Stages a further image.
    pub fn stage(&self, image: &Source) {
        let mut state = self.state.borrow_mut();
        state
            .images
            .insert(image.to_string(), ImageState::Known(ImageConfig::default()));
    }

    /// Has an image that it says nothing of, or none at all any more.
    pub fn set_image(&self, image: &Source, image_state: ImageState) {
        let mut state = self.state.borrow_mut();
        state.images.insert(image.to_string(), image_state);
    }

    /// Its storage is no overlay: the runtime records nothing.
    pub fn record_no_layers(&self) {
        self.state.borrow_mut().layers = None;
    }

    /// Takes its own runtime whatever it is asked for, as Podman does, so that nothing is recorded.
    pub fn ignore_runtime(&self) {
        let mut state = self.state.borrow_mut();
        state.ignores_runtime = true;
        state.layers = None;
    }

    /// Refuses to bound a layer, as an engine does whose storage keeps no quota.
    pub fn bound_nothing(&self) {
        self.state.borrow_mut().unbounded = true;
    }

    /// Lets the processes of every container hold so many bytes.
    pub fn hold(&self, bytes: u64) {
        self.state.borrow_mut().held = bytes;
    }

    /// What was run in containers, each as one line.
    pub fn executed(&self) -> Vec<String> {
        self.state.borrow().executed.clone()
    }

    /// Lets every program that is run in a container say these lines.
    pub fn say(&self, lines: &[&str]) {
        self.state.borrow_mut().output = lines.iter().map(|line| (*line).to_owned()).collect();
    }

    /// The calls since the last [`Self::fail`] or [`Self::heal`].
    pub fn calls(&self) -> Vec<&'static str> {
        self.state.borrow().calls.clone()
    }

    /// All containers.
    pub fn containers(&self) -> Vec<FakeContainer> {
        self.state.borrow().containers.clone()
    }

    /// Changes a container behind the drivers' back.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut FakeContainer)) {
        if let Some(container) = self
            .state
            .borrow_mut()
            .containers
            .iter_mut()
            .find(|c| c.name == name)
        {
            change(container);
        }
    }

    /// Puts a container there that no driver made.
    pub fn add(&self, name: &str, labels: BTreeMap<String, String>) {
        let mut state = self.state.borrow_mut();
        let id = next_id(&mut state);
        let limits = Limits {
            cpu_shares: 0,
            cpu_quota_us: 0,
            memory: 0,
            swap: 0,
            pids: 0,
        };
        state.containers.push(FakeContainer {
            info: fresh(id, labels, limits),
            name: name.to_owned(),
            starts: 0,
        });
    }

    async fn answering(&self, name: &'static str) {
        if self.state.borrow().hangs == Some(name) {
            std::future::pending::<()>().await;
        }
    }

    fn call<T>(
        &self,
        name: &'static str,
        effect: impl FnOnce(&mut State) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let mut state = self.state.borrow_mut();
        state.calls.push(name);
        let lost = EngineError::Deadline {
            call: name,
            deadline: Duration::from_secs(1),
        };
        if state.failure == Some(Failure::Before(state.calls.len())) {
            return Err(lost);
        }
        if let Some((refused, times @ 1..)) = &mut state.refused
            && *refused == name
        {
            *times -= 1;
            return Err(EngineError::Refused {
                call: name,
                status: 500,
                message: state.refusal.unwrap_or("not now").to_owned(),
            });
        }
        let answer = effect(&mut state);
        if state.failure == Some(Failure::After(state.calls.len())) {
            Err(lost)
        } else {
            answer
        }
    }
}

fn next_id(state: &mut State) -> ContainerId {
    state.made += 1;
    ContainerId::numbered(state.made)
}

fn fresh(id: ContainerId, labels: BTreeMap<String, String>, limits: Limits) -> ContainerInfo {
    ContainerInfo {
        id,
        labels,
        runtime: "onedock".to_owned(),
        running: false,
        paused: false,
        started_before: false,
        exit_code: 0,
        oom_killed: false,
        terminal: false,
        pid: None,
        stop_signal: None,
        limits,
    }
}

fn find<'a>(state: &'a mut State, id: &ContainerId) -> Result<&'a mut FakeContainer, EngineError> {
    state
        .containers
        .iter_mut()
        .find(|c| c.info.id == *id)
        .ok_or_else(|| EngineError::Missing {
            call: "find",
            message: format!("No such container: {id}"),
        })
}

impl Engine for FakeEngine {
    async fn image(&self, image: &Source) -> Result<ImageState, EngineError> {
        self.call("image", |s| {
            let state = s.images.get(&image.to_string()).cloned();
            Ok(state.unwrap_or(ImageState::Missing))
        })
    }

    async fn pull(&self, image: &Source, _: Option<&Credential>) -> Result<(), EngineError> {
        self.call("pull", |s| {
            s.images
                .insert(image.to_string(), ImageState::Known(ImageConfig::default()));
            Ok(())
        })
    }

    async fn push(
        &self,
        repository: &Repository,
        tag: &Tag,
        _: Option<&Credential>,
    ) -> Result<Digest, EngineError> {
        self.call("push", |_| {
            Ok(Digest::of(format!("{repository}:{tag}").as_bytes()))
        })
    }

    async fn untag(&self, repository: &Repository, tag: &Tag) -> Result<(), EngineError> {
        self.call("untag", |s| {
            s.images.remove(&format!("{repository}:{tag}"));
            Ok(())
        })
    }

    async fn commit(
        &self,
        container: &ContainerId,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<(), EngineError> {
        self.answering("commit").await;
        self.call("commit", |s| {
            find(s, container)?;
            s.images.insert(
                format!("{repository}:{tag}"),
                ImageState::Known(ImageConfig::default()),
            );
            Ok(())
        })
    }

    async fn create(&self, spec: &CreateSpec) -> Result<ContainerId, EngineError> {
        self.call("create", |s| {
            let name = spec.name.to_string();
            if s.containers.iter().any(|c| c.name == name) {
                let message = format!("Conflict. The container name \"/{name}\" is already in use");
                return Err(EngineError::Conflict {
                    call: "create",
                    message,
                });
            }
            let image = s.images.get(&spec.image.to_string());
            if image.is_none_or(|image| *image == ImageState::Missing) {
                let message = format!("No such image: {}", spec.image);
                return Err(EngineError::Missing {
                    call: "create",
                    message,
                });
            }
            if s.unbounded && spec.storage_mib.is_some() {
                return Err(EngineError::Refused {
                    call: "create",
                    status: 500,
                    message: "--storage-opt is supported only for overlay over xfs with 'pquota' mount option".into(),
                });
            }
            let id = next_id(s);
            let mut info = fresh(id.clone(), spec.labels.clone(), spec.limits);
            info.terminal = spec.terminal;
            if s.ignores_runtime {
                info.runtime = "crun".to_owned();
            }
            s.containers.push(FakeContainer {
                info,
                name,
                starts: 0,
            });
            Ok(id)
        })
    }

    async fn start(&self, container: &ContainerId) -> Result<(), EngineError> {
        self.answering("start").await;
        self.call("start", |s| {
            let dies = s.dies_with;
            let layers = s.layers.clone();
            let found = find(s, container)?;
            // The runtime records the layers where it can, and refuses the tree of a disk.
            if let Some(folder) = layers {
                let record = folder.join(format!("{container}.json"));
                std::fs::create_dir_all(folder)
                    .and_then(|()| std::fs::write(record, "{}"))
                    .map_err(|e| EngineError::Unreadable {
                        call: "start",
                        problem: e.to_string(),
                    })?;
            }
            if found.name.contains("-disk-") {
                return Err(EngineError::Refused {
                    call: "start",
                    status: 500,
                    message: "the container is a disk of VM 5, and runs nothing".into(),
                });
            }
            if found.info.paused {
                return Err(EngineError::Conflict {
                    call: "start",
                    message: "cannot start a paused container, try unpause instead".into(),
                });
            }
            if !found.info.running {
                found.starts += 1;
                found.info.started_before = true;
                found.info.running = dies.is_none();
                found.info.exit_code = dies.unwrap_or(0);
            }
            Ok(())
        })
    }

    async fn watch(&self, container: &ContainerId, _: Duration) -> Result<Watched, EngineError> {
        self.call("watch", |s| {
            let found = find(s, container)?;
            Ok(if found.info.running {
                Watched::Lives
            } else {
                Watched::Ended(found.info.exit_code)
            })
        })
    }

    async fn stop(&self, container: &ContainerId, grace: Duration) -> Result<(), EngineError> {
        self.answering("stop").await;
        self.call("stop", |s| {
            s.last_grace = Some(grace);
            if let Ok(found) = find(s, container) {
                found.info.running = false;
                found.info.paused = false;
            }
            Ok(())
        })
    }

    async fn kill(&self, container: &ContainerId) -> Result<(), EngineError> {
        self.answering("kill").await;
        self.call("kill", |s| {
            if let Ok(found) = find(s, container)
                && found.info.running
            {
                found.info.running = false;
                found.info.paused = false;
                found.info.exit_code = 137;
            }
            Ok(())
        })
    }

    async fn remove(&self, container: &ContainerId) -> Result<(), EngineError> {
        self.answering("remove").await;
        self.call("remove", |s| {
            s.containers.retain(|c| c.info.id != *container);
            Ok(())
        })
    }

    async fn limit(
        &self,
        container: &ContainerId,
        _before: Limits,
        limits: Limits,
    ) -> Result<(), EngineError> {
        self.call("limit", |s| {
            find(s, container)?.info.limits = limits;
            Ok(())
        })
    }

    async fn memory_held(&self, container: &ContainerId) -> Result<Option<u64>, EngineError> {
        self.call("memory_held", |s| {
            let (held, running) = (s.held, find(s, container)?.info.running);
            Ok(running.then_some(held))
        })
    }

    async fn container(
        &self,
        container: &ContainerId,
    ) -> Result<Option<ContainerInfo>, EngineError> {
        self.call("container", |s| {
            Ok(find(s, container).ok().map(|c| c.info.clone()))
        })
    }

    async fn named(&self, name: ContainerName) -> Result<Option<ContainerInfo>, EngineError> {
        self.call("named", |s| {
            if s.unseen > 0 {
                s.unseen -= 1;
                return Ok(None);
            }
            let name = name.to_string();
            Ok(s.containers
                .iter()
                .find(|c| c.name == name)
                .map(|c| c.info.clone()))
        })
    }

    async fn of_vm(&self, vm: VmId) -> Result<Vec<ContainerInfo>, EngineError> {
        self.call("of_vm", |s| {
            let all = s.containers.iter().map(|one| &one.info);
            Ok(all.filter(|info| is_of_vm(info, vm)).cloned().collect())
        })
    }

    async fn pause(&self, container: &ContainerId) -> Result<(), EngineError> {
        self.call("pause", |s| {
            find(s, container)?.info.paused = true;
            Ok(())
        })
    }

    async fn unpause(&self, container: &ContainerId) -> Result<(), EngineError> {
        self.call("unpause", |s| {
            if let Ok(found) = find(s, container) {
                found.info.paused = false;
            }
            Ok(())
        })
    }

    async fn sizes(&self) -> Result<Vec<LayerSize>, EngineError> {
        self.call("sizes", |s| {
            Ok(s.containers
                .iter()
                .filter_map(|c| {
                    let label = |name: &str| c.info.labels.get(name).map(String::as_str);
                    LayerSize::of_listed(label, &[format!("/{}", c.name)], None)
                })
                .collect())
        })
    }

    async fn exec(
        &self,
        container: &ContainerId,
        command: &[&str],
        _: Duration,
    ) -> Result<Executed, EngineError> {
        self.call("exec", |s| {
            if !find(s, container)?.info.running {
                return Err(EngineError::Conflict {
                    call: "exec",
                    message: format!("container {container} is not running"),
                });
            }
            s.executed.push(command.join(" "));
            Ok(Executed {
                code: 0,
                lines: s.output.clone(),
            })
        })
    }

    async fn last_lines(
        &self,
        container: &ContainerId,
        _: u32,
    ) -> Result<Vec<String>, EngineError> {
        self.call("last_lines", |s| {
            find(s, container)?;
            Ok(vec!["the last line".to_owned()])
        })
    }
}
