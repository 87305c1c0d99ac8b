//! How many images of a datastore are imported from registries at a time: a slow registry holds one of
//! the threads of `one_datastore` for as long as it sends, and the other users need some, too.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::libc;
use onedock_common::wait;

/// How long one import waits for another to end: what waits holds a thread as well.
const PATIENCE: Duration = Duration::from_secs(20);

/// One of the imports that may run, until it is dropped.
#[derive(Debug)]
pub(crate) struct Import(#[expect(dead_code, reason = "holds the lock")] File);

impl Import {
    /// Waits until fewer than `most` run. They are counted by locks of files in the datastore's folder,
    /// which the kernel lets go of when a driver dies.
    pub(crate) async fn begin(folder: &Path, most: usize) -> anyhow::Result<Self> {
        Self::begin_within(folder, most, PATIENCE).await
    }

    async fn begin_within(folder: &Path, most: usize, patience: Duration) -> anyhow::Result<Self> {
        let failed = || {
            format!(
                "the imports of the datastore cannot be counted in {}",
                folder.display()
            )
        };
        fs::create_dir_all(folder).with_context(failed)?;
        let free = wait::until_async(patience, async || free_slot(folder, most)).await;
        match free.with_context(failed)? {
            Some(file) => Ok(Self(file)),
            None => bail!(
                "{most} images are being imported into this datastore; try again when one of them is there, or set ONEDOCK_IMPORTS in onedock.conf"
            ),
        }
    }
}

fn free_slot(folder: &Path, most: usize) -> io::Result<Option<File>> {
    for slot in 0..most {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(folder.join(format!(".import-{slot}")))?;
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_imports_than_the_datastore_has_slots_wait_and_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("100");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let begin = || Import::begin_within(&folder, 2, Duration::from_millis(30));
            let first = begin().await.unwrap();
            let _second = begin().await.unwrap();
            let error = begin().await.unwrap_err().to_string();
            assert!(error.contains("2 images are being imported"), "{error}");
            let waiting = Import::begin_within(&folder, 2, Duration::from_secs(20));
            let (third, ()) = tokio::join!(waiting, async {
                tokio::task::yield_now().await;
                drop(first);
            });
            third.unwrap();
        });
    }
}
