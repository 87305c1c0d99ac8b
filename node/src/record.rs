//! What the runtime remembers of a container between its calls, in
//! `/run/onedock/containers/<id>.json`. Root writes it, nobody else reads it; a reboot, after
//! which no container lives, empties it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use onedock_common::state::boot::{Disk, Nic};
use onedock_common::state::files;
use onedock_common::{ContainerId, VmId};
use serde::{Deserialize, Serialize};

use crate::disks::slots::Slot;
use crate::namespace::Process;
use crate::state_folder::{self, RUN};

const LIMIT: u64 = 1024 * 1024;

/// The container of a VM, as its `create` left it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Vm {
    pub id: VmId,
    /// The root file system in the mount namespace of the engine.
    pub root: PathBuf,
    /// Mount points that the image lacked and that go again at `delete`.
    pub stubs: Vec<String>,
    /// The NICs to plug at `start`.
    pub nics: Vec<Nic>,
    /// While they are changed: those that may still be there in part.
    #[serde(default)]
    pub former_nics: Vec<Nic>,
    /// The disks to show at `start`.
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// The host's ids of the container's root user.
    #[serde(default)]
    pub owner: (u32, u32),
    /// The loop devices that the container may open.
    #[serde(default)]
    pub slot: Option<Slot>,
    /// The first process; none until `create` has succeeded.
    pub process: Option<Process>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The runtime that created it and alone can act on it.
    pub runtime: PathBuf,
    /// What makes it a VM; none when it had no boot spec.
    pub vm: Option<Vm>,
}

impl Record {
    /// The loop devices that the container may open.
    pub(crate) fn slot(&self) -> Option<Slot> {
        self.vm.as_ref()?.slot
    }
}

/// The folder of records.
#[derive(Debug, Clone)]
pub(crate) struct Records(PathBuf);

impl Records {
    /// The node's own.
    pub(crate) fn system() -> Self {
        Self(Path::new(RUN).join("containers"))
    }

    fn file(&self, id: &ContainerId) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }

    /// Reads the record of `id`, if there is one.
    pub(crate) fn read(&self, id: &ContainerId) -> io::Result<Option<Record>> {
        match files::read_bounded(&self.file(id), LIMIT) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Writes the record of `id`.
    pub(crate) fn write(&self, id: &ContainerId, record: &Record) -> io::Result<()> {
        state_folder::make(&self.0)?;
        files::replace(&self.file(id), &serde_json::to_vec(record)?, 0o600)
    }

    /// Changes what is recorded of the VM's container `id`; one that is not recorded any more stays so.
    pub(crate) fn change(&self, id: &ContainerId, change: impl FnOnce(&mut Vm)) -> io::Result<()> {
        let Some(_lock) = self.lock()? else {
            return Ok(());
        };
        let Some(mut record) = self.read(id)? else {
            return Ok(());
        };
        if let Some(vm) = &mut record.vm {
            change(vm);
        }
        self.write(id, &record)
    }

    /// Removes the record of `id`.
    pub(crate) fn remove(&self, id: &ContainerId) -> io::Result<()> {
        let _lock = self.lock()?;
        files::remove(&self.file(id))
    }

    /// Holds off other changes and removals; none where nothing was ever recorded.
    fn lock(&self) -> io::Result<Option<File>> {
        match File::open(&self.0) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
            Ok(folder) => folder.lock().map(|()| Some(folder)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn attack_45_a_record_is_roots_alone_and_its_folder_too() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records(dir.path().join("run/containers"));
        let id: ContainerId = "ab".repeat(32).parse().unwrap();
        let record = Record {
            runtime: "/usr/bin/crun".into(),
            vm: None,
        };
        assert!(records.read(&id).unwrap().is_none());
        records.remove(&id).unwrap();
        records.write(&id, &record).unwrap();
        assert_eq!(records.read(&id).unwrap(), Some(record.clone()));
        assert_eq!(
            fs::metadata(records.file(&id)).unwrap().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::metadata(&records.0).unwrap().mode() & 0o777, 0o700);
        records.change(&id, |_| panic!("no VM's")).unwrap();
        records.remove(&id).unwrap();
        records.remove(&id).unwrap();
        records.change(&id, |_| panic!("not recorded")).unwrap();
        assert!(!records.file(&id).exists());
        fs::set_permissions(&records.0, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(records.write(&id, &record).is_err());
    }
}
