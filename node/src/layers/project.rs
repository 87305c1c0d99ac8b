//! The project of files and folders, by which a file system counts what they hold
//! (`ioctl_fs_ioc_fsgetxattr(2)`).

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};

/// `struct fsxattr` of `linux/fs.h`.
#[repr(C)]
#[derive(Debug, Default)]
struct FileAttributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    padding: [u8; 8],
}

const _: () = assert!(size_of::<FileAttributes>() == 28);

/// `FS_XFLAG_PROJINHERIT`: what is made in the folder belongs to its project.
const INHERIT: u32 = 0x200;

nix::ioctl_read! {
    /// `FS_IOC_FSGETXATTR`
    read_attributes, b'X', 31, FileAttributes
}

nix::ioctl_write_ptr! {
    /// `FS_IOC_FSSETXATTR`
    write_attributes, b'X', 32, FileAttributes
}

/// The project of an open file or folder, 0 for none.
pub(super) fn of(file: &OwnedFd) -> Result<u32, Errno> {
    attributes(file).map(|attributes| attributes.project)
}

fn attributes(file: &OwnedFd) -> Result<FileAttributes, Errno> {
    let mut attributes = FileAttributes::default();
    // SAFETY: the descriptor is open, and the structure is the one that the call fills in.
    unsafe { read_attributes(file.as_raw_fd(), &raw mut attributes) }?;
    Ok(attributes)
}

fn set(file: &OwnedFd, project: u32, inherit: u32) -> Result<(), Errno> {
    let mut attributes = attributes(file)?;
    attributes.project = project;
    attributes.flags |= inherit;
    // SAFETY: the descriptor is open, and the structure is the one that the call reads.
    unsafe { write_attributes(file.as_raw_fd(), &raw const attributes) }?;
    Ok(())
}

/// Gives a folder and all that is in it to a project. Each folder is given before it is listed, so
/// that what a container makes in it meanwhile inherits the project.
///
/// Whoever runs in the container has made what is in it: no link is followed, and nothing but files and
/// folders is opened.
pub(super) fn assign(root: OwnedFd, project: u32) -> Result<(), Errno> {
    set(&root, project, INHERIT)?;
    let names_of_root = names(&root)?;
    let mut folders = vec![(root, names_of_root)];
    while let Some((folder, rest)) = folders.last_mut() {
        let Some(name) = rest.pop() else {
            folders.pop();
            continue;
        };
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(
                ResolveFlag::RESOLVE_BENEATH
                    | ResolveFlag::RESOLVE_NO_SYMLINKS
                    | ResolveFlag::RESOLVE_NO_XDEV,
            );
        let found = match openat2(&*folder, name.as_c_str(), how) {
            Ok(found) => found,
            // It went since the folder was listed, or is a link.
            Err(Errno::ENOENT | Errno::ELOOP) => continue,
            Err(errno) => return Err(errno),
        };
        match SFlag::from_bits_truncate(fstat(&found)?.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                let folder = openat(&found, ".", flags, Mode::empty())?;
                set(&folder, project, INHERIT)?;
                let names = names(&folder)?;
                folders.push((folder, names));
            }
            SFlag::S_IFREG => {
                let again = format!("/proc/self/fd/{}", found.as_raw_fd());
                let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
                set(&open(again.as_str(), flags, Mode::empty())?, project, 0)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn names(folder: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listed = Dir::openat(folder, ".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in listed.iter() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    /// That a file system counts by it is shown in a virtual machine (`tests/vm/disks.sh`), whose kernel
    /// has quotas. Where a file system stores no project, the first folder says so.
    #[test]
    fn everything_beneath_a_folder_has_its_project_and_nothing_that_a_link_names() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let root = dir.path().join("layer");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), "").unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        symlink("../../outside", root.join("a/link")).unwrap();
        let opened = |path: &str| OwnedFd::from(File::open(dir.path().join(path)).unwrap());
        if let Err(errno) = assign(opened("layer"), 7) {
            let none = [
                Errno::EOPNOTSUPP,
                Errno::ENOTTY,
                Errno::EINVAL,
                Errno::EPERM,
            ];
            assert!(none.contains(&errno), "{errno}");
            return;
        }
        for path in ["layer", "layer/a", "layer/a/b", "layer/a/file"] {
            assert_eq!(of(&opened(path)), Ok(7), "{path}");
        }
        assert_eq!(of(&opened("outside")), Ok(0));
        fs::write(root.join("a/b/new"), "").unwrap();
        assert_eq!(of(&opened("layer/a/b/new")), Ok(7));
    }
}
