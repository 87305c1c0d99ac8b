//! Folders that only root reads and writes, beneath `/run/onedock`; a reboot empties them.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// The state folder of root; a second node on one machine has another mount there.
pub(crate) const RUN: &str = "/run/onedock";

/// Makes a folder for root alone, with its parents; refuses one that is another's.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let meta = fs::symlink_metadata(path)?;
    if meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw() && meta.mode() & 0o022 == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "{} is not a folder of root alone",
            path.display()
        )))
    }
}
