//! The checkpoint file of `save`: what was done to the VM, for `restore`. `oned` names its path,
//! in the VM's folder, and moves it with the folder (`docs/decisions/0008-suspend.md`).

use std::io;
use std::path::Path;

use anyhow::{Context as _, ensure};
use onedock_common::state::files;
use onedock_common::{ContainerId, VmId};
use serde::{Deserialize, Serialize};

/// The version that this build writes and reads.
const VERSION: u32 = 1;
/// The largest one that is read, in bytes.
const LIMIT: u64 = 4096;

/// What `save` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Saved {
    /// All processes are frozen, with their memory, on this host and in this boot of it.
    Frozen,
    /// All processes have ended; the disks are kept.
    Stopped,
}

/// The checkpoint file that `save` leaves for `restore`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Checkpoint {
    version: u32,
    vm: VmId,
    /// What was done.
    pub(crate) saved: Saved,
    /// To which container.
    pub(crate) container: ContainerId,
    /// In which boot of the host.
    pub(crate) boot_id: String,
}

impl Checkpoint {
    pub(crate) fn new(vm: VmId, saved: Saved, container: ContainerId, boot_id: String) -> Self {
        Self {
            version: VERSION,
            vm,
            saved,
            container,
            boot_id,
        }
    }

    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let bytes = serde_json::to_vec_pretty(self)?;
        files::replace(path, &bytes, 0o640)
            .with_context(|| format!("the checkpoint {} cannot be written", path.display()))
    }

    /// `None` when there is none.
    pub(crate) fn read(path: &Path, vm: VmId) -> anyhow::Result<Option<Self>> {
        let bytes = match files::read_bounded(path, LIMIT) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => {
                read.with_context(|| format!("the checkpoint {} cannot be read", path.display()))?
            }
        };
        let read: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("the checkpoint {} is damaged", path.display()))?;
        ensure!(
            read.version == VERSION && read.vm == vm,
            "the checkpoint {} is of VM {} and version {}, not of VM {vm} and version {VERSION}",
            path.display(),
            read.vm,
            read.version
        );
        Ok(Some(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_save_writes_restore_reads_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        let vm = VmId::new(5);
        assert_eq!(Checkpoint::read(&path, vm).unwrap(), None);
        let id = ContainerId::numbered(1);
        let written = Checkpoint::new(vm, Saved::Frozen, id, "b".into());
        written.write(&path).unwrap();
        assert_eq!(Checkpoint::read(&path, vm).unwrap(), Some(written));
        assert!(Checkpoint::read(dir.path(), vm).is_err());
        let newer = std::fs::read_to_string(&path).unwrap();
        let newer = newer.replace("\"version\": 1", "\"version\": 2");
        let other = VmId::new(6);
        for (vm, text) in [
            (other, None),
            (vm, Some(&newer[..])),
            (vm, Some("{}")),
            (vm, Some("")),
        ] {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let error = Checkpoint::read(&path, vm).unwrap_err().to_string();
            assert!(error.contains("checkpoint"), "{error}");
        }
    }
}
