//! A VM that was frozen for the time of a copy goes on: after the copy, and after an action that died
//! while it was frozen ([`freezing`]). What `save` froze has no note, and stays so.

use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio::time::sleep;

use super::{ContainerInfo, Engine, EngineError};
use crate::state::journal::freezing;
use crate::state::paths::Paths;
use crate::types::ids::{ContainerId, VmId};

/// How often it is tried, and how long is waited in between.
const ATTEMPTS: u32 = 5;
const BETWEEN: Duration = Duration::from_millis(500);

/// Why a VM stays frozen.
#[derive(Debug, Error)]
pub enum ThawError {
    /// The engine refused every time.
    #[error(
        "the VM is frozen and the engine does not let it go on ({reason}); the next action on it tries again, or run: docker unpause {container}"
    )]
    Engine {
        /// The short id of its container.
        container: String,
        /// The last refusal.
        reason: EngineError,
    },
    /// It goes on, and its note stays.
    #[error("the note of a frozen VM cannot be removed: {0}")]
    Note(#[from] io::Error),
}

/// Lets the VM go on and takes its note away.
///
/// # Errors
///
/// [`ThawError`]; the note stays, so that the next action tries again.
pub async fn thaw(
    engine: &impl Engine,
    paths: &Paths,
    vm: VmId,
    container: &ContainerId,
) -> Result<(), ThawError> {
    let mut attempt = 1;
    loop {
        match engine.unpause(container).await {
            Ok(()) => return Ok(freezing::end(paths, vm)?),
            Err(_) if attempt < ATTEMPTS => sleep(BETWEEN).await,
            Err(reason) => {
                return Err(ThawError::Engine {
                    container: container.short().to_owned(),
                    reason,
                });
            }
        }
        attempt += 1;
    }
}

/// Lets the VM go on if an action that froze it has died. `container` is the VM's own, if there is
/// one. Under the VM's lock.
///
/// # Errors
///
/// As [`thaw`].
pub async fn thaw_left(
    engine: &impl Engine,
    paths: &Paths,
    vm: VmId,
    container: Option<&mut ContainerInfo>,
) -> Result<(), ThawError> {
    if !freezing::is_begun(paths, vm) {
        return Ok(());
    }
    if let Some(container) = container.filter(|container| container.paused) {
        tracing::warn!("an action that froze the VM has died, it goes on now");
        thaw(engine, paths, vm, &container.id).await?;
        container.paused = false;
    }
    Ok(freezing::end(paths, vm)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::time::Instant;

    use super::*;
    use crate::engine::fake::FakeEngine;

    const VM: VmId = VmId::new(5);

    struct Frozen {
        engine: FakeEngine,
        paths: Paths,
        container: ContainerInfo,
        _dir: tempfile::TempDir,
    }

    fn frozen() -> Frozen {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::at(dir.path());
        let engine = FakeEngine::default();
        engine.add("one-5", BTreeMap::new());
        engine.change("one-5", |container| container.info.paused = true);
        freezing::begin(&paths, VM).unwrap();
        Frozen {
            container: engine.containers().remove(0).info,
            engine,
            paths,
            _dir: dir,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_refuses_is_asked_five_times_within_two_seconds() {
        let vm = frozen();
        vm.engine.refuse("unpause", ATTEMPTS - 1);
        let begin = Instant::now();
        thaw(&vm.engine, &vm.paths, VM, &vm.container.id)
            .await
            .unwrap();
        assert_eq!(begin.elapsed(), Duration::from_secs(2));
        assert_eq!(vm.engine.calls(), ["unpause"; 5]);
        assert!(!vm.engine.containers()[0].info.paused);
        assert!(!freezing::is_begun(&vm.paths, VM));
    }

    #[tokio::test(start_paused = true)]
    async fn a_vm_that_stays_frozen_is_told_with_what_to_do_and_goes_on_with_the_next_action() {
        let mut vm = frozen();
        vm.engine.refuse("unpause", ATTEMPTS);
        let error = thaw_left(&vm.engine, &vm.paths, VM, Some(&mut vm.container))
            .await
            .unwrap_err()
            .to_string();
        let command = format!("docker unpause {}", vm.container.id.short());
        assert!(
            error.contains("not now") && error.contains(&command),
            "{error}"
        );
        assert!(vm.container.paused && freezing::is_begun(&vm.paths, VM));
        thaw_left(&vm.engine, &vm.paths, VM, Some(&mut vm.container))
            .await
            .unwrap();
        assert!(!vm.container.paused && !freezing::is_begun(&vm.paths, VM));
        // What has no note was suspended, and stays so.
        vm.engine
            .change("one-5", |container| container.info.paused = true);
        vm.container.paused = true;
        thaw_left(&vm.engine, &vm.paths, VM, Some(&mut vm.container))
            .await
            .unwrap();
        assert!(vm.container.paused && vm.engine.containers()[0].info.paused);
    }
}
