//! A disk's file on this machine: its holes found, its pieces packed, and written again with
//! holes. All of it blocks and runs on threads of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzDecoder, GzEncoder};
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use onedock_common::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::chunks::{Pieces, Stop};
use crate::disk::manifest::{PIECE, PIECE_TYPE, PIECES, piece_length};
use crate::error::Error;
use crate::layer::stream::{LEVEL, Outlet};
use crate::oci::manifest::Descriptor;

/// How much is read at once, in bytes.
const STEP: usize = 1 << 20;
/// What is left out where it is zero when a piece is written, in bytes: a block of any file
/// system here.
const BLOCK: usize = 4096;
static ZEROS: [u8; STEP] = [0; STEP];

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(STEP).all(|part| ZEROS.starts_with(part))
}

/// A file that must not change while it is read.
#[derive(Debug)]
pub(crate) struct DiskFile {
    file: File,
    /// What the file has, in bytes.
    stored: u64,
    /// What the disk has: the rest are zeros.
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

    /// Takes it for a longer one, whose end is zeros.
    pub(crate) fn extend(&mut self, length: u64) {
        self.length = self.length.max(length);
    }

    /// Whether it is as it was when it was opened.
    pub(crate) fn is_unchanged(&self) -> io::Result<bool> {
        let meta = self.file.metadata()?;
        Ok(meta.len() == self.stored && (meta.mtime(), meta.mtime_nsec()) == self.modified)
    }

    /// Where pieces begin that are no holes; `None` when they are too many.
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

    /// Where the next bytes are that are no hole; the file's length when there are none. A file
    /// system that knows no holes has bytes everywhere.
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
    fn pack(&self, offset: u64, sender: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
        let mut packed = GzEncoder::new(Outlet::new(sender), Compression::new(LEVEL));
        self.read(offset, |step| packed.write_all(step))?;
        packed.finish()?.hand_over()
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

/// A piece being packed on a thread of its own, on its way to the registry.
pub(crate) struct PackedPiece {
    path: PathBuf,
    packed: mpsc::Receiver<io::Result<Bytes>>,
    hasher: Sha256,
    size: u64,
    stop: Stop,
}

impl PackedPiece {
    /// `path` is for messages.
    pub(crate) fn open(disk: &Arc<DiskFile>, path: &Path, offset: u64, stop: &Stop) -> Self {
        let (sender, packed) = mpsc::channel(2);
        let disk = Arc::clone(disk);
        tokio::task::spawn_blocking(move || {
            if let Err(e) = disk.pack(offset, &sender) {
                drop(sender.blocking_send(Err(e)));
            }
        });
        Self {
            path: path.to_owned(),
            packed,
            hasher: Sha256::new(),
            size: 0,
            stop: stop.clone(),
        }
    }

    /// What was sent.
    pub(crate) fn finished(self) -> Descriptor {
        Descriptor::new(PIECE_TYPE, self.size, Digest::from_hasher(self.hasher))
    }
}

impl Pieces for PackedPiece {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.stop.is_wanted() {
            return Err(Error::Stopped);
        }
        let piece = self.packed.recv().await.transpose();
        let piece = piece.map_err(|source| Error::File {
            path: self.path.clone(),
            source,
        })?;
        if let Some(piece) = &piece {
            self.hasher.update(piece);
            self.size += piece.len() as u64;
        }
        Ok(piece)
    }
}

/// A file that is being written; it is removed unless it was kept.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl NewFile {
    /// Makes the file, all holes.
    pub(crate) fn make(path: &Path, length: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o660)
            .open(path)?;
        let new = Self {
            path: path.to_owned(),
            file,
            kept: false,
        };
        new.file.set_len(length)?;
        Ok(new)
    }

    /// One more handle of it, for another thread.
    pub(crate) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Synchronises it to its storage, and keeps it.
    pub(crate) fn keep(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "an unfinished disk stays");
        }
    }
}

/// Why a piece was not written.
#[derive(Debug)]
pub(crate) enum Unpack {
    /// What came is not a piece of this length.
    Damaged,
    /// The file cannot be written.
    Write(io::Error),
}

/// Writes the piece that comes packed, of exactly `length` bytes, to `offset`.
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
    while let Some(piece) = packed.blocking_recv() {
        good = good && decoder.write_all(&piece).is_ok();
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
