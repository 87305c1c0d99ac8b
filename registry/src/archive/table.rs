//! The members of an archive: the offset of each, and the small ones' content.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, Read, Seek as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use tar::EntryType;

use super::member::{Member, Reader, open};
use super::sparse;
use crate::error::{Error, cannot_read, one_line};
use crate::layer::decompress::{Bounded, decompress};
use crate::oci::compression::{Compression, MAGIC};
use crate::oci::manifest::CONFIG_LIMIT;

/// The most members of an archive.
const MEMBERS: usize = 100_000;
/// How many bytes of likely documents are cached at the first reading of an archive.
const CACHED: u64 = 64 << 20;
/// How often a packed archive is read again for a document that was not cached.
const AGAIN: u32 = 32;
/// How many links lead to a member at most.
const LINKS: usize = 4;
/// What some editors and shells put before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[derive(Debug)]
enum Entry {
    Member(Member),
    Link(String),
}

/// An old GNU entry whose map goes on behind its header: known when that was read.
struct Continued {
    name: String,
    header: tar::Header,
    offset: u64,
    size: u64,
}

/// An archive's table.
pub(super) struct Table {
    path: PathBuf,
    compression: Compression,
    limit: u64,
    until: Instant,
    entries: BTreeMap<String, Entry>,
    continued: Vec<Continued>,
    /// Documents that were found at the first reading. A packed archive is not read again for them.
    cached: BTreeMap<String, Bytes>,
    reader: RefCell<Reader>,
    again: Cell<u32>,
}

impl Table {
    /// Reads the table. At most `limit` bytes of the unpacked archive are read, and only until
    /// `until`.
    pub(super) fn read(path: &Path, limit: u64, until: Instant) -> Result<Self, Error> {
        let failed = cannot_read(path);
        let mut file = open(path).map_err(failed)?;
        let mut magic = [0; MAGIC];
        let read = fill(&mut file, &mut magic).map_err(failed)?;
        file.rewind().map_err(failed)?;
        let compression = Compression::of(magic.get(..read).unwrap_or_default());
        let mut table = Self {
            path: path.to_owned(),
            compression,
            limit,
            until,
            entries: BTreeMap::new(),
            continued: Vec::new(),
            cached: BTreeMap::new(),
            reader: RefCell::new(Reader::new(path, compression, limit)),
            again: Cell::new(0),
        };
        if compression == Compression::None {
            let length = file.metadata().map_err(failed)?.len();
            if length > limit {
                return Err(table.refuse(format!(
                    "it has {length} bytes, at most {limit} are supported"
                )));
            }
            table.scan(tar::Archive::new(file).entries_with_seek(), length)?;
        } else {
            let reader = Bounded::new(decompress(compression, file), limit, until);
            table.scan(tar::Archive::new(reader).entries(), u64::MAX)?;
        }
        for entry in std::mem::take(&mut table.continued) {
            table.add_continued(entry)?;
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
                // The kinds of `Bounded`.
                io::ErrorKind::FileTooLarge => "unpacked it is larger than is supported".to_owned(),
                io::ErrorKind::TimedOut => "reading it took too long".to_owned(),
                kind => format!("it is no tar archive, or it is damaged ({kind})"),
            },
        };
        let mut left = CACHED;
        for entry in entries.map_err(&damaged)? {
            let mut entry = entry.map_err(&damaged)?;
            if Instant::now() > self.until {
                return Err(self.refuse("reading it took too long"));
            }
            if self.entries.len() + self.continued.len() >= MEMBERS {
                return Err(self.refuse(format!("it has more than {MEMBERS} members")));
            }
            let kind = entry.header().entry_type();
            let holes = pax(&mut entry).map_err(&damaged)?;
            let name = match &holes {
                Some(sparse::Pax {
                    name: Some(name), ..
                }) => key(name.as_bytes()),
                _ => key(&entry.path_bytes()),
            };
            let Some(name) = name else {
                continue;
            };
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
            let (offset, size) = (entry.raw_file_position(), entry.size());
            let member = match (kind, holes) {
                (EntryType::GNUSparse, _) => {
                    self.continued.push(Continued {
                        header: entry.header().clone(),
                        name,
                        offset,
                        size,
                    });
                    continue;
                }
                (EntryType::Regular | EntryType::Continuous, None) => {
                    Member::whole(offset, size, Compression::None)
                }
                (EntryType::Regular | EntryType::Continuous, Some(holes)) => {
                    let map = holes.map(offset, size, &mut entry).map_err(&damaged)?;
                    self.add_sparse(name, map)?;
                    continue;
                }
                _ => continue,
            };
            if offset.checked_add(size).is_none_or(|end| end > length) {
                return Err(self.refuse("it is cut off"));
            }
            let mut magic = [0; MAGIC];
            let got = fill(&mut entry, &mut magic).map_err(&damaged)?;
            let magic = magic.get(..got).unwrap_or_default();
            if self.compression != Compression::None && looks_like_json(magic) && size <= left {
                left -= size;
                let mut bytes = magic.to_vec();
                entry.read_to_end(&mut bytes).map_err(&damaged)?;
                self.cached.insert(name.clone(), Bytes::from(bytes));
            } else {
                // There may be another member of the same name before: the last one counts.
                self.cached.remove(&name);
            }
            let compression = Compression::of(magic);
            self.entries.insert(
                name,
                Entry::Member(Member {
                    compression,
                    ..member
                }),
            );
        }
        Ok(())
    }

    fn add_continued(&mut self, entry: Continued) -> Result<(), Error> {
        let Continued {
            name,
            header,
            offset,
            size,
        } = entry;
        // As many blocks as the archive has: the map itself has an end.
        let blocks = Member::whole(offset, u64::MAX - offset, Compression::None);
        let Some(header) = header.as_gnu() else {
            return Ok(());
        };
        let map = {
            let mut reader = self.reader.borrow_mut();
            sparse::old_gnu(header, offset, size, &mut reader.member(&blocks))
        };
        let map = map.map_err(|e| self.unreadable(&name, &e))?;
        self.add_sparse(name, map)
    }

    fn add_sparse(&mut self, name: String, map: sparse::Map) -> Result<(), Error> {
        // Holes cost nothing in the archive, and all the more behind it.
        if map.size > self.limit {
            return Err(self.refuse("unpacked it is larger than is supported"));
        }
        let mut member = Member {
            size: map.size,
            parts: map.parts,
            compression: Compression::None,
        };
        let mut magic = [0; MAGIC];
        let read = fill(&mut self.reader.borrow_mut().member(&member), &mut magic);
        let read = read.map_err(|e| self.unreadable(&name, &e))?;
        member.compression = Compression::of(magic.get(..read).unwrap_or_default());
        self.cached.remove(&name);
        self.entries.insert(name, Entry::Member(member));
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
        let shown = one_line(name);
        let Some((own, member)) = self.find(name) else {
            return Err(self.refuse(format!("{shown} is missing in it")));
        };
        if member.size > CONFIG_LIMIT {
            let size = member.size;
            return Err(self.refuse(format!(
                "its {shown} has {size} bytes, and a document has at most {CONFIG_LIMIT}"
            )));
        }
        if let Some(cached) = self.cached.get(own) {
            return Ok(cached.clone());
        }
        self.again.set(self.again.get() + 1);
        let packed = self.compression != Compression::None;
        if Instant::now() > self.until || packed && self.again.get() > AGAIN {
            return Err(self.refuse("reading its documents took too long"));
        }
        let mut bytes = Vec::new();
        let read = self
            .reader
            .borrow_mut()
            .member(member)
            .read_to_end(&mut bytes);
        read.map_err(|e| self.unreadable(name, &e))?;
        Ok(Bytes::from(bytes))
    }

    /// A document that nothing names by a digest, without the mark that may stand before it.
    pub(super) fn text(&self, name: &str) -> Result<Bytes, Error> {
        let bytes = self.document(name)?;
        Ok(match bytes.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) => bytes.slice_ref(rest),
            None => bytes,
        })
    }

    fn unreadable(&self, name: &str, error: &io::Error) -> Error {
        self.refuse(format!(
            "{} cannot be read ({})",
            one_line(name),
            error.kind()
        ))
    }

    /// The error of this archive.
    pub(super) fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::Archive {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    /// A reader of the members' content.
    pub(super) fn into_reader(self) -> Reader {
        self.reader.into_inner()
    }
}

/// The name under which a member is found, without what leads from the root or the present folder
/// to it. A name with a way upwards is ignored.
fn key(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let parts: Vec<&str> = name
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let good = name.len() <= 512 && !parts.is_empty() && !parts.contains(&"..");
    good.then(|| parts.join("/"))
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

/// Whether a member may be a document, by its first bytes.
fn looks_like_json(beginning: &[u8]) -> bool {
    let text = beginning.strip_prefix(BYTE_ORDER_MARK).unwrap_or(beginning);
    matches!(text.trim_ascii_start(), [b'{' | b'[', ..])
}

/// The holes in the PAX header of an entry.
fn pax<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Option<sparse::Pax>> {
    let Some(headers) = entry.pax_extensions()? else {
        return Ok(None);
    };
    let headers: Vec<_> = headers.collect::<io::Result<_>>()?;
    let texts = headers
        .iter()
        .filter_map(|header| Some((header.key().ok()?, header.value().ok()?)));
    sparse::Pax::of(texts)
}

/// Reads until the buffer is full or the end has come.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest)? {
            0 => break,
            read => got += read,
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests;
