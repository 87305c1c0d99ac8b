//! Writes what a volume holds beneath one folder, and nothing elsewhere. Every folder is made
//! here and every name is one plain part, so that nothing is written through what the image
//! brought.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Look;
use super::volume::{Attributes, Bad, Entry, Extent, Kind, Volume};

/// How many files an image may have.
const ENTRIES: usize = 200_000;
/// How deep its folders may be nested.
const DEPTH: usize = 32;
/// What is copied at once, in bytes.
const PIECE: usize = 1 << 20;

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Folders with what they are to have in the end, outer ones first. They are left open to
    /// the writer until then.
    pub(super) folders: Vec<(PathBuf, Attributes)>,
    /// How many files and folders are not root's on the image.
    pub(super) of_others: usize,
}

/// Writes a volume's files beneath one folder.
pub(super) struct Unpack<'a> {
    volume: &'a Volume<'a>,
    target: &'a Path,
    look: Look,
    /// How many bytes there may still be.
    left: u64,
    entries: usize,
    /// The blocks of the folders that were read.
    seen: HashSet<u64>,
    /// Files by what they are of, so that two names of one are one file.
    files: HashMap<(Vec<Extent>, Attributes), PathBuf>,
    written: Written,
}

impl<'a> Unpack<'a> {
    /// `bytes` is how many the files may have together.
    pub(super) fn new(volume: &'a Volume<'a>, target: &'a Path, look: Look, bytes: u64) -> Self {
        Self {
            volume,
            target,
            look,
            left: bytes,
            entries: 0,
            seen: HashSet::new(),
            files: HashMap::new(),
            written: Written::default(),
        }
    }

    /// Writes all of it.
    pub(super) fn all(mut self) -> Result<Written, Bad> {
        let mut open = vec![(self.volume.root(), PathBuf::new())];
        while let Some((block, path)) = open.pop() {
            if path.components().count() > DEPTH {
                return Err(Bad::Refused(format!(
                    "its folders are nested more than {DEPTH} deep"
                )));
            }
            let shown = format!("/{}", path.display());
            if !self.seen.insert(block) {
                return Err(Bad::Refused(format!("the folder {shown} is in it twice")));
            }
            let folder = self.volume.folder(block, &shown)?;
            self.written.folders.push((path.clone(), folder.attributes));
            self.count(folder.attributes);
            let mut names = HashSet::new();
            for entry in folder.entries {
                self.entries += 1;
                if self.entries > ENTRIES {
                    return Err(Bad::Refused(format!("it has more than {ENTRIES} files")));
                }
                let place = path.join(plain(&entry.name)?);
                // Of two with one name the kernel finds the first.
                if !names.insert(entry.name.clone()) {
                    continue;
                }
                if let Kind::Folder(block) = entry.kind {
                    fs::create_dir(self.target.join(&place))?;
                    open.push((block, place));
                } else {
                    self.entry(entry, &place)?;
                }
            }
        }
        Ok(self.written)
    }

    fn count(&mut self, attributes: Attributes) {
        if attributes.owner != (0, 0) {
            self.written.of_others += 1;
        }
    }

    fn entry(&mut self, entry: Entry, path: &Path) -> Result<(), Bad> {
        self.count(entry.attributes);
        let place = self.target.join(path);
        match entry.kind {
            Kind::Link(to) if !to.is_empty() => symlink(OsStr::from_bytes(&to), place)?,
            Kind::File(extents) => self.file(extents, entry.attributes, path)?,
            // Devices and pipes have no place on a CD.
            Kind::Link(_) | Kind::Folder(_) | Kind::Other => {}
        }
        Ok(())
    }

    fn file(
        &mut self,
        extents: Vec<Extent>,
        attributes: Attributes,
        path: &Path,
    ) -> Result<(), Bad> {
        let place = self.target.join(path);
        let key = (extents, attributes);
        if let Some(other) = self.files.get(&key).filter(|_| !key.0.is_empty()) {
            fs::hard_link(self.target.join(other), &place)?;
            return Ok(());
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&place)?;
        let mut buffer = vec![0; PIECE];
        for extent in &key.0 {
            self.left = self
                .left
                .checked_sub(extent.size)
                .ok_or_else(|| Bad::Refused("its files have more bytes than itself".to_owned()))?;
            let mut at = extent.at;
            let end = extent.at + extent.size;
            while at < end {
                let size = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
                let piece = buffer.get_mut(..size).unwrap_or_default();
                self.volume.read_at(piece, at)?;
                file.write_all(piece)?;
                at += size as u64;
            }
        }
        set(&file, attributes, self.look.of_file(attributes.mode))?;
        self.files.insert(key, path.to_owned());
        Ok(())
    }
}

/// Gives a file or folder its mode and its time.
pub(super) fn set(file: &File, attributes: Attributes, mode: u32) -> io::Result<()> {
    let seconds = Duration::from_secs(attributes.modified.unsigned_abs());
    let time = if attributes.modified < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    if let Some(time) = time {
        file.set_times(FileTimes::new().set_modified(time))?;
    }
    file.set_permissions(Permissions::from_mode(mode))
}

/// A name of one plain part.
fn plain(name: &[u8]) -> Result<&OsStr, Bad> {
    if matches!(name, b"" | b"." | b"..")
        || name.len() > 255
        || name.iter().any(|b| matches!(b, b'/' | 0))
    {
        let name = String::from_utf8_lossy(name);
        return Err(Bad::Refused(format!(
            "it has a file of the name \"{name}\""
        )));
    }
    Ok(OsStr::from_bytes(name))
}
