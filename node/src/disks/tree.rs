//! Trees of files: the layer of a container that never runs, and a folder of the host.

use std::path::Path;

use nix::mount::{MsFlags, mount};
use onedock_common::ContainerId;
use onedock_common::state::paths::Paths;

use crate::disks::error::{Fault, step};
use crate::disks::file_system;
use crate::disks::prepare::Prepared;
use crate::disks::stage::MOUNT;
use crate::layers::layer::Layer;
use crate::owned;

/// As the kind of a mount: a folder of the host.
pub(super) const FOLDER: &str = "folder";
const OVERLAY: &str = "overlay";

/// A folder, to be read only.
pub(super) fn folder(path: &Path) -> Result<Prepared, Fault> {
    let open = owned::folder(path).map_err(|reason| Fault::Source {
        path: path.to_owned(),
        reason,
    })?;
    let none = None::<&str>;
    let flags = MsFlags::MS_BIND;
    mount(Some(&owned::by_descriptor(&open)), MOUNT, none, flags, none)
        .map_err(step("binding its folder"))?;
    let flags =
        flags | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(none, MOUNT, none, flags, none).map_err(step("making it read-only"))?;
    taken(FOLDER)
}

/// The tree of a container that never runs.
pub(super) fn overlay(container: &ContainerId, read_only: bool) -> Result<Prepared, Fault> {
    let layer = Layer::of(&Paths::system(), container)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let read_only_flag = if read_only {
        MsFlags::MS_RDONLY
    } else {
        MsFlags::empty()
    };
    layer.mount(Path::new(MOUNT), !read_only, flags | read_only_flag)?;
    taken(OVERLAY)
}

fn taken(kind: &str) -> Result<Prepared, Fault> {
    let (mount, mounted) = file_system::take(kind)?;
    Ok(Prepared::Mount(mount, mounted, None))
}
