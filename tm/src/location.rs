//! `host:path` as `oned` writes it, and the disk or the VM's folder that it names.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use onedock_common::state::vm_folder;
use onedock_common::{DiskId, VmId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a location was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum BadLocation {
    /// No host in front of the path, or a host that ssh would take for something else.
    #[error("\"{0}\" is not <host>:<path>")]
    Form(String),
    /// Not `…/<datastore>/<vm>` or `…/<datastore>/<vm>/disk.<n>`.
    #[error("\"{0}\" is not a VM's folder or a disk in it")]
    VmPath(String),
    /// The folder of another VM than the one that is acted upon.
    #[error("\"{path}\" does not belong to VM {vm}; nothing was done")]
    Foreign { path: String, vm: VmId },
}

/// A host by the name that ssh reaches it under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostName(String);

impl HostName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is this machine by its own name; one that is so by another name only is reached
    /// over ssh like any other.
    pub(crate) fn is_here(&self) -> bool {
        self.0 == "localhost"
            || nix::unistd::gethostname()
                .is_ok_and(|name| name.to_string_lossy().eq_ignore_ascii_case(&self.0))
    }

    /// Whether both names are surely one machine.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self == other || (self.is_here() && other.is_here())
    }
}

impl FromStr for HostName {
    type Err = BadLocation;
    fn from_str(text: &str) -> Result<Self, BadLocation> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if (1..=253).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadLocation::Form(text.to_owned()))
        }
    }
}

/// A path on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) host: HostName,
    pub(crate) path: PathBuf,
}

impl FromStr for Location {
    type Err = BadLocation;
    fn from_str(text: &str) -> Result<Self, BadLocation> {
        let bad = || BadLocation::Form(text.to_owned());
        let (host, path) = text.split_once(':').ok_or_else(bad)?;
        let path = Path::new(path);
        if !path.is_absolute() || path.components().any(|c| c == Component::ParentDir) {
            return Err(bad());
        }
        // Without double slashes: `oned` writes /var/lib/one//datastores/….
        Ok(Self {
            host: host.parse()?,
            path: path.components().collect(),
        })
    }
}

/// What a path in a datastore is. Made from the path alone, so that nothing outside a VM's
/// folder can be named in a request to a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PathBuf", into = "PathBuf")]
pub(crate) struct VmPath {
    folder: PathBuf,
    vm: VmId,
    disk: Option<DiskId>,
}

impl VmPath {
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
    pub(crate) fn vm(&self) -> VmId {
        self.vm
    }
    /// The disk; `None` for the folder itself.
    pub(crate) fn disk(&self) -> Option<DiskId> {
        self.disk
    }
    /// The path of the disk or the folder.
    pub(crate) fn to_path_buf(&self) -> PathBuf {
        match self.disk {
            Some(disk) => vm_folder::disk(&self.folder, disk),
            None => self.folder.clone(),
        }
    }
    /// The disks that it names: itself, or all in the folder.
    pub(crate) fn disks(&self) -> io::Result<Vec<DiskId>> {
        match self.disk {
            Some(disk) => Ok(vec![disk]),
            None => vm_folder::disks(&self.folder),
        }
    }
    /// A disk of the same VM.
    pub(crate) fn of_disk(&self, disk: DiskId) -> Self {
        Self {
            disk: Some(disk),
            ..self.clone()
        }
    }
    /// Of `path`, which must belong to this VM.
    pub(crate) fn of(path: PathBuf, vm: VmId) -> Result<Self, BadLocation> {
        let path = Self::try_from(path)?;
        if path.vm == vm {
            Ok(path)
        } else {
            Err(BadLocation::Foreign {
                path: path.to_path_buf().display().to_string(),
                vm,
            })
        }
    }
}

impl TryFrom<PathBuf> for VmPath {
    type Error = BadLocation;
    fn try_from(path: PathBuf) -> Result<Self, BadLocation> {
        let bad = || BadLocation::VmPath(path.display().to_string());
        let plain = path
            .components()
            .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        if !path.is_absolute() || !plain {
            return Err(bad());
        }
        let last = path.file_name().and_then(|n| n.to_str()).ok_or_else(bad)?;
        let disk = vm_folder::disk_id(last);
        let folder = match disk {
            Some(_) => path.parent().ok_or_else(bad)?,
            None => path.as_path(),
        };
        let number = |p: &Path| p.file_name()?.to_str()?.parse::<VmId>().ok();
        let vm = number(folder).ok_or_else(bad)?;
        // …/<system datastore>/<vm>
        folder.parent().and_then(number).ok_or_else(bad)?;
        Ok(Self {
            folder: folder.to_owned(),
            vm,
            disk,
        })
    }
}

impl From<VmPath> for PathBuf {
    fn from(path: VmPath) -> Self {
        path.to_path_buf()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_traced_locations_are_read_without_double_slashes() {
        let location: Location = "node1:/var/lib/one//datastores/101/5/disk.0"
            .parse()
            .unwrap();
        assert_eq!(location.host.as_str(), "node1");
        let path = VmPath::of(location.path, VmId::new(5)).unwrap();
        assert_eq!(path.folder(), Path::new("/var/lib/one/datastores/101/5"));
        assert_eq!(path.disk(), Some(DiskId::new(0)));
        let path = VmPath::try_from(PathBuf::from("/var/lib/one/datastores/101/5")).unwrap();
        assert_eq!((path.vm(), path.disk()), (VmId::new(5), None));
        let disk = path.of_disk(DiskId::new(3)).of_disk(DiskId::new(10));
        assert_eq!(
            (disk.vm(), disk.disk()),
            (VmId::new(5), Some(DiskId::new(10)))
        );
        assert_eq!(disk.disks().unwrap(), [DiskId::new(10)]);
        assert_eq!(disk.to_path_buf(), path.folder().join("disk.10"));
    }

    #[test]
    fn a_host_is_this_one_by_its_own_name_or_as_localhost() {
        let host = |name: &str| name.parse::<HostName>().unwrap();
        let own = nix::unistd::gethostname().unwrap();
        let own = host(&own.to_string_lossy().to_ascii_uppercase());
        let (here, other) = (host("localhost"), host("another.example"));
        assert!(here.is_here() && own.is_here() && !other.is_here());
        assert!(here.is_same(&own) && other.is_same(&other));
        assert!(!here.is_same(&other) && !other.is_same(&own));
        assert!(!other.is_same(&host("a-third.example")));
    }

    #[test]
    fn attack_5_nothing_outside_the_vm_s_own_folder_can_be_named() {
        for bad in [
            "node1",
            "node1:relative",
            "node1:/a/../b",
            "-oProxyCommand=x:/a",
            "-F:/a",
            "-host:/a",
            ":/a",
            "a b:/c",
            "$(id):/a",
        ] {
            assert!(bad.parse::<Location>().is_err(), "{bad}");
        }
        for bad in [
            "/",
            "/etc/passwd",
            "/101/x",
            "/x/5",
            "/101/5/disk.x",
            "/101/5/../6",
            "/101/5/other",
            "101/5",
        ] {
            assert!(VmPath::try_from(PathBuf::from(bad)).is_err(), "{bad}");
        }
        assert!(VmPath::of("/ds/101/6/disk.0".into(), VmId::new(5)).is_err());
    }
}
