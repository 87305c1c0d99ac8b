//! An ISO 9660 volume as the kernel shows it when it is mounted without options
//! (`fs/isofs/inode.c`): with Rock Ridge, else with Joliet's names, else with its plain names in
//! lower case.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::record::Record;
use super::rock::{self, Rock};

/// ISO 9660's own sector, to which records of a folder are padded.
const SECTOR: u64 = 2048;
/// The first volume descriptor, and where the kernel gives up.
const DESCRIPTORS: std::ops::Range<u64> = 16..100;
/// The largest folder that is read, in bytes.
const FOLDER: u64 = 64 << 20;

const PRIMARY: u8 = 1;
const SUPPLEMENTARY: u8 = 2;
const END: u8 = 255;

/// `S_IFMT` and its values, as PX has them.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// What a file has without Rock Ridge: it may be a program.
const MODE: u32 = 0o555;

/// Why a volume was not read.
#[derive(Debug)]
pub(super) enum Bad {
    /// The system refused.
    Io(io::Error),
    /// Not such a volume, or damaged.
    Damaged(String),
    /// The image ends before what is in it does.
    Cut {
        /// What is not whole.
        what: String,
        /// Where that would end.
        end: u64,
    },
    /// What no honest image has, or what cannot be shown.
    Refused(String),
}

impl From<io::Error> for Bad {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Where names come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Rock { skip: usize },
    Joliet,
    Plain,
}

/// A volume in an image.
#[derive(Debug)]
pub(super) struct Volume<'a> {
    image: &'a File,
    /// Of the image, in bytes.
    length: u64,
    block: u64,
    root: u64,
    names: Names,
}

/// What a file or folder has beside its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Attributes {
    /// Permissions; set-id bits too.
    pub(super) mode: u32,
    /// Owner and group.
    pub(super) owner: (u32, u32),
    /// Seconds since 1970.
    pub(super) modified: i64,
}

/// A piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Extent {
    /// In bytes from the image's beginning.
    pub(super) at: u64,
    /// In bytes.
    pub(super) size: u64,
}

/// One entry of a folder.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) attributes: Attributes,
    pub(super) kind: Kind,
}

/// What an entry is.
#[derive(Debug)]
pub(super) enum Kind {
    /// A folder that begins at this block; its attributes are in itself.
    Folder(u64),
    File(Vec<Extent>),
    Link(Vec<u8>),
    /// A device, a pipe, a socket.
    Other,
}

/// A folder that was read.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) attributes: Attributes,
    pub(super) entries: Vec<Entry>,
}

impl<'a> Volume<'a> {
    pub(super) fn open(image: &'a File) -> Result<Self, Bad> {
        let length = image.metadata()?.len();
        let mut primary = None;
        let mut joliet = None;
        for sector in DESCRIPTORS {
            let mut descriptor = vec![0; 2048];
            match image.read_exact_at(&mut descriptor, sector * SECTOR) {
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && primary.is_none() => break,
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(Bad::Cut {
                        what: "the list of its volume descriptors".to_owned(),
                        end: (sector + 1) * SECTOR,
                    });
                }
                other => other?,
            }
            if descriptor.get(1..6) != Some(b"CD001") {
                continue;
            }
            match descriptor.first() {
                Some(&END) => break,
                Some(&PRIMARY) if primary.is_none() => primary = Some(descriptor),
                // %/@, %/C and %/E: the three levels of Joliet.
                Some(&SUPPLEMENTARY)
                    if matches!(
                        descriptor.get(88..91),
                        Some([0x25, 0x2f, 0x40 | 0x43 | 0x45])
                    ) =>
                {
                    joliet = Some(descriptor);
                    break;
                }
                _ => {}
            }
        }
        let Some(primary) = primary else {
            return Err(Bad::Damaged("it has no volume descriptor".to_owned()));
        };
        let block = match primary.get(128..130) {
            Some([0, 2]) => 512,
            Some([0, 4]) => 1024,
            Some([0, 8]) => 2048,
            _ => {
                return Err(Bad::Damaged(
                    "its blocks have none of the sizes 512, 1024 and 2048".to_owned(),
                ));
            }
        };
        let root_of = |descriptor: &[u8]| {
            let record = Record::first(descriptor.get(156..190)?)?;
            Some(record.block())
        };
        let root = root_of(&primary);
        let root = root.ok_or_else(|| Bad::Damaged("it has no root folder".to_owned()))?;
        let mut volume = Self {
            image,
            length,
            block,
            root,
            names: Names::Plain,
        };
        let own = volume.own_rock(root)?;
        if own.announced {
            volume.names = Names::Rock {
                skip: own.skip.unwrap_or(0),
            };
        }
        if let Some(root) = joliet.as_deref().and_then(root_of) {
            let bare = own.announced && volume.folder(volume.root, "/")?.entries.is_empty();
            if !own.announced || bare {
                volume.root = root;
                volume.names = Names::Joliet;
            }
        }
        Ok(volume)
    }

    pub(super) fn root(&self) -> u64 {
        self.root
    }

    /// Reads the folder that begins at a block. `path` is for its errors.
    pub(super) fn folder(&self, block: u64, path: &str) -> Result<Folder, Bad> {
        let what = || format!("the folder {path}");
        let damaged = || Bad::Damaged(format!("{} is damaged", what()));
        let at = self.place(block).ok_or_else(damaged)?;
        let own = self.read(at, self.block, what)?;
        // Its first record is the folder itself.
        let own = Record::first(&own).ok_or_else(damaged)?;
        if !own.is_folder() || own.size() > FOLDER {
            return Err(damaged());
        }
        let attributes = self.attributes(&own, &self.rock(&own));
        let bytes = self.read(at, own.size(), what)?;
        let mut entries = Vec::new();
        let mut part: Option<(Attributes, Kind)> = None;
        let mut rest = bytes.as_slice();
        while let Some(first) = rest.first() {
            if *first == 0 {
                // Records do not begin in what a sector has left.
                let done = bytes.len() - rest.len();
                let sector = usize::try_from(SECTOR).unwrap_or(usize::MAX);
                rest = bytes
                    .get((done / sector + 1) * sector..)
                    .unwrap_or_default();
                continue;
            }
            let record = Record::first(rest).ok_or_else(damaged)?;
            rest = rest.get(record.length()..).unwrap_or_default();
            if record.is_dot() {
                continue;
            }
            let rock = self.rock(&record);
            let (attributes, mut kind) = match part.take() {
                Some(before) => before,
                None => (
                    self.attributes(&record, &rock),
                    self.kind(&record, &rock, path)?,
                ),
            };
            if let Kind::File(extents) = &mut kind {
                extents.extend(self.extent(&record, path)?);
            }
            if record.goes_on() {
                part = Some((attributes, kind));
                continue;
            }
            let name = self.name(&record, &rock);
            if record.is_associated() || rock.relocated || name.is_empty() {
                continue;
            }
            entries.push(Entry {
                name,
                attributes,
                kind,
            });
        }
        if part.is_some() {
            return Err(damaged());
        }
        Ok(Folder {
            attributes,
            entries,
        })
    }

    fn kind(&self, record: &Record<'_>, rock: &Rock, path: &str) -> Result<Kind, Bad> {
        if let Some(child) = rock.child {
            return Ok(Kind::Folder(child.into()));
        }
        if record.is_folder() {
            return Ok(Kind::Folder(record.block()));
        }
        if rock.compressed {
            return Err(Bad::Refused(format!(
                "a file in {path} is compressed (zisofs), which only the kernel's own iso9660 reads"
            )));
        }
        if record.is_interleaved() {
            return Err(Bad::Refused(format!("a file in {path} is interleaved")));
        }
        Ok(match rock.mode.map(|mode| mode & KIND) {
            None | Some(REGULAR) => Kind::File(Vec::new()),
            Some(LINK) => Kind::Link(rock.link.clone()),
            Some(_) => Kind::Other,
        })
    }

    /// Where the data of a record is; none where it has none.
    fn extent(&self, record: &Record<'_>, path: &str) -> Result<Option<Extent>, Bad> {
        let size = record.size();
        if size == 0 {
            return Ok(None);
        }
        let at = self.place(record.block());
        let at = at.ok_or_else(|| Bad::Damaged(format!("a file in {path} is damaged")))?;
        self.whole(at, size, || {
            let name = self.name(record, &self.rock(record));
            let name = String::from_utf8_lossy(&name).into_owned();
            format!("its file {}/{name}", path.trim_end_matches('/'))
        })?;
        Ok(Some(Extent { at, size }))
    }

    fn name(&self, record: &Record<'_>, rock: &Rock) -> Vec<u8> {
        match self.names {
            Names::Rock { .. } if !rock.name.is_empty() => rock.name.clone(),
            Names::Rock { .. } | Names::Plain => record.plain_name(),
            Names::Joliet => record.joliet_name(),
        }
    }

    fn attributes(&self, record: &Record<'_>, rock: &Rock) -> Attributes {
        Attributes {
            mode: rock.mode.map_or(MODE, |mode| mode & 0o7777),
            owner: rock.owner.unwrap_or((0, 0)),
            modified: rock.modified.unwrap_or_else(|| record.modified()),
        }
    }

    fn rock(&self, record: &Record<'_>) -> Rock {
        match self.names {
            Names::Rock { skip } => self.extensions(record.system_use(skip)),
            Names::Joliet | Names::Plain => Rock::default(),
        }
    }

    /// What the root folder says of the extensions.
    fn own_rock(&self, root: u64) -> Result<Rock, Bad> {
        let damaged = || Bad::Damaged("its root folder is damaged".to_owned());
        let at = self.place(root).ok_or_else(damaged)?;
        let bytes = self.read(at, self.block, || "its root folder".to_owned())?;
        let record = Record::first(&bytes).ok_or_else(damaged)?;
        Ok(self.extensions(record.system_use(0)))
    }

    fn extensions(&self, area: &[u8]) -> Rock {
        rock::read(area, |block, offset, size| {
            let (offset, size) = (u64::from(offset), u64::from(size));
            if offset + size > self.block {
                return None;
            }
            let at = self.place(block.into())?.checked_add(offset)?;
            self.read(at, size, String::new).ok()
        })
    }

    fn place(&self, block: u64) -> Option<u64> {
        block.checked_mul(self.block)
    }

    fn whole(&self, at: u64, size: u64, what: impl FnOnce() -> String) -> Result<(), Bad> {
        match at.checked_add(size) {
            Some(end) if end <= self.length => Ok(()),
            end => Err(Bad::Cut {
                what: what(),
                end: end.unwrap_or(u64::MAX),
            }),
        }
    }

    fn read(&self, at: u64, size: u64, what: impl FnOnce() -> String) -> Result<Vec<u8>, Bad> {
        self.whole(at, size, what)?;
        let size = usize::try_from(size).map_err(io::Error::other)?;
        let mut bytes = vec![0; size];
        self.image.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// Reads a part of a piece of a file.
    pub(super) fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.image.read_exact_at(buffer, at)
    }
}
