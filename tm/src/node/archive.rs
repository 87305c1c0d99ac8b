//! A tar archive from another host, unpacked beneath a folder.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use onedock_common::unpack::{Attributes, Rule, Unpack};
use tar::EntryType;

/// What is copied at once, in bytes; so many zeros become a hole.
const PIECE: usize = 64 * 1024;

/// Writes the archive's files to `folder`, which is empty, and synchronises them.
pub(crate) fn unpack(archive: impl Read, folder: &Path, rule: Rule) -> Result<()> {
    let mut unpack = Unpack::new(folder, rule);
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let header = entry.header();
        let attributes = Attributes {
            mode: header.mode()?,
            modified: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(header.mtime()?)),
        };
        match header.entry_type() {
            EntryType::Directory => unpack.folder(&path, attributes)?,
            EntryType::Regular | EntryType::GNUSparse => {
                let size = entry.size();
                let write = |file: &mut File| {
                    copy(&mut entry, file, size)?;
                    file.sync_all()
                };
                unpack.file(&path, attributes, size, write)?;
            }
            EntryType::Symlink => {
                let to = entry.link_name_bytes().unwrap_or_default();
                unpack.symbolic_link(&path, OsStr::from_bytes(&to))?;
            }
            other => bail!(
                "\"{}\" is neither a file nor a folder (tar type {:?})",
                path.display(),
                char::from(other.as_byte())
            ),
        }
    }
    Ok(unpack.finish().close(folder)?)
}

fn copy(from: &mut impl Read, to: &mut File, size: u64) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut left = size;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let piece = piece.get_mut(..length).unwrap_or_default();
        from.read_exact(piece)?;
        if piece.iter().all(|byte| *byte == 0) {
            to.seek(SeekFrom::Current(
                i64::try_from(length).map_err(io::Error::other)?,
            ))?;
        } else {
            to.write_all(piece)?;
        }
        left -= length as u64;
    }
    to.set_len(size)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use onedock_common::unpack::{Links, Modes};

    use super::*;

    const RULE: Rule = Rule {
        bytes: 1 << 40,
        entries: 100,
        links: Links::Keep,
        modes: Modes::Own,
    };

    #[test]
    fn a_file_with_holes_arrives_with_its_holes_and_a_link_as_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir(&from).unwrap();
        std::fs::create_dir(&to).unwrap();
        let file = File::create(from.join("checkpoint")).unwrap();
        file.write_all_at(b"end", 64 << 20).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", from.join("link")).unwrap();
        let mut archive = tar::Builder::new(Vec::new());
        archive.follow_symlinks(false);
        archive.append_dir_all("disk.5", &from).unwrap();
        unpack(&archive.into_inner().unwrap()[..], &to, RULE).unwrap();
        let meta = std::fs::metadata(to.join("disk.5/checkpoint")).unwrap();
        assert_eq!(meta.len(), (64 << 20) + 3);
        assert!(meta.blocks() * 512 < 1 << 20);
        let link = std::fs::read_link(to.join("disk.5/link")).unwrap();
        assert_eq!(link, Path::new("/etc/passwd"));
    }

    #[test]
    fn attack_16_devices_and_pipes_are_refused() {
        for kind in [EntryType::Fifo, EntryType::Char, EntryType::Link] {
            let dir = tempfile::tempdir().unwrap();
            let mut header = tar::Header::new_gnu();
            header.set_path("x").unwrap();
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_cksum();
            let mut archive = tar::Builder::new(Vec::new());
            archive.append(&header, &[][..]).unwrap();
            let bytes = archive.into_inner().unwrap();
            let error = unpack(&bytes[..], dir.path(), RULE).unwrap_err();
            assert!(error.to_string().contains("neither a file nor a folder"));
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}
