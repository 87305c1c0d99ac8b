//! A root file system for one program, in namespaces of its own, and another user.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};
use nix::unistd::{chdir, pivot_root};
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities,
    set_thread_gid, set_thread_groups, set_thread_uid,
};

/// Where it is laid: a folder that every host has, and that this mount namespace needs no more.
const ROOT: &str = "/dev";
/// What of the host a program needs to run.
const PROGRAMS: [&str; 5] = ["usr", "lib", "lib64", "bin", "sbin"];
/// Empty files in place of those that list mounts, without which `resize2fs` gives up.
const NO_MOUNTS: [&str; 2] = ["proc/mounts", "etc/mtab"];
/// `/dev/null` (admin-guide/devices.txt).
const NULL: (u64, u64) = (1, 3);

type Populate = Box<dyn FnOnce(&Path) -> io::Result<()> + Send + Sync>;

/// A user and a group by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// uid
    pub uid: u32,
    /// gid
    pub gid: u32,
}

/// A root file system for one program, and the user that it runs as.
pub struct PrivateRoot {
    user: User,
    populate: Populate,
}

impl fmt::Debug for PrivateRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut root = f.debug_struct("PrivateRoot");
        root.field("user", &self.user).finish_non_exhaustive()
    }
}

impl PrivateRoot {
    /// The root of a program that runs as `user`. `populate` puts into it what the program works on; it
    /// is called by root in the new namespaces, with the folder of the new root and the host's files
    /// still there.
    pub fn new(
        user: User,
        populate: impl FnOnce(&Path) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let populate = Box::new(populate);
        Self { user, populate }
    }

    /// Brings this thread into it for good.
    pub(super) fn enter(self) -> io::Result<()> {
        let user = self.user;
        unshare(
            CloneFlags::CLONE_FS
                | CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWPID
                | CloneFlags::CLONE_NEWNET
                | CloneFlags::CLONE_NEWIPC
                | CloneFlags::CLONE_NEWUTS,
        )?;
        // Of this thread alone, since it has its own now.
        umask(Mode::from_bits_truncate(0o022));
        let root = Path::new(ROOT);
        self.lay(root)?;
        chdir(root)?;
        // The old root lies over the new one at the same place, and goes.
        pivot_root(".", ".")?;
        umount2(".", MntFlags::MNT_DETACH)?;
        chdir("/")?;
        user.assume()
    }

    fn lay(self, root: &Path) -> io::Result<()> {
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        let User { uid, gid } = self.user;
        // The program may make files in it, and not many: they are in memory.
        let options = format!("mode=700,size=1m,nr_inodes=64,uid={uid},gid={gid}");
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        mount(Some("onedock"), root, Some("tmpfs"), flags, Some(&*options))?;
        for name in PROGRAMS {
            let (from, to) = (Path::new("/").join(name), root.join(name));
            match fs::symlink_metadata(&from) {
                Ok(meta) if meta.is_symlink() => symlink(fs::read_link(&from)?, &to)?,
                Ok(meta) if meta.is_dir() => {
                    fs::create_dir(&to)?;
                    show(&from, &to, MsFlags::MS_REC, true)?;
                }
                _ => {}
            }
        }
        for name in ["dev", "etc", "proc"] {
            fs::create_dir(root.join(name))?;
        }
        for name in NO_MOUNTS {
            File::create(root.join(name))?;
        }
        device(&root.join("dev/null"), NULL)?;
        (self.populate)(root)
    }
}

/// Shows a file or folder in the root.
///
/// # Errors
///
/// It is not there, or `to` is not.
pub fn bind(from: &Path, to: &Path, read_only: bool) -> io::Result<()> {
    show(from, to, MsFlags::empty(), read_only)
}

/// With what is mounted beneath it, or without.
fn show(from: &Path, to: &Path, beneath: MsFlags, read_only: bool) -> io::Result<()> {
    let none = None::<&str>;
    mount(Some(from), to, none, MsFlags::MS_BIND | beneath, none)?;
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, read_only);
    Ok(mount(none, to, none, flags, none)?)
}

/// Makes a character device in the root that anybody may open.
///
/// # Errors
///
/// Something is there.
pub fn device(path: &Path, (major, minor): (u64, u64)) -> io::Result<()> {
    let mode = Mode::from_bits_truncate(0o666);
    mknod(path, SFlag::S_IFCHR, mode, makedev(major, minor))?;
    // Past the mask of new files.
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
}

impl User {
    /// Makes this thread the user's, without supplementary groups and capabilities.
    fn assume(self) -> io::Result<()> {
        for capability in CapabilitySet::all().iter() {
            // One that this kernel does not know is none.
            let _ = remove_capability_from_bounding_set(capability);
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        set_thread_groups(&[])?;
        // As long as it is root, both set the real, the effective and the saved one.
        set_thread_gid(gid)?;
        set_thread_uid(uid)?;
        let nothing = CapabilitySet::empty();
        let sets = CapabilitySets {
            effective: nothing,
            permitted: nothing,
            inheritable: nothing,
        };
        Ok(set_capabilities(None, sets)?)
    }
}
