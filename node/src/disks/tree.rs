//! Trees of files: the layer of a container that never runs, and a folder of the host.

use std::fs;
use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::unistd::chdir;

use crate::disks::error::{Fault, step};
use crate::disks::file_system;
use crate::disks::prepare::Prepared;
use crate::disks::stage::MOUNT;
use crate::layers::{is_layer, rootfs};
use onedock_common::state::files;

/// As the kind of a mount: a folder of the host.
pub(super) const FOLDER: &str = "folder";
const OVERLAY: &str = "overlay";
/// A layer's list of those below it: at most 128 links of some 28 bytes.
const LOWER: u64 = 16 * 1024;

/// A folder, to be read only.
pub(super) fn folder(path: &Path) -> Result<Prepared, Fault> {
    let real = rootfs::host_folder(path).map_err(|errno| Fault::Source {
        path: path.to_owned(),
        reason: errno.into(),
    })?;
    let none = None::<&str>;
    let flags = MsFlags::MS_BIND;
    mount(Some(&real), MOUNT, none, flags, none).map_err(step("binding its folder"))?;
    let flags =
        flags | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(none, MOUNT, none, flags, none).map_err(step("making it read-only"))?;
    taken(FOLDER)
}

/// The tree of a layer in the engine's storage, with those below it.
pub(super) fn overlay(layer: &Path, read_only: bool) -> Result<Prepared, Fault> {
    let kind = |wanted| Fault::Kind {
        path: layer.to_owned(),
        wanted,
    };
    let source = |reason: io::Error| Fault::Source {
        path: layer.to_owned(),
        reason,
    };
    let real = fs::canonicalize(layer).map_err(source)?;
    let (Some(storage), Some(id)) = (real.parent(), real.file_name().and_then(|n| n.to_str()))
    else {
        return Err(kind("the folder of a layer"));
    };
    if storage.file_name() != Some("overlay2".as_ref()) || !is_layer(id) {
        return Err(kind("the folder of a layer (overlay2/<64 digits>)"));
    }
    let lower = files::read_bounded(&real.join("lower"), LOWER).map_err(source)?;
    let lower = String::from_utf8(lower).map_err(|e| source(io::Error::other(e)))?;
    let lower = lower.trim();
    let link = |name: &str| {
        name.strip_prefix("l/")
            .is_some_and(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric()))
    };
    if !lower.split(':').all(link) {
        return Err(kind("a layer whose file \"lower\" names layers"));
    }
    // Names from the storage's folder on keep a hundred layers within one page of options.
    chdir(storage).map_err(step("entering the engine's storage"))?;
    let options = if read_only {
        format!("lowerdir={id}/diff:{lower}")
    } else {
        format!(
            "lowerdir={lower},upperdir={id}/diff,workdir={id}/work,index=off,metacopy=off,redirect_dir=off"
        )
    };
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, read_only);
    mount(
        Some(OVERLAY),
        MOUNT,
        Some(OVERLAY),
        flags,
        Some(options.as_str()),
    )
    .map_err(step("laying the image's tree"))?;
    taken(OVERLAY)
}

fn taken(kind: &str) -> Result<Prepared, Fault> {
    let (mount, mounted) = file_system::take(kind)?;
    Ok(Prepared::Mount(mount, mounted, None))
}
