//! A container's whole tree: its layer over those below, mounted read-only where nobody else sees
//! it, on a thread that lives in a mount namespace of its own and ends with the work.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::thread;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs};
use onedock_common::ContainerId;
use onedock_common::state::paths::Paths;

use crate::layers::error::PackError;
use crate::layers::layer::{self, Layer};

/// Works on the root of the merged tree.
pub(super) fn within<T: Send>(
    paths: &Paths,
    container: &ContainerId,
    work: impl FnOnce(&Layer, OwnedFd) -> Result<T, PackError> + Send,
) -> Result<T, PackError> {
    thread::scope(|scope| {
        let inside = thread::Builder::new().spawn_scoped(scope, || {
            unshare_mounts().map_err(PackError::Namespace)?;
            // Opened in here: the kernel lays only what is mounted in the caller's namespace.
            let layer = Layer::of(paths, container)?;
            let root = lay(&layer)?;
            work(&layer, root)
        });
        match inside.map_err(PackError::Thread)?.join() {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn unshare_mounts() -> Result<(), Errno> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
}

/// Lays the layers over each other, on the container's own.
fn lay(layer: &Layer) -> Result<OwnedFd, PackError> {
    let target = format!("/proc/self/fd/{}", layer.upper().as_raw_fd());
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    layer.mount(Path::new(&target), false, flags)?;
    let failed = |errno| PackError::Mount {
        path: layer.path().to_owned(),
        errno,
    };
    let root = layer::open(layer.path())?;
    match fstatfs(&root).map_err(failed)?.filesystem_type() {
        OVERLAYFS_SUPER_MAGIC => Ok(root),
        _ => Err(failed(Errno::ESTALE)),
    }
}
