//! What is left of a VM's folder when its disks have moved: context files, the VM's document, a
//! checkpoint. It travels as an archive.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::staging::{self, Staging};
use super::{folder, volume};
use crate::checksummed_stream::{Receiver, Sender};

/// What received files are called, in the VM's folder, before they are put in place.
const STAGED: &str = "received";

/// Files that belong to a disk's descriptor and are made anew where the disk arrives, and those of
/// writers that were ended.
fn stays(name: &str) -> bool {
    name.ends_with(".moving")
        || staging::is_leftover(name, STAGED)
        || (name.starts_with("disk.") && (name.ends_with(".registry") || volume::is_leftover(name)))
}

pub(crate) fn send(folder: &Path, out: &mut impl Write) -> Result<()> {
    let unread = || format!("{} cannot be sent", folder.display());
    let mut archive = tar::Builder::new(Sender::new(out));
    archive.follow_symlinks(false);
    for name in folder::names(folder)?.iter().filter(|n| !stays(n)) {
        let path = folder.join(name);
        let meta = path.symlink_metadata().with_context(unread)?;
        if meta.is_dir() {
            archive.append_dir_all(name, &path).with_context(unread)?;
        } else if meta.is_file() || meta.is_symlink() {
            archive
                .append_path_with_name(&path, name)
                .with_context(unread)?;
        }
    }
    archive.into_inner()?.finish().with_context(unread)
}

/// Puts what arrives in place of what is there under the same names, when all of it has arrived.
pub(crate) fn receive(folder: &Path, input: &mut impl Read) -> Result<()> {
    let unwritten = || format!("{} cannot be written", folder.display());
    let staging = Staging::beside(&folder.join(STAGED))?;
    let mut receiver = Receiver::new(input);
    let mut archive = tar::Archive::new(&mut receiver);
    archive.set_preserve_permissions(true);
    archive.set_overwrite(true);
    for entry in archive.entries().with_context(unwritten)? {
        let mut entry = entry.with_context(unwritten)?;
        let inside = entry.unpack_in(staging.folder()).with_context(unwritten)?;
        anyhow::ensure!(inside, "a file of the VM leads out of its folder");
    }
    receiver.finish().with_context(unwritten)?;
    staging.replace_entries(folder)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_left_of_a_folder_arrives_with_its_modes_and_a_cut_stream_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("disk.5")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("disk.5/context.sh"), "A='1'").unwrap();
        fs::set_permissions(from.join("disk.5"), fs::Permissions::from_mode(0o711)).unwrap();
        fs::write(from.join("vm.xml"), "<VM/>").unwrap();
        for name in [
            "disk.0.moving",
            "disk.1.new.7",
            "disk.1.spool.7",
            "received.new.7",
        ] {
            fs::write(from.join(name), "x").unwrap();
        }
        let mut sent = Vec::new();
        send(&from, &mut sent).unwrap();
        fs::write(to.join("vm.xml"), "<OLD/>").unwrap();
        for end in (0..sent.len()).step_by(97).chain([sent.len() - 1]) {
            assert!(receive(&to, &mut &sent[..end]).is_err(), "{end}");
            assert_eq!(fs::read_to_string(to.join("vm.xml")).unwrap(), "<OLD/>");
            assert_eq!(folder::names(&to).unwrap(), ["vm.xml"]);
        }
        fs::create_dir(to.join("received.new.7")).unwrap();
        for _ in 0..2 {
            receive(&to, &mut &sent[..]).unwrap();
        }
        let read = |name: &str| fs::read_to_string(to.join(name)).unwrap();
        assert_eq!(read("disk.5/context.sh"), "A='1'");
        assert_eq!(read("vm.xml"), "<VM/>");
        assert_eq!(fs::read_dir(&to).unwrap().count(), 2);
        let mode = fs::metadata(to.join("disk.5"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o711);
    }
}
