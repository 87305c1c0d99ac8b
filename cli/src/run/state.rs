//! What is played on this machine: a folder for each VM and each image beneath
//! `/var/lib/onedock/run`, in place of `oned`'s database.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Uid;
use onedock::error::{Error, Result};
use onedock::file_step;
use onedock::owner::Owner;
use onedock::secret::random_bytes;
use onedock_common::{DatastoreId, ImageId, VmId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The datastores of the played VMs. No `oned` reaches these numbers.
pub(crate) const IMAGES: DatastoreId = DatastoreId::new(1_000_000);
pub(crate) const SYSTEM: DatastoreId = DatastoreId::new(1_000_001);

/// The first VM's number. No `oned` that runs beside reaches it.
const FIRST_VM: u32 = 1_000_000;

/// An image's number is part of its name in the registry, which other machines may play into
/// too: so it is random, from here on.
const FIRST_IMAGE: u32 = 1_000_000_000;

/// An image that the datastore has registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Image {
    pub(crate) id: ImageId,
    /// Where it came from.
    pub(crate) path: String,
    /// Size and time of change, when it came from a file.
    pub(crate) stamp: Option<String>,
    /// The command in place of the image's.
    pub(crate) dockerrun: Option<String>,
    /// As `stat` answered it, in MB; 0 before.
    pub(crate) size_mb: u64,
    /// SOURCE as `cp` answered it.
    pub(crate) source: String,
    /// FORMAT as `cp` answered it.
    pub(crate) format: String,
}

/// How far a VM has come; between two of them it is the drivers' turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    /// The transfer manager has begun.
    Prolog,
    /// The hypervisor has begun.
    Boot,
    /// `deploy` has answered.
    Deployed,
    /// It is being taken away.
    Epilog,
}

/// A VM that is played.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vm {
    pub(crate) id: VmId,
    pub(crate) name: String,
    pub(crate) stage: Stage,
    /// By their numbers.
    pub(crate) disks: Vec<Disk>,
    /// By their numbers.
    pub(crate) nics: Vec<Nic>,
    /// Whether it has a CONTEXT.
    pub(crate) context: bool,
    /// The drivers that it was played with.
    pub(crate) remotes: PathBuf,
}

/// A disk of a VM that is played.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Disk {
    pub(crate) image: ImageId,
    pub(crate) source: String,
    pub(crate) persistent: bool,
}

/// A NIC of a VM that is played.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nic {
    pub(crate) mac: String,
    pub(crate) ip: Option<String>,
    /// VN_MAD.
    pub(crate) driver: String,
}

/// The folder of all that is played.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: PathBuf,
    owner: Owner,
}

impl Store {
    /// The folder with its parts. The drivers' user reads all of it and writes the datastores.
    pub(crate) fn open(root: &Path, user: &str) -> Result<Self> {
        let root = std::path::absolute(root).map_err(Error::file("find", root))?;
        let me = Uid::effective();
        let own = Owner::Ids(me, nix::unistd::Gid::effective());
        let (owner, drivers) = if me.is_root() {
            (Owner::names("root", user), Owner::names(user, user))
        } else {
            (own.clone(), own)
        };
        for (name, mode, owner) in [
            ("", 0o750, &owner),
            ("vms", 0o750, &owner),
            ("images", 0o750, &owner),
            ("datastores", 0o750, &drivers),
        ] {
            let folder = file_step::Folder {
                path: root.join(name),
                mode,
                owner: owner.clone(),
            };
            onedock::step::Step::apply(&folder)?;
        }
        Ok(Self { root, owner })
    }

    /// Whether anything was ever played here.
    pub(crate) fn exists(root: &Path) -> bool {
        root.join("vms").is_dir()
    }

    /// The file `name` of a VM.
    pub(crate) fn file(&self, vm: VmId, name: &str) -> PathBuf {
        self.folder(vm).join(name)
    }

    fn folder(&self, vm: VmId) -> PathBuf {
        self.root.join("vms").join(vm.to_string())
    }

    /// Where a VM's disks lie.
    pub(crate) fn system_dir(&self, vm: VmId) -> PathBuf {
        let datastore = SYSTEM.to_string();
        self.root
            .join("datastores")
            .join(datastore)
            .join(vm.to_string())
    }

    /// Holds the state: two callers at once get different numbers and register an image once.
    pub(crate) fn lock(&self) -> Result<Flock<fs::File>> {
        let path = self.root.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Error::file("open", &path))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, why)| Error::file("lock", &path)(why.into()))
    }

    /// Every VM, by its number; a folder that holds none yet is left out.
    pub(crate) fn vms(&self) -> Result<Vec<Vm>> {
        self.all("vms", "vm.json")
    }

    /// Every image.
    pub(crate) fn images(&self) -> Result<Vec<Image>> {
        self.all("images", "image.json")
    }

    /// A VM by its number.
    pub(crate) fn vm(&self, id: VmId) -> Result<Vm> {
        let found = self.vms()?.into_iter().find(|vm| vm.id == id);
        found.ok_or_else(|| {
            Error::refused(format!(
                "VM {id} was not played here; `onedock run --list` shows those that were"
            ))
        })
    }

    /// A number for a new VM, and its folder. Called with the state held.
    pub(crate) fn new_vm(&self) -> Result<VmId> {
        let last: Option<u32> = numbers(&self.root.join("vms"))?.into_iter().max();
        let id = VmId::new(last.map_or(FIRST_VM, |last| last.saturating_add(1).max(FIRST_VM)));
        let folder = self.folder(id);
        let step = file_step::Folder {
            path: folder,
            mode: 0o750,
            owner: self.owner.clone(),
        };
        onedock::step::Step::apply(&step)?;
        Ok(id)
    }

    /// A number for a new image.
    pub(crate) fn new_image(&self) -> Result<ImageId> {
        let number = u32::from_le_bytes(random_bytes::<4>()?);
        Ok(ImageId::new(FIRST_IMAGE + number % FIRST_IMAGE))
    }

    /// Keeps a VM as it is now.
    pub(crate) fn keep_vm(&self, vm: &Vm) -> Result<()> {
        self.keep(&self.file(vm.id, "vm.json"), vm)
    }

    /// Keeps an image.
    pub(crate) fn keep_image(&self, image: &Image) -> Result<()> {
        self.keep(&self.image(image.id), image)
    }

    /// Writes a file of a VM that the drivers read.
    pub(crate) fn write(&self, vm: VmId, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.file(vm, name);
        file_step::put(&path, text.as_bytes(), 0o640, &self.owner)?;
        Ok(path)
    }

    /// Forgets a VM.
    pub(crate) fn forget_vm(&self, id: VmId) -> Result<()> {
        remove(&self.folder(id))
    }

    /// Forgets an image.
    pub(crate) fn forget_image(&self, id: ImageId) -> Result<()> {
        remove(&self.root.join("images").join(id.to_string()))
    }

    fn image(&self, id: ImageId) -> PathBuf {
        self.root
            .join("images")
            .join(id.to_string())
            .join("image.json")
    }

    fn keep(&self, path: &Path, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|e| Error::refused(format!("{} cannot be written: {e}", path.display())))?;
        file_step::put(path, (text + "\n").as_bytes(), 0o640, &self.owner)
    }

    fn all<T: DeserializeOwned>(&self, kind: &str, name: &str) -> Result<Vec<T>> {
        let folder = self.root.join(kind);
        let mut found = Vec::new();
        let mut ids: Vec<u32> = numbers(&folder)?;
        ids.sort_unstable();
        for id in ids {
            let path = folder.join(id.to_string()).join(name);
            let text = match fs::read_to_string(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(Error::file("read", &path))?,
            };
            found.push(serde_json::from_str(&text).map_err(|e| {
                Error::refused(format!(
                    "{} is not what this program wrote: {e}",
                    path.display()
                ))
            })?);
        }
        Ok(found)
    }
}

fn numbers<T: FromStr>(folder: &Path) -> Result<Vec<T>> {
    let entries = fs::read_dir(folder).map_err(Error::file("read", folder))?;
    Ok(entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect())
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::file("remove", folder)),
    }
}
