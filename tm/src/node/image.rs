//! An image on this host, once for all VMs.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use onedock_common::engine::{Engine, ImageState};
use onedock_common::types::image_config::ImageConfig;
use onedock_common::types::reference::Source;
use onedock_common::wait;
use onedock_registry::Client;

use super::NodeContext;

/// How long a VM waits for the fetch of another one; the engine gives a silent transfer up before.
const FETCHING: Duration = Duration::from_secs(3600);
/// The longest command with volumes, in bytes: it is written into the disk's descriptor, and Linux
/// takes 128 KiB for one argument.
const CONFIG_LIMIT: usize = 128 * 1024;

/// Fetches the image unless it is here. Of many VMs that want it at once one fetches, the others
/// wait for it (fault 32); one that is ended meanwhile releases the lock with its life.
pub(crate) async fn fetch<E: Engine>(
    node: &NodeContext<'_, E>,
    image: &Source,
) -> anyhow::Result<()> {
    if is_here(node, image).await? {
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
    if is_here(node, image).await? {
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
        is_here(node, image).await?,
        "the engine fetched {image} and does not have it"
    );
    drop(lock);
    Ok(())
}

async fn is_here<E: Engine>(node: &NodeContext<'_, E>, image: &Source) -> anyhow::Result<bool> {
    Ok(node.engine.image(image).await? != ImageState::Missing)
}

/// What a fetched image asks for: from the engine, which needs no network for it, or from the registry
/// where the engine does not know.
pub(crate) async fn config<E: Engine>(
    node: &NodeContext<'_, E>,
    image: &Source,
) -> anyhow::Result<ImageConfig> {
    let config = match node.engine.image(image).await? {
        ImageState::Known(config) => config,
        ImageState::Unknown => Client::configured(node.config)?
            .image_config(image)
            .await
            .with_context(|| format!("the engine does not know the configuration of {image}"))?,
        ImageState::Missing => bail!("{image} was removed from this host while it was staged"),
    };
    let bytes = serde_json::to_vec(&config)?.len();
    ensure!(
        bytes <= CONFIG_LIMIT,
        "the command and the volumes of {image} take {bytes} bytes, at most {CONFIG_LIMIT} are supported"
    );
    Ok(config)
}

/// Waits until nobody else holds the lock.
async fn only_one(lock: File, path: &Path, within: Duration) -> anyhow::Result<File> {
    let locked = wait::until_async(within, async || match lock.try_lock() {
        Ok(()) => Ok(Some(())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => {
            Err(e).with_context(|| format!("{} cannot be locked", path.display()))
        }
    });
    match locked.await? {
        Some(()) => Ok(lock),
        None => bail!(
            "the image is still being fetched for another VM after {} s; try again when that has ended",
            within.as_secs()
        ),
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
