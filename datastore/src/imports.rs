//! How many images of a datastore are imported from registries at a time: a slow registry holds one of
//! the threads of `one_datastore` for as long as it sends, and the other users need some, too.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nix::libc;
use onedock_common::wait;

/// How long one import waits for another to end: what waits holds a thread as well.
const PATIENCE: Duration = Duration::from_secs(20);

/// One of the imports that may run, until it is dropped.
#[derive(Debug)]
pub(crate) struct Import {
    _slot: File,
    path: PathBuf,
}

impl Import {
    /// Waits until fewer than `most` run. They are counted by locks of files beside the datastore's folder,
    /// which need not be there; the kernel lets go of them when a driver dies.
    pub(crate) async fn begin(datastore: &Path, most: usize) -> anyhow::Result<Self> {
        Self::begin_within(datastore, most, PATIENCE).await
    }

    async fn begin_within(
        datastore: &Path,
        most: usize,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let failed = || {
            format!(
                "the imports of the datastore cannot be counted beside {}",
                datastore.display()
            )
        };
        let folder = datastore.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).with_context(failed)?;
        let free = wait::until_async(patience, async || free_slot(datastore, most)).await;
        free.with_context(failed)?.with_context(|| {
            format!(
                "this datastore imports {most} at a time, and none has ended; try again later, or raise ONEDOCK_IMPORTS in onedock.conf"
            )
        })
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn free_slot(datastore: &Path, most: usize) -> io::Result<Option<Import>> {
    for slot in 0..most {
        let mut name = OsString::from(".");
        name.push(datastore.file_name().unwrap_or_default());
        name.push(format!("-import-{slot}"));
        let path = datastore.with_file_name(name);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path)?;
        match file.try_lock() {
            // Who had it before may have removed it meanwhile.
            Ok(()) if is_at(&file, &path) => return Ok(Some(Import { _slot: file, path })),
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
    Ok(None)
}

fn is_at(file: &File, path: &Path) -> bool {
    let number = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let (open, there) = (file.metadata(), fs::symlink_metadata(path));
    open.is_ok_and(|open| there.is_ok_and(|there| number(open) == number(there)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_imports_than_the_datastore_has_slots_wait_and_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let datastore = dir.path().join("datastores/100");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let begin = || Import::begin_within(&datastore, 2, Duration::from_millis(30));
            let first = begin().await.unwrap();
            let second = begin().await.unwrap();
            let error = begin().await.unwrap_err().to_string();
            assert!(error.contains("imports 2 at a time"), "{error}");
            let waiting = Import::begin_within(&datastore, 2, Duration::from_secs(20));
            let (third, ()) = tokio::join!(waiting, async {
                tokio::task::yield_now().await;
                drop(first);
            });
            let third = third.unwrap();
            assert!(begin().await.is_err());
            drop((third, second));
        });
        let beside = datastore.parent().unwrap();
        assert_eq!(fs::read_dir(beside).unwrap().count(), 0);
    }
}
