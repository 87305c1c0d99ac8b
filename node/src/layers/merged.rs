//! A container's whole tree: its layer over those below, mounted read-only where nobody else sees
//! it, on a thread that lives in a mount namespace of its own and ends with the work.

use std::fmt::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, ResolveFlag};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs};

use crate::layers::error::PackError;
use crate::layers::layer::{self, Layer};

/// Works on the root of the merged tree.
pub(super) fn within<T: Send>(
    path: &Path,
    work: impl FnOnce(&Layer, OwnedFd) -> Result<T, PackError> + Send,
) -> Result<T, PackError> {
    thread::scope(|scope| {
        let inside = thread::Builder::new().spawn_scoped(scope, || {
            // Opened in here: the kernel lays only what is mounted in the caller's namespace.
            let failed = |errno| PackError::Mount {
                path: path.to_owned(),
                errno,
            };
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).map_err(failed)?;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).map_err(failed)?;
            let layer = Layer::open(path)?;
            let root = lay(&layer)?;
            work(&layer, root)
        });
        match inside.map_err(PackError::Thread)?.join() {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Lays the layers over each other, on the layer's own folder.
fn lay(layer: &Layer) -> Result<OwnedFd, PackError> {
    let failed = |errno| PackError::Mount {
        path: layer.path().to_owned(),
        errno,
    };
    let diff = layer.diff()?;
    let below = layer.below()?;
    if below.is_empty() {
        // The kernel lays no single layer; it is its own whole tree.
        return Ok(diff);
    }
    let below: Vec<OwnedFd> = below
        .iter()
        .map(|name| layer.diff_of(name))
        .collect::<Result<_, _>>()?;
    // By descriptor: what was looked at is what is laid, and 128 layers fit into one page.
    let mut options = format!("lowerdir=/proc/self/fd/{}", diff.as_raw_fd());
    for folder in &below {
        let _ = write!(options, ":/proc/self/fd/{}", folder.as_raw_fd());
    }
    // index=off: a running container's layer is in use as an upper one. The others are refused
    // wherever they occur, as in the layer's changes.
    options.push_str(",index=off,redirect_dir=nofollow,metacopy=off");
    let target = format!("/proc/self/fd/{}", layer.folder().as_raw_fd());
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(
        Some("overlay"),
        target.as_str(),
        Some("overlay"),
        flags,
        Some(options.as_str()),
    )
    .map_err(failed)?;
    let root = layer::open(AT_FDCWD, layer.path(), ResolveFlag::empty()).map_err(failed)?;
    match fstatfs(&root).map_err(failed)?.filesystem_type() {
        OVERLAYFS_SUPER_MAGIC => Ok(root),
        _ => Err(failed(Errno::ESTALE)),
    }
}
