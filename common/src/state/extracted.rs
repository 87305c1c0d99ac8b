//! Where the files of ISO images lie on a node: the context's of a system datastore that is not
//! ours, and those of a CD on a kernel that cannot mount one. `deploy` and `reconfigure` write
//! them; who removes the VM from the host removes them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::state::files;
use crate::state::paths::Paths;
use crate::types::ids::{DiskId, VmId};

impl Paths {
    /// The files of a VM's context, where it came as an ISO image.
    pub fn context_folder(&self, vm: VmId) -> PathBuf {
        self.state().join("context").join(vm.to_string())
    }

    /// The folder with the files of all CDs of a VM.
    pub fn extracted_of(&self, vm: VmId) -> PathBuf {
        self.state().join("extracted").join(vm.to_string())
    }

    /// The files of one CD.
    pub fn extracted_folder(&self, vm: VmId, disk: DiskId) -> PathBuf {
        self.extracted_of(vm).join(disk.to_string())
    }
}

/// Where the files are written that are to come into a folder of these. The VM's lock is held:
/// nobody else writes there.
pub fn fresh(folder: &Path) -> PathBuf {
    folder.with_extension("new")
}

/// The file that says of which image the files in a folder are.
pub fn stamp(folder: &Path) -> PathBuf {
    folder.with_extension("of")
}

/// Removes all that was extracted for a VM; what is gone is removed.
pub fn forget(paths: &Paths, vm: VmId) -> io::Result<()> {
    remove(&paths.context_folder(vm))?;
    remove(&fresh(&paths.context_folder(vm)))?;
    remove(&paths.extracted_of(vm))
}

/// Removes what was extracted of one disk.
pub fn forget_disk(paths: &Paths, vm: VmId, disk: DiskId) -> io::Result<()> {
    let folder = paths.extracted_folder(vm, disk);
    remove(&folder)?;
    files::remove(&stamp(&folder))?;
    // The last one takes the VM's folder with it.
    let _ = fs::remove_dir(paths.extracted_of(vm));
    Ok(())
}

/// Lets their owner write into a folder and all below it: a CD's folders have the modes that they
/// have on the CD, and would not let go of what is in them.
pub fn open_folders(folder: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(folder)?;
    if !meta.is_dir() {
        return Ok(());
    }
    let mode = meta.permissions().mode();
    if mode & 0o700 != 0o700 {
        fs::set_permissions(folder, fs::Permissions::from_mode(mode | 0o700))?;
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_folders(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> io::Result<()> {
    match open_folders(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    files::remove_all(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_extracted_for_a_vm_goes_and_that_of_others_stays() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::at(dir.path());
        let (mine, other) = (VmId::new(5), VmId::new(6));
        for folder in [
            paths.context_folder(mine),
            paths.extracted_folder(mine, DiskId::new(4)),
            paths.context_folder(other),
        ] {
            fs::create_dir_all(folder).unwrap();
        }
        forget_disk(&paths, mine, DiskId::new(4)).unwrap();
        forget(&paths, mine).unwrap();
        forget(&paths, mine).unwrap();
        assert!(!paths.context_folder(mine).exists() && !paths.extracted_of(mine).exists());
        assert!(paths.context_folder(other).exists());
    }

    #[test]
    fn what_is_being_extracted_and_of_which_image_stands_beside_the_folder() {
        let folder = Paths::at("/s").extracted_folder(VmId::new(5), DiskId::new(4));
        assert_eq!(fresh(&folder), Path::new("/s/extracted/5/4.new"));
        assert_eq!(stamp(&folder), Path::new("/s/extracted/5/4.of"));
    }

    #[test]
    fn what_cannot_be_removed_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("context"), "a file in place of the folder").unwrap();
        assert!(forget(&Paths::at(dir.path()), VmId::new(5)).is_err());
    }

    #[test]
    fn an_ordinary_user_removes_a_cd_whose_folders_nobody_may_write() {
        const NOBODY: u32 = 65534;
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::at(dir.path());
        let (vm, disk) = (VmId::new(5), DiskId::new(4));
        let inner = paths.extracted_folder(vm, disk).join("sub/inner");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("file"), "").unwrap();
        let is_root = nix::unistd::geteuid().is_root();
        for folder in inner.ancestors() {
            if is_root {
                std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
            }
            let own = folder.starts_with(paths.extracted_folder(vm, disk));
            if own {
                fs::set_permissions(folder, fs::Permissions::from_mode(0o555)).unwrap();
            }
            if folder == dir.path() {
                break;
            }
        }
        let anothers = dir.path().join("another's");
        fs::create_dir(&anothers).unwrap();
        fs::set_permissions(&anothers, fs::Permissions::from_mode(0o755)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if is_root {
                    // Of this thread only: what it may do with files is what that user may.
                    nix::unistd::setfsgid(nix::unistd::Gid::from_raw(NOBODY));
                    nix::unistd::setfsuid(nix::unistd::Uid::from_raw(NOBODY));
                }
                // A folder of another user that is open already is left as it is.
                assert!(open_folders(&anothers).is_ok());
                forget_disk(&paths, vm, disk).unwrap();
            });
        });
        assert!(!paths.extracted_of(vm).exists());
    }
}
