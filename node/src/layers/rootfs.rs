//! The container's root file system, seen from outside. What lies in it is hostile: every step
//! is resolved beneath the root by the kernel (`openat2`), nothing is ever written by path.

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use rustix::fs::{XattrFlags, fgetxattr_query, fsetxattr};
use thiserror::Error;

/// Marks a mount point that was made here, so that one which a power failure left behind is
/// known again. Only root can set it, and a commit of the layer does not carry it.
pub(super) const MARK: &str = "trusted.onedock.stub";

/// Why something in the root was not touched.
#[derive(Debug, Error)]
pub enum RootError {
    /// The root itself.
    #[error("the container's root {path} cannot be opened: {errno}")]
    Open {
        /// Where the engine says it is.
        path: PathBuf,
        /// What the kernel answered.
        errno: Errno,
    },
    /// A place where a folder must be.
    #[error("{path} in the image is a link or a file, not a folder; the VM needs it as one")]
    NotAFolder {
        /// The place, as seen in the container.
        path: PathBuf,
    },
    /// Anything else.
    #[error("{path} in the container's root cannot be {verb}: {errno}")]
    Failed {
        /// The place, as seen in the container.
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// What the kernel answered.
        errno: Errno,
    },
}

/// An open root file system.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    owner: (u32, u32),
}

/// What a mount point at the top of the root turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountPoint {
    /// The image's own folder.
    OfTheImage,
    /// A folder that was made here, now or earlier, and has to go again.
    Stub,
}

/// What is in the place of a file that is to be mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilePlace {
    /// A file, a link that the runtime resolves beneath the root, or nothing.
    Usable,
    /// A folder with something in it, or one that a link names.
    Folder,
}

impl Root {
    /// Opens the root; `owner` are the host's ids of the container's root user.
    pub fn open(path: &Path, owner: (u32, u32)) -> Result<Self, RootError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, owner }),
            Err(errno) => Err(RootError::Open {
                path: path.to_owned(),
                errno,
            }),
        }
    }

    /// The host's ids of the container's root user.
    pub(crate) fn owner(&self) -> (u32, u32) {
        self.owner
    }

    /// Makes sure that `/<name>` is a real folder, which is made when the image lacks it. A
    /// link or a file there is refused (attack 26): the mount would land where the image says.
    pub fn mount_point(&self, name: &str) -> Result<MountPoint, RootError> {
        let shown = Path::new("/").join(name);
        let failed = |verb| {
            move |errno| RootError::Failed {
                path: Path::new("/").join(name),
                verb,
                errno,
            }
        };
        match self.top(name) {
            Ok(folder) if has_mark(&folder) => Ok(MountPoint::Stub),
            Ok(_) => Ok(MountPoint::OfTheImage),
            Err(Errno::ENOENT) => {
                let mode = Mode::from_bits_truncate(0o755);
                mkdirat(&self.fd, name, mode).map_err(failed("made"))?;
                let folder = self.top(name).map_err(failed("opened"))?;
                self.own(&folder).map_err(failed("given to root"))?;
                set_mark(&folder);
                Ok(MountPoint::Stub)
            }
            Err(Errno::ELOOP | Errno::ENOTDIR) => Err(RootError::NotAFolder { path: shown }),
            Err(errno) => Err(failed("opened")(errno)),
        }
    }

    /// Refuses a root whose `/dev`, `/proc` or `/sys` is a link or a file: runtimes have followed such
    /// a link to the host (CVE-2026-41579, CVE-2026-47766). One that is not there is made by them.
    pub fn check_kernel_folders(&self) -> Result<(), RootError> {
        for name in ["dev", "proc", "sys"] {
            if let Err(Errno::ELOOP | Errno::ENOTDIR) = self.top(name) {
                let path = Path::new("/").join(name);
                return Err(RootError::NotAFolder { path });
            }
        }
        Ok(())
    }

    /// Removes the folder that [`Self::mount_point`] made, if it is there and empty.
    pub fn remove_stub(&self, name: &str) -> Result<(), RootError> {
        match unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ENOTEMPTY) => Ok(()),
            Err(errno) => Err(RootError::Failed {
                path: Path::new("/").join(name),
                verb: "removed",
                errno,
            }),
        }
    }

    /// Removes a folder that an earlier start made here and could not remove, if there is one.
    pub fn remove_marked_stub(&self, name: &str) -> Result<(), RootError> {
        match self.top(name) {
            Ok(folder) if has_mark(&folder) => self.remove_stub(name),
            _ => Ok(()),
        }
    }

    /// Makes the folder of an image's VOLUME, with its parents, where the image lacks it. Links
    /// of the image are followed as the container itself would follow them.
    pub fn folder(&self, path: &Path) -> Result<(), RootError> {
        self.make(path, |_| {}).map(drop)
    }

    /// Looks at the place where a file is to be mounted. An empty folder there, which nothing is
    /// lost with, is removed; any other folder stays.
    pub fn make_way_for_file(&self, path: &Path) -> Result<FilePlace, RootError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(FilePlace::Usable);
        };
        let relative = |path: &Path| Path::new(".").join(path.strip_prefix("/").unwrap_or(path));
        if self.inside(&relative(path)).is_err() {
            return Ok(FilePlace::Usable);
        }
        let Ok(parent) = self.inside(&relative(parent)) else {
            return Ok(FilePlace::Usable);
        };
        match unlinkat(&parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) => Ok(FilePlace::Usable),
            // ENOTDIR: it is a link to one.
            Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => Ok(FilePlace::Folder),
            Err(errno) => Err(RootError::Failed {
                path: path.to_owned(),
                verb: "removed",
                errno,
            }),
        }
    }

    fn make(&self, path: &Path, made: impl Fn(&OwnedFd)) -> Result<OwnedFd, RootError> {
        let failed = |verb: &'static str| {
            move |errno| match errno {
                Errno::ENOTDIR | Errno::ELOOP | Errno::EEXIST => RootError::NotAFolder {
                    path: path.to_owned(),
                },
                errno => RootError::Failed {
                    path: path.to_owned(),
                    verb,
                    errno,
                },
            }
        };
        let mut done = PathBuf::from(".");
        let mut parent = self
            .fd
            .try_clone()
            .map_err(|e| failed("opened")(Errno::from_raw(e.raw_os_error().unwrap_or_default())))?;
        for component in path.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            done.push(name);
            parent = match self.inside(&done) {
                Ok(folder) => folder,
                Err(Errno::ENOENT) => {
                    let mode = Mode::from_bits_truncate(0o755);
                    mkdirat(&parent, name, mode).map_err(failed("made"))?;
                    let folder = self.inside(&done).map_err(failed("opened"))?;
                    self.own(&folder).map_err(failed("given to root"))?;
                    made(&folder);
                    folder
                }
                Err(errno) => return Err(failed("opened")(errno)),
            };
        }
        Ok(parent)
    }

    /// The root of the namespace in which this thread lives.
    pub fn of_this_thread(owner: (u32, u32)) -> Result<Self, RootError> {
        Self::open(Path::new("/"), owner)
    }

    /// Opens the folder at `path` to mount on it; what is missing is made and marked, so that
    /// [`Self::remove_target`] knows it. Links are followed as the container itself would.
    pub fn target(&self, path: &Path) -> Result<OwnedFd, RootError> {
        self.make(path, set_mark)
    }

    /// Removes the folders that [`Self::target`] made on the way to `path`, as far as they are
    /// empty.
    pub fn remove_target(&self, path: &Path) {
        for path in path.ancestors() {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return;
            };
            let Ok(folder) = self.inside(path.strip_prefix("/").unwrap_or(path)) else {
                // A folder above it may be ours all the same.
                continue;
            };
            let parent = parent.strip_prefix("/").unwrap_or(parent);
            let parent = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            let Ok(parent) = self.inside(parent) else {
                return;
            };
            if !has_mark(&folder) || unlinkat(&parent, name, UnlinkatFlags::RemoveDir).is_err() {
                return;
            }
        }
    }

    /// The folder `/dev` itself.
    pub fn dev(&self) -> nix::Result<OwnedFd> {
        self.top("dev")
    }

    /// A folder at the top, itself and not what a link names.
    fn top(&self, name: &str) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        openat2(&self.fd, name, how)
    }

    /// A folder anywhere, links resolved as if the root were `/`.
    fn inside(&self, path: &Path) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&self.fd, path, how)
    }

    fn own(&self, folder: &OwnedFd) -> nix::Result<()> {
        let (uid, gid) = self.owner;
        fchown(folder, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
    }
}

fn has_mark(folder: &OwnedFd) -> bool {
    fgetxattr_query(folder, MARK).is_ok()
}

/// Without the mark (a file system that has none) the record alone tells what to remove.
fn set_mark(folder: &OwnedFd) {
    let _ = fsetxattr(folder, MARK, b"1", XattrFlags::empty());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, PathBuf, Root) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root");
        fs::create_dir(&path).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        let ids = (
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        );
        let root = Root::open(&path, ids).unwrap();
        (dir, path, root)
    }

    #[test]
    fn a_mount_point_that_the_image_lacks_is_made_known_again_and_removed() {
        let (_dir, path, root) = root();
        assert_eq!(root.mount_point("context").unwrap(), MountPoint::Stub);
        assert!(path.join("context").is_dir());
        if nix::unistd::geteuid().is_root() {
            assert_eq!(root.mount_point("context").unwrap(), MountPoint::Stub);
        }
        root.remove_stub("context").unwrap();
        root.remove_stub("context").unwrap();
        assert!(!path.join("context").exists());

        fs::create_dir(path.join("mnt")).unwrap();
        assert_eq!(root.mount_point("mnt").unwrap(), MountPoint::OfTheImage);
    }

    #[test]
    fn only_an_empty_folder_makes_way_for_a_file_and_nothing_outside_is_touched() {
        let (dir, path, root) = root();
        let etc = path.join("etc");
        fs::create_dir_all(etc.join("empty")).unwrap();
        fs::create_dir_all(etc.join("full/sub")).unwrap();
        fs::create_dir_all(etc.join("target")).unwrap();
        fs::write(etc.join("file"), "x").unwrap();
        symlink("target", etc.join("to_folder")).unwrap();
        symlink("/nowhere", etc.join("to_nowhere")).unwrap();
        symlink("loop", etc.join("loop")).unwrap();
        symlink(dir.path().join("outside"), etc.join("out")).unwrap();
        symlink(dir.path(), path.join("up")).unwrap();
        let place = |at: &str| root.make_way_for_file(Path::new(at)).unwrap();
        for at in ["empty", "file", "to_nowhere", "loop", "absent", "out"] {
            assert_eq!(place(&format!("/etc/{at}")), FilePlace::Usable, "{at}");
        }
        for at in ["full", "to_folder"] {
            assert_eq!(place(&format!("/etc/{at}")), FilePlace::Folder, "{at}");
        }
        assert_eq!(place("/up/outside"), FilePlace::Usable);
        assert_eq!(place("/none/at/all"), FilePlace::Usable);
        assert!(!etc.join("empty").exists());
        assert!(etc.join("full/sub").is_dir() && etc.join("target").is_dir());
        for link in ["to_folder", "to_nowhere", "loop", "out"] {
            assert!(etc.join(link).is_symlink(), "{link}");
        }
        assert!(dir.path().join("outside").is_dir());
    }

    #[test]
    fn attack_26_a_link_or_a_file_is_no_mount_point() {
        let (dir, path, root) = root();
        symlink(dir.path().join("outside"), path.join("context")).unwrap();
        symlink("../outside", path.join("mnt")).unwrap();
        fs::write(path.join("file"), "").unwrap();
        for name in ["context", "mnt", "file"] {
            assert!(
                matches!(root.mount_point(name), Err(RootError::NotAFolder { .. })),
                "{name}"
            );
        }
    }

    #[test]
    fn attack_26_a_link_or_a_file_in_place_of_a_folder_of_the_kernel_is_refused() {
        let (dir, path, root) = root();
        root.check_kernel_folders().unwrap();
        for name in ["dev", "proc", "sys"] {
            let place = path.join(name);
            symlink(dir.path().join("outside"), &place).unwrap();
            let error = root.check_kernel_folders().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("/{name} in the image")),
                "{error}"
            );
            fs::remove_file(&place).unwrap();
            fs::write(&place, "").unwrap();
            assert!(root.check_kernel_folders().is_err(), "{name}");
            fs::remove_file(&place).unwrap();
            fs::create_dir(&place).unwrap();
            root.check_kernel_folders().unwrap();
        }
    }

    #[test]
    fn attack_26_a_volumes_folder_is_made_beneath_the_root_whatever_links_say() {
        let (dir, path, root) = root();
        symlink("/srv", path.join("data")).unwrap();
        fs::create_dir(path.join("srv")).unwrap();
        symlink(dir.path().join("outside"), path.join("evil")).unwrap();
        root.folder(Path::new("/data/a/b")).unwrap();
        assert!(path.join("srv/a/b").is_dir());
        root.folder(Path::new("/data/a/b")).unwrap();
        assert!(root.folder(Path::new("/evil/x")).is_err());
        root.folder(Path::new("/../../up")).unwrap();
        assert!(path.join("up").is_dir());
        assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
