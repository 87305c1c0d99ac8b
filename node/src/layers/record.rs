//! Of which folders the tree of a container is laid: its own layer and those below.
//!
//! The mount of its root tells it on every engine, with the graph driver overlay2 as with
//! containerd's snapshots. The runtime records it at `create`, when the engine has mounted the root;
//! it holds while the container is there, whether it runs or not, also over a reboot. Root writes the
//! record, and nothing else than what is recorded is ever packed, bounded or shown.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use onedock_common::ContainerId;
use onedock_common::state::files;
use onedock_common::state::paths::Paths;
use serde::{Deserialize, Serialize};

use crate::layers::ids::Ids;
use crate::{mountinfo, state_folder};

const LIMIT: u64 = 256 * 1024;

/// The folders of one container's tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LayerRecord {
    /// What the container has changed.
    pub(super) upper: PathBuf,
    /// The kernel's own folder beside it.
    pub(super) work: PathBuf,
    /// The engine's layer beneath it, with the mount points of its files in /etc: none of the
    /// container's.
    pub(super) engine: Option<PathBuf>,
    /// The layers of the image, the nearest first.
    pub(super) lower: Vec<PathBuf>,
    /// Which folder `upper` is: another one under its name is another container's.
    identity: Identity,
    /// The ids of a user namespace.
    pub(super) ids: Ids,
}

/// What tells a folder from a later one at the same place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    inode: u64,
    /// Nanoseconds since 1970, where the file system keeps it.
    born: Option<u128>,
}

impl Identity {
    pub(super) fn of(folder: &OwnedFd) -> io::Result<Self> {
        let meta = File::from(folder.as_fd().try_clone_to_owned()?).metadata()?;
        let born = meta.created().ok();
        let born = born.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Ok(Self {
            inode: meta.ino(),
            born: born.map(|since| since.as_nanos()),
        })
    }
}

impl LayerRecord {
    /// What the mount at `root` is laid of; `None` where it is no overlay with a layer of its own.
    ///
    /// # Errors
    ///
    /// The table of mounts cannot be read, or one of the folders is not there.
    pub(crate) fn of_mount(root: &Path, ids: Ids) -> io::Result<Option<Self>> {
        let root = fs::canonicalize(root)?;
        let table = mountinfo::of("thread-self")?;
        let last = table.into_iter().rev().find(|entry| entry.place == root);
        match last {
            Some(entry) if entry.kind == "overlay" => Self::of_options(&root, &entry.options, ids),
            _ => Ok(None),
        }
    }

    fn of_options(root: &Path, options: &[u8], ids: Ids) -> io::Result<Option<Self>> {
        let Some(Options { upper, work, lower }) = Options::parse(options) else {
            return Ok(None);
        };
        // Where the options would be longer than a page, the engine writes them from the folder of
        // all layers on: overlay2 all of them, containerd the lower ones.
        let storage = if upper.is_absolute() {
            upper.parent().and_then(Path::parent)
        } else {
            root.parent().and_then(Path::parent)
        };
        let storage = storage.unwrap_or(Path::new("/"));
        let whole = |path: &PathBuf| fs::canonicalize(storage.join(path));
        let upper = whole(&upper)?;
        let mut lower = lower.iter().map(whole).collect::<io::Result<Vec<_>>>()?;
        let engine = lower
            .first()
            .is_some_and(|first| first.join(".dockerenv").symlink_metadata().is_ok())
            .then(|| lower.remove(0));
        Ok(Some(Self {
            identity: Identity::of(&File::open(&upper)?.into())?,
            work: whole(&work)?,
            upper,
            engine,
            lower,
            ids,
        }))
    }

    /// Whether this is still the folder that was recorded.
    pub(super) fn is(&self, upper: &OwnedFd) -> io::Result<bool> {
        Ok(Identity::of(upper)? == self.identity)
    }

    /// Writes the record of `container`, unless it is there already.
    pub(crate) fn write(&self, paths: &Paths, container: &ContainerId) -> io::Result<()> {
        if Self::read(paths, container).is_ok_and(|old| old.as_ref() == Some(self)) {
            return Ok(());
        }
        let folder = paths.layers_dir();
        state_folder::make(&folder)?;
        // The driver sees of which containers there is a record.
        fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
        files::replace(
            &paths.layer_record(container),
            &serde_json::to_vec(self)?,
            0o600,
        )
    }

    /// Reads the record of `container`, if there is one.
    pub(crate) fn read(paths: &Paths, container: &ContainerId) -> io::Result<Option<Self>> {
        match files::read_bounded(&paths.layer_record(container), LIMIT) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// Removes the record of a container whose layer is gone; one that is there keeps it.
///
/// # Errors
///
/// The record cannot be removed.
pub fn forget(paths: &Paths, container: &ContainerId) -> io::Result<()> {
    let there = match LayerRecord::read(paths, container) {
        Ok(None) => return Ok(()),
        Ok(Some(record)) => record.upper.exists(),
        Err(_) => false,
    };
    if there {
        return Ok(());
    }
    files::remove_with_leftovers(&paths.layer_record(container))
}

/// What overlayfs says of a mount (its `show_options`).
#[derive(Debug, PartialEq, Eq)]
struct Options {
    upper: PathBuf,
    work: PathBuf,
    lower: Vec<PathBuf>,
}

impl Options {
    /// `None` for a mount without a layer of its own.
    fn parse(options: &[u8]) -> Option<Self> {
        let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(mountinfo::decoded(bytes)));
        let (mut upper, mut work, mut lower) = (None, None, Vec::new());
        for option in options.split(|b| *b == b',') {
            let at = option.iter().position(|b| *b == b'=').unwrap_or(0);
            let (name, value) = option.split_at(at);
            let value = value.get(1..).unwrap_or_default();
            match name {
                b"upperdir" => upper = Some(path(value)),
                b"workdir" => work = Some(path(value)),
                b"lowerdir" => lower.extend(value.split(|b| *b == b':').map(path)),
                // One option a layer, as newer kernels show those that were given so.
                b"lowerdir+" => lower.push(path(value)),
                // Layers that only hold data: an image cannot carry them.
                b"datadir+" => return None,
                _ => {}
            }
        }
        Some(Self {
            upper: upper?,
            work: work?,
            lower,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_read_as_each_engine_and_kernel_writes_them() {
        let of_overlay2 = b"rw,lowerdir=/d/overlay2/l/AB:/d/overlay2/l/CD,upperdir=/d/overlay2/x/diff,workdir=/d/overlay2/x/work,xino=off";
        let of_new_kernel =
            b"rw,lowerdir+=/s/2/fs,lowerdir+=/s/1/fs,upperdir=/s/3/a\\054b,workdir=/s/3/work,uuid=on";
        let read = |options: &[u8]| Options::parse(options).unwrap();
        let overlay2 = read(of_overlay2);
        assert_eq!(overlay2.upper, Path::new("/d/overlay2/x/diff"));
        assert_eq!(overlay2.work, Path::new("/d/overlay2/x/work"));
        let links = ["/d/overlay2/l/AB", "/d/overlay2/l/CD"].map(PathBuf::from);
        assert_eq!(overlay2.lower, links);
        let new_kernel = read(of_new_kernel);
        assert_eq!(new_kernel.upper, Path::new("/s/3/a,b"));
        assert_eq!(new_kernel.lower, ["/s/2/fs", "/s/1/fs"].map(PathBuf::from));
        for other in [
            &b"rw,lowerdir=/a:/b"[..],
            b"rw,lowerdir=/a::/d,datadir+=/d,upperdir=/u,workdir=/w",
            b"rw",
            b"",
        ] {
            assert_eq!(Options::parse(other), None);
        }
    }

    /// `(root of the container, options, where the storage is)`
    fn storage(relative: bool) -> (tempfile::TempDir, PathBuf, String) {
        let dir = tempfile::tempdir().unwrap();
        let all = fs::canonicalize(dir.path()).unwrap().join("overlay2");
        for path in ["x/diff", "x/work", "x/merged", "x-init/diff", "a/diff", "l"] {
            fs::create_dir_all(all.join(path)).unwrap();
        }
        fs::write(all.join("x-init/diff/.dockerenv"), "").unwrap();
        for (name, layer) in [("AB", "x-init"), ("CD", "a")] {
            std::os::unix::fs::symlink(format!("../{layer}/diff"), all.join("l").join(name))
                .unwrap();
        }
        let from = if relative {
            String::new()
        } else {
            format!("{}/", all.display())
        };
        let options =
            format!("rw,lowerdir={from}l/AB:{from}l/CD,upperdir={from}x/diff,workdir={from}x/work");
        (dir, all.join("x/merged"), options)
    }

    fn id() -> ContainerId {
        "ab".repeat(32).parse().unwrap()
    }

    #[test]
    fn the_engines_own_layer_is_told_from_those_of_the_image() {
        for relative in [false, true] {
            let (_dir, root, options) = storage(relative);
            let ids = Ids::default();
            let record = LayerRecord::of_options(&root, options.as_bytes(), ids).unwrap();
            let record = record.unwrap();
            let all = root.parent().unwrap().parent().unwrap();
            assert_eq!(record.upper, all.join("x/diff"));
            assert_eq!(record.work, all.join("x/work"));
            assert_eq!(record.engine, Some(all.join("x-init/diff")));
            assert_eq!(record.lower, [all.join("a/diff")]);
        }
        let (_dir, root, options) = storage(false);
        fs::remove_file(root.join("../../x-init/diff/.dockerenv")).unwrap();
        let record = LayerRecord::of_options(&root, options.as_bytes(), Ids::default());
        let record = record.unwrap().unwrap();
        assert_eq!((record.engine, record.lower.len()), (None, 2));
    }

    /// containerd writes the lower layers from their common folder on, the upper one whole.
    #[test]
    fn lower_layers_alone_may_be_written_from_the_folder_of_all() {
        let dir = tempfile::tempdir().unwrap();
        let all = fs::canonicalize(dir.path()).unwrap();
        for path in ["7/fs", "7/work", "6/fs", "5/fs"] {
            fs::create_dir_all(all.join(path)).unwrap();
        }
        let options = format!(
            "rw,lowerdir=6/fs:5/fs,upperdir={0}/7/fs,workdir={0}/7/work",
            all.display()
        );
        let root = Path::new("/var/lib/docker/rootfs/overlayfs/x");
        let record = LayerRecord::of_options(root, options.as_bytes(), Ids::default());
        let lower = record.unwrap().unwrap().lower;
        assert_eq!(lower, [all.join("6/fs"), all.join("5/fs")]);
        let gone = options.replace("5/fs", "4/fs");
        assert!(LayerRecord::of_options(root, gone.as_bytes(), Ids::default()).is_err());
    }

    #[test]
    fn a_record_holds_for_its_own_folder_and_goes_with_it() {
        let (dir, root, options) = storage(false);
        let paths = Paths::at(dir.path().join("state"));
        let record = LayerRecord::of_options(&root, options.as_bytes(), Ids::default());
        let record = record.unwrap().unwrap();
        assert_eq!(LayerRecord::read(&paths, &id()).unwrap(), None);
        forget(&paths, &id()).unwrap();
        record.write(&paths, &id()).unwrap();
        assert_eq!(
            LayerRecord::read(&paths, &id()).unwrap().as_ref(),
            Some(&record)
        );
        let mode = |path: PathBuf| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(paths.layers_dir()), 0o755);
        assert_eq!(mode(paths.layer_record(&id())), 0o600);
        // Nobody else may have made the folder.
        fs::set_permissions(paths.layers_dir(), Permissions::from_mode(0o777)).unwrap();
        let mut other = record.clone();
        other.engine = None;
        assert!(other.write(&paths, &id()).is_err());
        fs::set_permissions(paths.layers_dir(), Permissions::from_mode(0o755)).unwrap();

        let open = |path: &Path| OwnedFd::from(File::open(path).unwrap());
        assert!(record.is(&open(&record.upper)).unwrap());
        forget(&paths, &id()).unwrap();
        assert!(paths.layer_record(&id()).exists(), "the layer is there");
        fs::rename(&record.upper, root.join("../former")).unwrap();
        fs::create_dir(&record.upper).unwrap();
        assert!(!record.is(&open(&record.upper)).unwrap());
        fs::remove_dir(&record.upper).unwrap();
        forget(&paths, &id()).unwrap();
        assert!(!paths.layer_record(&id()).exists());
    }
}
