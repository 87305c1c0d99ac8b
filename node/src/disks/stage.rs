//! A place to mount in that nobody else sees and that nothing outlives: a thread with a mount
//! namespace of its own, in which `/dev` is an empty file system that allows devices. (`/run` may
//! not, and what is mounted from a node there is shown in the container under that name.)

use std::fs;
use std::io;
use std::path::Path;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

/// The folder of nodes.
pub(super) const DEV: &str = "/dev";
/// Where something is mounted before it goes to its place.
pub(super) const MOUNT: &str = "/dev/.mount";

/// Works there.
pub(super) fn within<T: Send, E: Send + From<io::Error>>(
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    thread::scope(|scope| {
        let stage = thread::Builder::new().spawn_scoped(scope, || {
            enter()?;
            work()
        })?;
        match stage.join() {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn enter() -> io::Result<()> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("dev"), DEV, Some("tmpfs"), flags, Some("mode=700"))?;
    // Programs that are started from here need it.
    node(&Path::new(DEV).join("null"), (1, 3))?;
    fs::create_dir(MOUNT)
}

/// Makes the node of a character device.
pub(super) fn node(path: &Path, (major, minor): (u64, u64)) -> io::Result<()> {
    let mode = Mode::from_bits_truncate(0o666);
    Ok(mknod(path, SFlag::S_IFCHR, mode, makedev(major, minor))?)
}
