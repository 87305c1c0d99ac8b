//! The members of an archive: the offsets of their bytes, and a reader of them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::layer::decompress::decompress;
use crate::oci::compression::Compression;

/// O_CLOEXEC | O_NONBLOCK: a FIFO instead of the file must not block.
const FLAGS: i32 = 0o2_000_000 | 0o4000;

/// A run of bytes of a member in the archive. Between two runs are zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Where it begins in the member.
    pub(super) at: u64,
    /// Where it begins in the archive.
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// A regular file in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) size: u64,
    /// In order; one that is not sparse has one.
    pub(super) parts: Vec<Part>,
    pub(super) compression: Compression,
}

impl Member {
    /// A member without holes.
    pub(super) fn whole(offset: u64, size: u64, compression: Compression) -> Self {
        let part = Part {
            at: 0,
            offset,
            length: size,
        };
        Self {
            size,
            parts: vec![part],
            compression,
        }
    }

    /// The offset of its first bytes in the archive.
    pub(super) fn offset(&self) -> u64 {
        self.parts.first().map_or(0, |part| part.offset)
    }
}

/// Opens a regular file.
pub(super) fn open(path: &Path) -> io::Result<File> {
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

enum Source {
    Plain(File),
    Packed(Box<dyn Read + Send>),
}

/// Reads members' content. A packed archive is read on from where it is when the next member
/// lies behind, else from its start again.
pub(super) struct Reader {
    path: PathBuf,
    compression: Compression,
    limit: u64,
    /// With its offset in the archive.
    open: Option<(Source, u64)>,
}

impl Reader {
    /// At most `limit` bytes of the unpacked archive are read.
    pub(super) fn new(path: &Path, compression: Compression, limit: u64) -> Self {
        Self {
            path: path.to_owned(),
            compression,
            limit,
            open: None,
        }
    }

    /// The content of a member.
    pub(super) fn member<'a>(&'a mut self, member: &'a Member) -> MemberReader<'a> {
        MemberReader {
            archive: self,
            member,
            part: 0,
            at: 0,
        }
    }

    /// Reads bytes at an offset of the archive.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let (mut source, mut at) = match self.open.take() {
            Some((Source::Packed(reader), at)) if at <= offset => (Source::Packed(reader), at),
            Some((Source::Plain(file), at)) => (Source::Plain(file), at),
            _ => (self.start()?, 0),
        };
        match &mut source {
            Source::Plain(file) if at != offset => {
                at = file.seek(SeekFrom::Start(offset))?;
            }
            Source::Plain(_) => {}
            Source::Packed(reader) => {
                let ahead = offset - at;
                let skipped = io::copy(&mut reader.by_ref().take(ahead), &mut io::sink())?;
                if skipped < ahead {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                at = offset;
            }
        }
        let read = match &mut source {
            Source::Plain(file) => file.read(buffer)?,
            Source::Packed(reader) => reader.read(buffer)?,
        };
        self.open = Some((source, at + read as u64));
        Ok(read)
    }

    fn start(&self) -> io::Result<Source> {
        let file = open(&self.path)?;
        Ok(match self.compression {
            Compression::None => Source::Plain(file),
            packed => Source::Packed(Box::new(decompress(packed, file).take(self.limit))),
        })
    }
}

/// The content of one member, its holes filled with zeros.
pub(super) struct MemberReader<'a> {
    archive: &'a mut Reader,
    member: &'a Member,
    part: usize,
    at: u64,
}

impl Read for MemberReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = |left: u64| usize::try_from(left).unwrap_or(usize::MAX);
        let left = self.member.size.saturating_sub(self.at);
        let most = length(left).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        while let Some(part) = self.member.parts.get(self.part) {
            if self.at >= part.at + part.length {
                self.part += 1;
                continue;
            }
            if self.at < part.at {
                return Ok(self.zeros(buffer, most.min(length(part.at - self.at))));
            }
            let inside = self.at - part.at;
            let most = most.min(length(part.length - inside));
            let buffer = buffer.get_mut(..most).unwrap_or_default();
            let read = self.archive.read_at(part.offset + inside, buffer)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.at += read as u64;
            return Ok(read);
        }
        Ok(self.zeros(buffer, most))
    }
}

impl MemberReader<'_> {
    fn zeros(&mut self, buffer: &mut [u8], length: usize) -> usize {
        let hole = buffer.get_mut(..length).unwrap_or_default();
        hole.fill(0);
        self.at += length as u64;
        hole.len()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_member_that_the_archive_does_not_have_whole_is_an_error() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"0123456789").unwrap();
        let gzip = gzip.finish().unwrap();
        for (bytes, compression) in [
            (&b"0123456789"[..], Compression::None),
            (&gzip, Compression::Gzip),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            let read = |offset, size| {
                let mut reader = Reader::new(file.path(), compression, 1 << 20);
                let member = Member::whole(offset, size, Compression::None);
                let mut content = String::new();
                let read = reader.member(&member).read_to_string(&mut content);
                read.map(|_| content).map_err(|e| e.kind())
            };
            assert_eq!(read(4, 6).as_deref(), Ok("456789"));
            for (offset, size) in [(4, 7), (10, 1), (11, 1)] {
                assert_eq!(read(offset, size), Err(io::ErrorKind::UnexpectedEof));
            }
        }
    }

    #[test]
    fn members_are_read_in_any_order_from_a_packed_archive() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"0123456789").unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), gzip.finish().unwrap()).unwrap();
        let mut reader = Reader::new(file.path(), Compression::Gzip, 1 << 20);
        for (offset, content) in [(6, "67"), (2, "23"), (4, "45")] {
            let member = Member::whole(offset, 2, Compression::None);
            let mut found = String::new();
            reader.member(&member).read_to_string(&mut found).unwrap();
            assert_eq!(found, content);
        }
    }
}
