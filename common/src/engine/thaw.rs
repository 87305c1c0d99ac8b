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
