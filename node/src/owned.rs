//! What root opens for the drivers: files and folders of their own user, and nothing else. Without this
//! their line in sudoers would show a VM any file of the host (attack 49).

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{FsType, fstatfs};
use onedock_common::process::confined::User;
use onedock_common::state::paths::Paths;
use thiserror::Error;

/// File systems of the kernel's own (linux/magic.h): proc, sysfs, cgroup, cgroup2, devpts, mqueue,
/// debugfs, securityfs, bpf.
pub(crate) const KERNELS: [FsType; 9] = [
    FsType(0x9fa0),
    FsType(0x6265_6572),
    FsType(0x0027_e0eb),
    FsType(0x6367_7270),
    FsType(0x1cd1),
    FsType(0x1980_0202),
    FsType(0x6462_6720),
    FsType(0x7363_6673),
    FsType(0xcafe_4a11),
];

/// Why something was not opened.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NotOpened {
    /// The system refused.
    #[error("{0}")]
    System(#[from] Errno),
    /// Somebody else's, or the kernel's.
    #[error(
        "it belongs to user {0} or to the kernel; give it to the user of the drivers (oneadmin), to whom every disk belongs"
    )]
    Foreign(u32),
    /// A device, a pipe, a folder in place of a file.
    #[error("it is not a {0}")]
    Kind(&'static str),
}

/// The user of the drivers: whom `onedock setup node` gave the state folder to.
pub(crate) fn user() -> io::Result<User> {
    let meta = fs::metadata(Paths::system().state())?;
    let (uid, gid) = (meta.uid(), meta.gid());
    Ok(User { uid, gid })
}

fn owner() -> Result<u32, NotOpened> {
    match user() {
        Ok(user) => Ok(user.uid),
        Err(e) => Err(Errno::from_raw(e.raw_os_error().unwrap_or_default()).into()),
    }
}

/// Whether a file is there that only root can write; the reason when not.
pub(crate) fn is_roots(path: &Path) -> Result<(), &'static str> {
    let meta = fs::metadata(path).map_err(|_| "there is no such file")?;
    if meta.uid() != 0 || meta.mode() & 0o022 != 0 {
        return Err("others than root can write it");
    }
    Ok(())
}

/// Opens a file of the drivers' user; links are followed, because stock datastores link to images.
pub(crate) fn file(path: &Path, read_only: bool) -> Result<OwnedFd, NotOpened> {
    open(path, read_only, owner()?)
}

fn open(path: &Path, read_only: bool, owner: u32) -> Result<OwnedFd, NotOpened> {
    let access = match read_only {
        true => OFlag::O_RDONLY,
        false => OFlag::O_RDWR,
    };
    // What it is, is known before it is opened: a fifo would wait, and a device might act.
    let found = find(path, (SFlag::S_IFREG, "file"), owner)?;
    let same = by_descriptor(&found);
    let flags = access | OFlag::O_CLOEXEC;
    Ok(openat(AT_FDCWD, &same, flags, Mode::empty())?)
}

/// Opens a folder of the drivers' user, to be mounted by its descriptor ([`by_descriptor`]).
pub(crate) fn folder(path: &Path) -> Result<OwnedFd, NotOpened> {
    open_folder(path, owner()?)
}

fn open_folder(path: &Path, owner: u32) -> Result<OwnedFd, NotOpened> {
    find(path, (SFlag::S_IFDIR, "folder"), owner)
}

/// What lies at a path, if it is of this kind and `owner`'s.
fn find(
    path: &Path,
    (kind, name): (SFlag, &'static str),
    owner: u32,
) -> Result<OwnedFd, NotOpened> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let found = openat(AT_FDCWD, path, flags, Mode::empty())?;
    let stat = fstat(&found)?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != kind {
        return Err(NotOpened::Kind(name));
    }
    // A process of that user has files and folders in /proc that lead anywhere.
    if stat.st_uid != owner || KERNELS.contains(&fstatfs(&found)?.filesystem_type()) {
        return Err(NotOpened::Foreign(stat.st_uid));
    }
    Ok(found)
}

/// The path of what a descriptor has open, whatever lies at its former path now.
pub(crate) fn by_descriptor(open: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", open.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    const OWNER: u32 = 4711;

    #[test]
    fn attack_49_only_files_and_folders_of_the_drivers_user_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("disk.1"), "own").unwrap();
        fs::create_dir(at("folder")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        for name in ["disk.1", "folder", "fifo"] {
            chown(at(name), Some(OWNER), Some(OWNER)).unwrap();
        }
        fs::write(at("root's"), "shadow").unwrap();
        symlink(at("disk.1"), at("link")).unwrap();
        symlink(at("root's"), at("bad-link")).unwrap();
        for name in ["disk.1", "link"] {
            for read_only in [true, false] {
                assert!(open(&at(name), read_only, OWNER).is_ok(), "{name}");
            }
        }
        let refused = |path: &Path| open(path, true, OWNER).unwrap_err();
        for path in [at("root's"), at("bad-link"), "/etc/shadow".into()] {
            let foreign = matches!(refused(&path), NotOpened::Foreign(0));
            assert!(foreign, "{}", path.display());
        }
        for path in [at("folder"), at("fifo"), "/dev/null".into()] {
            assert_eq!(
                refused(&path),
                NotOpened::Kind("file"),
                "{}",
                path.display()
            );
        }
        assert_eq!(refused(&at("nothing")), NotOpened::System(Errno::ENOENT));

        assert!(open_folder(&at("folder"), OWNER).is_ok());
        let refused = |path: &Path| open_folder(path, OWNER).unwrap_err();
        assert_eq!(refused(Path::new("/root")), NotOpened::Foreign(0));
        assert_eq!(refused(&at("disk.1")), NotOpened::Kind("folder"));
        // What root's own processes have in /proc belongs to root, and is no folder of a VM.
        let own = nix::unistd::getuid().as_raw();
        for path in ["/proc/self", "/proc/self/fd"] {
            let error = open_folder(Path::new(path), own).unwrap_err();
            assert_eq!(error, NotOpened::Foreign(own), "{path}");
        }
        let error = open(Path::new("/proc/self/environ"), true, own).unwrap_err();
        assert_eq!(error, NotOpened::Foreign(own));
    }
}
