//! Bringing a disk that was prepared into the container.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::fstat;
use onedock_common::state::boot::{Disk, DiskSource};

use crate::disks::container::Container;
use crate::disks::error::{Fault, step};
use crate::disks::prepare::Prepared;
use crate::disks::state::{Folder, Form, PluggedDisk};
use crate::disks::sys;

/// Brings what was prepared into the container.
pub(super) fn present(
    container: &Container<'_>,
    folder: &Folder,
    shown: &mut PluggedDisk,
    staged: Prepared,
) -> Result<Option<String>, Fault> {
    let disk = &shown.disk;
    let remembered = step("remembering it");
    match staged {
        Prepared::Mount(mount, mounted, warning) => {
            let Some(target) = disk.mount.clone() else {
                return Err(Fault::Cannot("shown as a device"));
            };
            map_owners(container, disk, &mount, &mounted.kind)?;
            shown.form = Some(Form::Mounted(mounted));
            folder.write(shown).map_err(remembered)?;
            container.attach(&mount, target.as_str())?;
            Ok(warning)
        }
        Prepared::Device(device, staged) => {
            shown.form = Some(Form::Device(device.clone()));
            folder.write(shown).map_err(remembered)?;
            container.show(&device, &staged)?;
            Ok(None)
        }
    }
}

/// The owners on the disk are those of the container, whatever ids these have on the host. The
/// engine has laid a tree with the container's ids already.
fn map_owners(
    container: &Container<'_>,
    disk: &Disk,
    mount: &OwnedFd,
    kind: &str,
) -> Result<(), Fault> {
    if matches!(disk.source, DiskSource::Folder(_)) {
        return map_to_root(container, mount);
    }
    let Some(user) = container.mounts.user() else {
        return Ok(());
    };
    if matches!(disk.source, DiskSource::Tree(_) | DiskSource::FormerTree(_)) {
        return Ok(());
    }
    match sys::map_owners(mount, user) {
        Ok(()) => Ok(()),
        // What can only be read is read by others, too.
        Err(Errno::EINVAL | Errno::ENOSYS) if kind == "iso9660" => Ok(()),
        Err(errno) => Err(Fault::Owners(errno)),
    }
}

/// The files of a CD that the driver has unpacked are its own on the host, and root's in the
/// container. Where the file system cannot map owners, they can be read all the same.
fn map_to_root(container: &Container<'_>, mount: &OwnedFd) -> Result<(), Fault> {
    let stat = fstat(mount).map_err(step("examining its mount"))?;
    let (user, group) = container.owner;
    if (stat.st_uid, stat.st_gid) == (user, group) {
        return Ok(());
    }
    let mapped = namespace_of((stat.st_uid, user), (stat.st_gid, group))
        .and_then(|namespace| Ok(sys::map_owners(mount, namespace)?));
    // Elsewhere the container sees the driver's numbers.
    mapped.or(Ok(()))
}

/// A user namespace in which one user and one group of a file system are others.
fn namespace_of(user: (u32, u32), group: (u32, u32)) -> io::Result<OwnedFd> {
    let sleeper = sys::Sleeper::in_new_user_namespace()?;
    let folder = Path::new("/proc").join(sleeper.pid().to_string());
    fs::write(folder.join("uid_map"), format!("{} {} 1", user.0, user.1))?;
    fs::write(folder.join("gid_map"), format!("{} {} 1", group.0, group.1))?;
    Ok(File::open(folder.join("ns/user"))?.into())
}
