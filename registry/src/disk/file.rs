//! A disk's file on this machine: where its data is, its pieces packed, and written again with
//! holes. All of it blocks and runs on threads of its own.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzDecoder, GzEncoder};
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use onedock_common::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::manifest::{PIECE, PIECE_TYPE, PIECES, piece_length};
use crate::error::Error;
use crate::layer::chunk_writer::{ChunkWriter, HashWriter};
use crate::layer::stream::LEVEL;
use crate::oci::descriptor::Descriptor;

/// How much is read at once, in bytes.
const STEP: usize = 1 << 20;
/// Blocks of zeros of this size are not written, in bytes: a block of any file system here.
const BLOCK: usize = 4096;
static ZEROS: [u8; STEP] = [0; STEP];

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(STEP).all(|part| ZEROS.starts_with(part))
}

/// A file that must not change while it is read.
#[derive(Debug)]
pub(crate) struct DiskFile {
    file: File,
    /// The length of the file, in bytes.
    stored: u64,
    /// The length of the disk, in bytes: the rest are zeros.
    pub(crate) length: u64,
    modified: (i64, i64),
}

impl DiskFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
        }
        Ok(Self {
            stored: meta.len(),
            length: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            file,
        })
    }

    /// Makes the disk longer than its file, with zeros at the end.
    pub(crate) fn extend(&mut self, length: u64) {
        self.length = self.length.max(length);
    }

    /// Whether it is as it was when it was opened.
    pub(crate) fn is_unchanged(&self) -> io::Result<bool> {
        let meta = self.file.metadata()?;
        Ok(meta.len() == self.stored && (meta.mtime(), meta.mtime_nsec()) == self.modified)
    }

    /// The offsets of the pieces that have data; `None` when they are too many.
    pub(crate) fn pieces(&self) -> io::Result<Option<Vec<u64>>> {
        let (mut found, mut at) = (Vec::new(), 0);
        while at < self.length {
            let data = self.data_from(at)?;
            if data >= self.length {
                break;
            }
            let offset = data / PIECE * PIECE;
            if found.len() == PIECES {
                return Ok(None);
            }
            found.push(offset);
            at = offset + PIECE;
        }
        Ok(Some(found))
    }

    /// The offset of the next data; the file's length when there is none. A file system without
    /// holes has data everywhere.
    fn data_from(&self, at: u64) -> io::Result<u64> {
        let Ok(from) = i64::try_from(at) else {
            return Ok(self.length);
        };
        if at >= self.stored {
            return Ok(self.length);
        }
        match lseek(&self.file, from, Whence::SeekData) {
            Ok(found) => Ok(u64::try_from(found).unwrap_or(at).max(at)),
            Err(Errno::ENXIO) => Ok(self.length),
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(at),
            Err(e) => Err(e.into()),
        }
    }

    /// The digest of the piece at `offset`; `None` when it is all zeros.
    pub(crate) fn content(&self, offset: u64) -> io::Result<Option<Digest>> {
        let (mut hasher, mut zero) = (Sha256::new(), true);
        self.read(offset, |step| {
            zero = zero && is_zero(step);
            hasher.update(step);
            Ok(())
        })?;
        Ok((!zero).then(|| Digest::from_hasher(hasher)))
    }

    /// Packs the piece at `offset`. The same bytes give the same packed bytes.
    pub(crate) fn pack(&self, offset: u64, chunks: ChunkWriter<Error>) -> io::Result<Descriptor> {
        let packed = HashWriter::new(chunks, u64::MAX);
        let mut packed = GzEncoder::new(packed, Compression::new(LEVEL));
        self.read(offset, |step| packed.write_all(step))?;
        let (size, digest) = packed.finish()?.finish()?;
        Ok(Descriptor::new(PIECE_TYPE, size, digest))
    }

    /// Reads the piece at `offset`, holes as the zeros that they are.
    fn read(&self, offset: u64, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let end = offset + piece_length(offset, self.length);
        let mut at = offset;
        let mut buffer = vec![0; STEP];
        while at < end {
            let data = self.data_from(at)?.min(end);
            while at < data {
                let hole = usize::try_from(data - at).unwrap_or(STEP).min(STEP);
                each(ZEROS.get(..hole).unwrap_or(&ZEROS))?;
                at += hole as u64;
            }
            let left = end.min(self.stored).saturating_sub(at);
            let length = usize::try_from(left).unwrap_or(STEP).min(STEP);
            let step = buffer.get_mut(..length).unwrap_or_default();
            self.file.read_exact_at(step, at)?;
            each(step)?;
            at += length as u64;
        }
        Ok(())
    }
}

/// Why a piece was not written.
#[derive(Debug)]
pub(crate) enum Unpack {
    /// The chunks are not a piece of this length.
    Damaged,
    /// The file cannot be written.
    Write(io::Error),
}

/// Writes a packed piece, of exactly `length` bytes, to `offset`.
pub(crate) fn unpack(
    mut packed: mpsc::Receiver<Bytes>,
    file: &File,
    offset: u64,
    length: u64,
) -> Result<(), Unpack> {
    let writer = PieceWriter {
        file,
        at: offset,
        end: offset + length,
        failed: None,
    };
    let mut decoder = GzDecoder::new(writer);
    let mut good = true;
    while let Some(chunk) = packed.blocking_recv() {
        good = good && decoder.write_all(&chunk).is_ok();
    }
    good = good && decoder.try_finish().is_ok();
    let writer = decoder.get_mut();
    match writer.failed.take() {
        Some(e) => Err(Unpack::Write(e)),
        None if good && writer.at == writer.end => Ok(()),
        None => Err(Unpack::Damaged),
    }
}

/// Writes what is not zero.
struct PieceWriter<'a> {
    file: &'a File,
    at: u64,
    end: u64,
    failed: Option<io::Error>,
}

impl Write for PieceWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.end - self.at {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        for block in bytes.chunks(BLOCK) {
            if !is_zero(block)
                && let Err(e) = self.file.write_all_at(block, self.at)
            {
                let kind = e.kind();
                self.failed = Some(e);
                return Err(kind.into());
            }
            self.at += block.len() as u64;
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
