//! The image on this host, once for all VMs, and the disk's descriptor.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use onedock_common::descriptor::{Descriptor, Snapshot, VERSION};
use onedock_common::engine::Engine;
use onedock_common::reference::Source;
use tokio::time::{Instant, sleep};

use super::container;
use super::{Node, prepare, sidecar};
use crate::location::Place;
use crate::message::Outcome;
use crate::system::System;

/// How long a VM waits for the fetch of another one; the engine gives a silent transfer up before.
const FETCHING: Duration = Duration::from_secs(3600);
/// How often it looks whether that has ended.
const STEP: Duration = Duration::from_millis(50);

/// What the descriptor will say.
pub(super) struct Wanted {
    pub(super) image: Source,
    pub(super) source: Source,
    pub(super) persistent: bool,
    pub(super) dockerrun: Option<String>,
    pub(super) snapshots: Vec<Snapshot>,
}

pub(super) async fn run<E: Engine>(
    node: &Node<'_, E>,
    disk: &Place,
    system: System,
    wanted: Wanted,
) -> anyhow::Result<Outcome> {
    let id = disk
        .disk()
        .context("an image is staged as a disk, not as a VM's folder")?;
    let _lock = node.begin(disk.vm()).await?;
    let path = disk.path();
    // A second call for a disk that was staged, or a disk of an earlier life of this VM.
    let before = Descriptor::read(&path).ok();
    prepare(disk, system)?;
    fetch(node, &wanted.image).await?;
    if let Some(former) = before.and_then(|d| d.container) {
        tracing::warn!(
            container = former.short(),
            "the disk is staged anew, its former container goes"
        );
        container::remove(node, &former).await?;
    }
    if wanted.persistent {
        // Its snapshots and its state may get names of the VM's own in the registry.
        sidecar::note_repository(&path, wanted.source.repository())?;
    }
    let descriptor = Descriptor {
        version: VERSION,
        vm: disk.vm(),
        disk: id,
        image: wanted.image,
        source: wanted.source,
        persistent: wanted.persistent,
        dockerrun: wanted.dockerrun,
        container: None,
        snapshots: wanted.snapshots,
    };
    descriptor.write(&path)?;
    Ok(Outcome::Done)
}

/// Fetches the image unless it is here. Of many VMs that want it at once one fetches, the others
/// wait for it (fault 32); one that is ended meanwhile lets go of the lock with its life.
pub(super) async fn fetch<E: Engine>(node: &Node<'_, E>, image: &Source) -> anyhow::Result<()> {
    if node.engine.image(image).await?.is_some() {
        return Ok(());
    }
    let path = node.paths.image_lock(image.digest().hex());
    let lock = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .with_context(|| {
            format!(
                "lock file {} cannot be opened; run 'onedock setup node' on this host",
                path.display()
            )
        })?;
    let lock = only_one(lock, &path, FETCHING).await?;
    if node.engine.image(image).await?.is_some() {
        return Ok(());
    }
    let registry = image.repository().registry();
    // The node's own account: the front-end's, which may push, stays there.
    let credential = onedock_registry::credential(&node.config.auth_file, registry)?;
    node.engine
        .pull(image, credential.as_ref())
        .await
        .with_context(|| format!("{image} cannot be fetched from registry {registry}"))?;
    ensure!(
        node.engine.image(image).await?.is_some(),
        "the engine fetched {image} and does not have it"
    );
    drop(lock);
    Ok(())
}

/// Waits until nobody else holds the lock.
async fn only_one(lock: File, path: &Path, within: Duration) -> anyhow::Result<File> {
    let deadline = Instant::now() + within;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => bail!(
                "the image is still being fetched for another VM after {} s; try again when that has ended",
                within.as_secs()
            ),
            Err(TryLockError::WouldBlock) => sleep(STEP).await,
            Err(TryLockError::Error(e)) => {
                return Err(e).with_context(|| format!("{} cannot be locked", path.display()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_32_a_fetch_that_never_ends_is_not_waited_for_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image-ab");
        let held = File::create(&path).unwrap();
        held.lock().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let wait = || {
            let lock = File::open(&path).unwrap();
            runtime.block_on(only_one(lock, &path, FETCHING))
        };
        let error = wait().unwrap_err().to_string();
        assert!(error.contains("for another VM after 3600 s"), "{error}");
        drop(held);
        assert!(wait().is_ok());
    }
}
