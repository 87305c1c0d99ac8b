//! A volume's files beneath one folder.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use onedock_common::unpack::{self, Folders, Links, Modes, Rule, UnpackError, plain_name};

use super::volume::{Attributes, Bad, Entry, Extent, Kind, Volume};

/// How many files an image may have.
const ENTRIES: usize = 200_000;
/// What is copied at once, in bytes.
const PIECE: usize = 1 << 20;

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) folders: Folders,
    /// How many files and folders are not root's on the image.
    pub(super) of_others: usize,
}

/// Writes a volume's files beneath one folder.
pub(super) struct Unpack<'a> {
    volume: &'a Volume<'a>,
    files: unpack::Unpack<'a>,
    /// The blocks of the folders that were read.
    seen: HashSet<u64>,
    /// Files by what they are of, so that two names of one are one file.
    written: HashMap<(Vec<Extent>, Attributes), PathBuf>,
    of_others: usize,
}

impl<'a> Unpack<'a> {
    /// `bytes` is how many the files may have together: as many as the image.
    pub(super) fn new(volume: &'a Volume<'a>, target: &'a Path, modes: Modes, bytes: u64) -> Self {
        let rule = Rule {
            bytes,
            entries: ENTRIES,
            links: Links::Keep,
            modes,
        };
        Self {
            volume,
            files: unpack::Unpack::new(target, rule),
            seen: HashSet::new(),
            written: HashMap::new(),
            of_others: 0,
        }
    }

    /// Writes all of it.
    pub(super) fn all(mut self) -> Result<Written, Bad> {
        let mut open = vec![(self.volume.root(), PathBuf::new())];
        while let Some((block, path)) = open.pop() {
            let shown = format!("/{}", path.display());
            if !self.seen.insert(block) {
                return Err(Bad::Refused(format!("the folder {shown} is in it twice")));
            }
            let folder = self.volume.folder(block, &shown)?;
            self.files.folder(&path, attributes(folder.attributes))?;
            self.count(folder.attributes);
            let mut names = HashSet::new();
            for entry in folder.entries {
                let place = path.join(plain_name(&entry.name)?);
                // Of two with one name the kernel finds the first.
                if !names.insert(entry.name.clone()) {
                    self.files.skip()?;
                    continue;
                }
                match entry.kind {
                    Kind::Folder(block) => open.push((block, place)),
                    _ => self.entry(entry, place)?,
                }
            }
        }
        Ok(Written {
            folders: self.files.finish(),
            of_others: self.of_others,
        })
    }

    fn count(&mut self, attributes: Attributes) {
        if attributes.owner != (0, 0) {
            self.of_others += 1;
        }
    }

    fn entry(&mut self, entry: Entry, path: PathBuf) -> Result<(), Bad> {
        self.count(entry.attributes);
        match entry.kind {
            Kind::Link(to) if !to.is_empty() => {
                self.files.symbolic_link(&path, OsStr::from_bytes(&to))?;
            }
            Kind::File(extents) => self.file(extents, entry.attributes, path)?,
            // Devices and pipes have no place on a CD.
            Kind::Link(_) | Kind::Folder(_) | Kind::Other => self.files.skip()?,
        }
        Ok(())
    }

    fn file(&mut self, extents: Vec<Extent>, of: Attributes, path: PathBuf) -> Result<(), Bad> {
        let key = (extents, of);
        if let Some(other) = self.written.get(&key).filter(|_| !key.0.is_empty()) {
            return Ok(self.files.hard_link(&path, other)?);
        }
        let size = key.0.iter().map(|extent| extent.size);
        let size = size.fold(0, u64::saturating_add);
        let volume = self.volume;
        // A volume says more about what is wrong with it than an error of the system can.
        let mut bad = None;
        let written = self.files.file(&path, attributes(of), size, |file| {
            let copied = copy(volume, &key.0, file);
            copied.map_err(|e| match e {
                Bad::Io(e) => e,
                other => {
                    bad = Some(other);
                    io::ErrorKind::InvalidData.into()
                }
            })
        });
        if let Some(bad) = bad {
            return Err(bad);
        }
        written?;
        self.written.insert(key, path);
        Ok(())
    }
}

fn copy(volume: &Volume<'_>, extents: &[Extent], to: &mut File) -> Result<(), Bad> {
    let mut buffer = vec![0; PIECE];
    for extent in extents {
        let mut at = extent.at;
        let end = extent.at + extent.size;
        while at < end {
            let size = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let piece = buffer.get_mut(..size).unwrap_or_default();
            volume.read_at(piece, at)?;
            to.write_all(piece)?;
            at += size as u64;
        }
    }
    Ok(())
}

fn attributes(of: Attributes) -> unpack::Attributes {
    let seconds = Duration::from_secs(of.modified.unsigned_abs());
    unpack::Attributes {
        mode: of.mode,
        modified: if of.modified < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(seconds)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(seconds)
        },
    }
}

impl From<UnpackError> for Bad {
    fn from(error: UnpackError) -> Self {
        match error {
            UnpackError::Io(e) => Self::Io(e),
            UnpackError::Refused(why) => Self::Refused(why),
        }
    }
}
