//! Within one host a VM changes its system datastore by renaming: the descriptor stays what it
//! is, and the container where it is.

use std::fs;
use std::io::{self, BufRead};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use onedock_common::engine::Engine;
use onedock_common::state::descriptor::{Descriptor, DiskKind};
use serde::{Deserialize, Serialize};

use crate::location::VmPath;
use crate::node::{NodeContext, disk, prepare, sidecar};
use crate::request::{Request, TRANSFER};
use onedock_common::types::system_datastore::SystemDatastore;

/// Rename within this host.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rename {
    pub(crate) from: VmPath,
    pub(crate) to: VmPath,
}

impl Request for Rename {
    const NAME: &'static str = "rename";
    const DEADLINE: Duration = TRANSFER;
    type Reply = ();

    fn vm_path(&self) -> &VmPath {
        &self.from
    }

    async fn perform<E: Engine>(
        self,
        node: &NodeContext<'_, E>,
        _content: &mut dyn BufRead,
    ) -> anyhow::Result<()> {
        let Self { from, to } = self;
        let _lock = node.begin(from.vm()).await?;
        prepare(&to, SystemDatastore::Onedock)?;
        if from.disk().is_some() {
            return rename_disk(&from.to_path_buf(), &to.to_path_buf()).await;
        }
        // The disks have gone before; this is what is left of the folder.
        let entries = match fs::read_dir(from.folder()) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => {
                return Err(e)
                    .with_context(|| format!("{} cannot be read", from.folder().display()));
            }
        };
        for entry in entries {
            let name = entry?.file_name();
            rename(&from.folder().join(&name), &to.folder().join(&name))?;
        }
        fs::remove_dir(from.folder())
            .with_context(|| format!("{} cannot be removed", from.folder().display()))
    }
}

/// The disk with all that is named after it. One that is on neither side is none of ours: `oned`
/// asks for disks as well that have nothing in the folder.
async fn rename_disk(from: &Path, to: &Path) -> Result<()> {
    sidecar::rename(from, to)?;
    if from.symlink_metadata().is_err() && to.symlink_metadata().is_err() {
        tracing::warn!(disk = %from.display(), "there is no such disk to move");
        return Ok(());
    }
    if matches!(Descriptor::find(from), Ok(Some(DiskKind::File))) {
        return disk::rename(from, to).await;
    }
    rename(from, to)
}

/// Renames, or copies between file systems. What is gone on one side and there on the other was
/// moved before.
fn rename(from: &Path, to: &Path) -> Result<()> {
    let moved = match fs::rename(from, to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && to.exists() => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::CrossesDevices => copy(from, to).and_then(|()| {
            if from.is_dir() {
                fs::remove_dir_all(from)
            } else {
                fs::remove_file(from)
            }
        }),
        other => other,
    };
    moved.with_context(|| format!("{} cannot be moved to {}", from.display(), to.display()))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(from)?;
    if !meta.is_dir() {
        fs::copy(from, to)?;
        return fs::File::open(to)?.sync_all();
    }
    fs::create_dir_all(to)?;
    fs::set_permissions(to, meta.permissions())?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        copy(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_move_that_is_repeated_or_was_cut_off_ends_with_everything_on_the_other_side() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "x").unwrap();
        rename(&a, &b).unwrap();
        rename(&a, &b).unwrap();
        assert_eq!(fs::read_to_string(&b).unwrap(), "x");
        assert!(rename(&a, &dir.path().join("c")).is_err());
    }

    #[test]
    fn a_folder_is_copied_with_its_modes() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("disk.5");
        fs::create_dir(&from).unwrap();
        fs::write(from.join("context.sh"), "A='1'").unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o711)).unwrap();
        let to = dir.path().join("to");
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("context.sh")).unwrap(), "A='1'");
        assert_eq!(
            fs::metadata(&to).unwrap().permissions().mode() & 0o777,
            0o711
        );
    }
}
