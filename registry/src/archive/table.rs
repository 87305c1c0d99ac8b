//! The members of an archive: where each lies, and the small ones' content.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use tar::EntryType;

use crate::error::Error;
use crate::manifest::CONFIG_LIMIT;

/// The most members of an archive.
const MEMBERS: usize = 100_000;
/// The most bytes of documents in an archive.
const DOCUMENTS: u64 = 64 << 20;
/// How many links lead to a member at most.
const LINKS: usize = 4;
/// O_CLOEXEC | O_NONBLOCK: a FIFO in place of the file must not hold us.
const FLAGS: i32 = 0o2_000_000 | 0o4000;

/// A member's place in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) offset: u64,
    pub(super) size: u64,
    /// Its first bytes, which tell how it is packed.
    pub(super) magic: [u8; 4],
}

#[derive(Debug)]
enum Entry {
    Member(Member),
    Link(String),
}

/// An archive's table.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    gzip: bool,
    limit: u64,
    until: Instant,
    entries: BTreeMap<String, Entry>,
    documents: BTreeMap<String, Bytes>,
}

impl Table {
    /// Reads the table. At most `limit` bytes of the unpacked archive are read, and only until
    /// `until`.
    pub(super) fn read(path: &Path, limit: u64, until: Instant) -> Result<Self, Error> {
        let failed = |source| Error::File {
            path: path.to_owned(),
            source,
        };
        let mut table = Self {
            path: path.to_owned(),
            gzip: false,
            limit,
            until,
            entries: BTreeMap::new(),
            documents: BTreeMap::new(),
        };
        let mut file = open(path).map_err(failed)?;
        let mut magic = [0; 6];
        let read = file.read(&mut magic).map_err(failed)?;
        file.rewind().map_err(failed)?;
        match magic.get(..read).unwrap_or_default() {
            [0x1f, 0x8b, ..] => {
                table.gzip = true;
                let reader = Bounded::new(MultiGzDecoder::new(BufReader::new(file)), limit, until);
                table.scan(tar::Archive::new(reader).entries(), u64::MAX)?;
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0] => return Err(table.refuse(packed_with("xz"))),
            [b'B', b'Z', b'h', ..] => return Err(table.refuse(packed_with("bzip2"))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => return Err(table.refuse(packed_with("zstd"))),
            _ => {
                let length = file.metadata().map_err(failed)?.len();
                if length > limit {
                    return Err(
                        table.refuse(format!("it has {length} bytes, at most {limit} are served"))
                    );
                }
                table.scan(tar::Archive::new(file).entries_with_seek(), length)?;
            }
        }
        Ok(table)
    }

    fn scan<R: Read>(
        &mut self,
        entries: io::Result<tar::Entries<'_, R>>,
        length: u64,
    ) -> Result<(), Error> {
        let path = self.path.clone();
        // The kind alone: the text of such an error quotes the file, and whoever may name a file
        // to the front-end must not be shown what is in it.
        let damaged = |e: io::Error| Error::Archive {
            path: path.clone(),
            reason: match e.kind() {
                // The reader's own word, see `Bounded`.
                io::ErrorKind::FileTooLarge => "unpacked it is larger than is served".to_owned(),
                kind => format!("it is no tar archive, or it is damaged ({kind})"),
            },
        };
        let mut left = DOCUMENTS;
        for entry in entries.map_err(&damaged)? {
            let mut entry = entry.map_err(&damaged)?;
            if Instant::now() > self.until {
                return Err(self.refuse("reading it took too long"));
            }
            if self.entries.len() >= MEMBERS {
                return Err(self.refuse(format!("it has more than {MEMBERS} members")));
            }
            let Some(name) = key(&entry.path_bytes()) else {
                continue;
            };
            let kind = entry.header().entry_type();
            if kind == EntryType::Symlink || kind == EntryType::Link {
                let target = entry.link_name_bytes();
                let target = target
                    .as_deref()
                    .and_then(|target| link_key(&name, target, kind));
                if let Some(target) = target {
                    self.entries.insert(name, Entry::Link(target));
                }
                continue;
            }
            if kind != EntryType::Regular && kind != EntryType::Continuous {
                continue;
            }
            let (offset, size) = (entry.raw_file_position(), entry.size());
            if offset.checked_add(size).is_none_or(|end| end > length) {
                return Err(self.refuse("it is cut off"));
            }
            let mut magic = [0; 4];
            let mut got = 0;
            while got < magic.len() {
                match entry
                    .read(magic.get_mut(got..).unwrap_or_default())
                    .map_err(&damaged)?
                {
                    0 => break,
                    n => got += n,
                }
            }
            if is_document(&name, magic) && size <= CONFIG_LIMIT {
                left = left
                    .checked_sub(size)
                    .ok_or_else(|| self.refuse("it has too many documents"))?;
                let mut bytes = magic.get(..got).unwrap_or_default().to_vec();
                entry.read_to_end(&mut bytes).map_err(&damaged)?;
                self.documents.insert(name.clone(), Bytes::from(bytes));
            }
            self.entries.insert(
                name,
                Entry::Member(Member {
                    offset,
                    size,
                    magic,
                }),
            );
        }
        Ok(())
    }

    /// Whether there is a member of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Finds a member; links within the archive are followed. Its own name comes with it.
    pub(super) fn find(&self, name: &str) -> Option<(&str, &Member)> {
        let mut name = key(name.as_bytes())?;
        for _ in 0..=LINKS {
            match self.entries.get_key_value(&name)? {
                (own, Entry::Member(member)) => return Some((own, member)),
                (_, Entry::Link(target)) => name.clone_from(target),
            }
        }
        None
    }

    /// A small document; an error when it is missing or too large.
    pub(super) fn document(&self, name: &str) -> Result<Bytes, Error> {
        let own = self.find(name).map(|(own, _)| own);
        let bytes = own.and_then(|own| self.documents.get(own)).cloned();
        bytes.ok_or_else(|| {
            let name = crate::error::one_line(name);
            self.refuse(format!("{name} is missing in it, or is no document"))
        })
    }

    /// The error of this archive.
    pub(super) fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::Archive {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    /// A reader of the members' content.
    pub(super) fn reader(&self) -> Reader {
        Reader {
            path: self.path.clone(),
            gzip: self.gzip,
            limit: self.limit,
            open: None,
        }
    }
}

fn packed_with(what: &str) -> String {
    format!("it is packed with {what}; unpack it first, or use gzip")
}

/// The name under which a member is found: plain parts only. Members with other names are
/// nobody's.
fn key(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let name = name.strip_prefix("./").unwrap_or(name);
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    (name.len() <= 512 && name.split('/').all(plain)).then(|| name.to_owned())
}

/// The member that a link means; the engine writes `../<id>/layer.tar` for a layer that it
/// has written already.
fn link_key(name: &str, target: &[u8], kind: EntryType) -> Option<String> {
    let target = std::str::from_utf8(target).ok()?;
    if kind == EntryType::Link {
        return key(target.as_bytes());
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()?),
            "." => {}
            part => parts.push(part),
        }
    }
    key(parts.join("/").as_bytes())
}

/// What may be one of the documents that an archive's form is made of.
fn is_document(name: &str, magic: [u8; 4]) -> bool {
    matches!(magic, [b'{' | b'[', ..])
        && (name.ends_with("json") || name == "repositories" || name.starts_with("blobs/"))
}

fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(FLAGS)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("is not a regular file"))
    }
}

/// Stops a reader after so many bytes, and at a time.
struct Bounded<R> {
    inner: R,
    left: u64,
    until: Instant,
}

impl<R> Bounded<R> {
    fn new(inner: R, left: u64, until: Instant) -> Self {
        Self { inner, left, until }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "unpacked"))?;
        if Instant::now() > self.until {
            return Err(io::Error::other("reading it took too long"));
        }
        Ok(read)
    }
}

enum Open {
    Plain(File),
    Gzip(Box<io::Take<MultiGzDecoder<BufReader<File>>>>, u64),
}

/// Reads members' content. A packed archive is read on from where it is when the next member
/// lies behind, else from its start again.
pub(super) struct Reader {
    path: PathBuf,
    gzip: bool,
    limit: u64,
    open: Option<Open>,
}

impl Reader {
    /// Calls `each` with the content of `length` bytes at `offset`, piece by piece; `each` ends
    /// it early with `false`.
    pub(super) fn read(
        &mut self,
        offset: u64,
        length: u64,
        mut each: impl FnMut(&[u8]) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut open = self.at(offset)?;
        let mut left = length;
        let mut buffer = vec![0; 128 * 1024];
        while left > 0 {
            let most = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let part = buffer.get_mut(..most).unwrap_or_default();
            let read = open.read(part)?;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            left -= read as u64;
            if !each(part.get(..read).unwrap_or_default())? {
                break;
            }
        }
        self.open = Some(open);
        Ok(())
    }

    fn at(&mut self, offset: u64) -> io::Result<Open> {
        match self.open.take() {
            Some(Open::Plain(mut file)) => {
                file.seek(SeekFrom::Start(offset))?;
                Ok(Open::Plain(file))
            }
            Some(Open::Gzip(decoder, at)) if at <= offset => skip(Open::Gzip(decoder, at), offset),
            _ if self.gzip => {
                let decoder = MultiGzDecoder::new(BufReader::new(open(&self.path)?));
                skip(Open::Gzip(Box::new(decoder.take(self.limit)), 0), offset)
            }
            _ => {
                let mut file = open(&self.path)?;
                file.seek(SeekFrom::Start(offset))?;
                Ok(Open::Plain(file))
            }
        }
    }
}

fn skip(mut open: Open, offset: u64) -> io::Result<Open> {
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let Open::Gzip(_, at) = &open else {
            return Ok(open);
        };
        let left = usize::try_from(offset - at).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(open);
        }
        let most = left.min(buffer.len());
        if open.read(buffer.get_mut(..most).unwrap_or_default())? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
    }
}

impl Read for Open {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Gzip(decoder, at) => {
                let read = decoder.read(buffer)?;
                *at += read as u64;
                Ok(read)
            }
        }
    }
}
