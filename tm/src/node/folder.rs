//! A VM's folder on its way to another host: when its disks have moved, context files, the VM's
//! document and a checkpoint are left. They travel as an archive.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context as _, Result};
use onedock_common::disk_file::LIMIT;
use onedock_common::state::{files, vm_folder};
use onedock_common::unpack::{Links, Modes, Rule};

use super::archive;
use super::staging::Staging;
use crate::checksummed_stream::{Receiver, Sender};

/// The files come from another host of the same drivers: links and modes are theirs, and a
/// checkpoint may be as large as a disk.
const RULE: Rule = Rule {
    bytes: LIMIT,
    entries: 200_000,
    links: Links::Keep,
    modes: Modes::Own,
};

pub(crate) fn send(folder: &Path, out: &mut impl Write) -> Result<()> {
    let unread = || format!("{} cannot be sent", folder.display());
    let mut archive = tar::Builder::new(Sender::new(out));
    archive.follow_symlinks(false);
    let names = files::names(folder).with_context(unread)?;
    for name in names.iter().filter(|name| vm_folder::is_moved(name)) {
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

/// Puts what arrives in the place of what is there under the same names, when all of it has arrived.
pub(crate) fn receive(folder: &Path, input: &mut impl Read) -> Result<()> {
    let unwritten = || format!("{} cannot be written", folder.display());
    let staging = Staging::beside(&vm_folder::received(folder))?;
    let mut receiver = Receiver::new(input);
    archive::unpack(&mut receiver, staging.folder(), RULE).with_context(unwritten)?;
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
            assert_eq!(files::names(&to).unwrap(), ["vm.xml"]);
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
