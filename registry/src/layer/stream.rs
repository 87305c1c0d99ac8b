//! A layer on its way from a stream to the registry: its tar archive is checked, packed on a thread
//! of its own, and uploaded in chunks. Reading, packing and uploading overlap.

use std::io::{self, Write as _};
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use onedock_common::Digest;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::{mpsc, oneshot};

use super::chunk_writer::{CHUNK, ChunkWriter};
use super::gzip::Gzip;
use super::packer::PackedLayer;
use super::tar_check::TarCheck;
use crate::chunks::Chunks;
use crate::error::Error;
use crate::oci::descriptor::Descriptor;

/// The fastest: a VM waits while its changes are packed. Engines of version 20.10 read no zstd.
pub(crate) const LEVEL: u32 = 1;
/// How many chunks wait before and behind the packer.
const WAITING: usize = 4;

type Reader<'a> = Pin<Box<dyn AsyncRead + Send + 'a>>;

/// A layer being packed.
pub(crate) struct LayerStream<'a> {
    /// The image, for messages.
    image: String,
    /// `None` at the end of the archive.
    reader: Option<Reader<'a>>,
    tar: TarCheck,
    /// What was read and not given to the packer yet.
    ahead: Vec<Bytes>,
    feed: Option<mpsc::Sender<Bytes>>,
    packed: mpsc::Receiver<io::Result<Bytes>>,
    /// Comes when the packer has written all of it; that no more chunk comes may be its failure.
    packed_whole: oneshot::Receiver<()>,
    buffer: BytesMut,
    plain: Sha256,
    unpacked: u64,
    hasher: Sha256,
    size: u64,
    /// What the image's other layers have, and the most that all may have, in bytes.
    others: u64,
    limit: u64,
    whole: bool,
}

impl<'a> LayerStream<'a> {
    /// Reads until there is an entry; `None` when there is none in the whole archive.
    pub(crate) async fn open(
        image: String,
        reader: impl AsyncRead + Send + 'a,
        others: u64,
        limit: u64,
    ) -> Result<Option<Self>, Error> {
        let (feed, plain) = mpsc::channel(WAITING);
        let (sender, packed) = mpsc::channel(WAITING);
        let (all, packed_whole) = oneshot::channel();
        let mut layer = Self {
            image,
            reader: Some(Box::pin(reader)),
            tar: TarCheck::new(),
            ahead: Vec::new(),
            feed: Some(feed),
            packed,
            packed_whole,
            buffer: BytesMut::new(),
            plain: Sha256::new(),
            unpacked: 0,
            hasher: Sha256::new(),
            size: 0,
            others,
            limit,
            whole: false,
        };
        while layer.tar.entries() == 0 {
            if layer.reader.is_none() {
                return Ok(None);
            }
            layer.read().await?;
        }
        tokio::task::spawn_blocking(move || {
            // The mark goes before the last sender does.
            match pack(plain, sender.clone()) {
                Ok(()) => drop(all.send(())),
                Err(e) => drop(sender.blocking_send(Err(e))),
            }
        });
        Ok(Some(layer))
    }

    /// Reads one chunk; nothing is lost when this is dropped while it waits.
    async fn read(&mut self) -> Result<(), Error> {
        let Some(reader) = &mut self.reader else {
            return Ok(());
        };
        self.buffer.reserve(CHUNK);
        let read = reader.read_buf(&mut self.buffer).await;
        let read = read.map_err(|source| Error::Layer {
            image: self.image.clone(),
            reason: "its archive cannot be read".to_owned(),
            source: Some(source),
        })?;
        if read == 0 {
            self.reader = None;
            return self.tar.finish().map_err(|reason| self.refuse(reason));
        }
        let chunk = self.buffer.split().freeze();
        let checked = self.tar.read(&chunk);
        checked.map_err(|reason| self.refuse(reason))?;
        self.plain.update(&chunk);
        self.unpacked += chunk.len() as u64;
        self.ahead.push(chunk);
        Ok(())
    }

    fn refuse(&self, reason: String) -> Error {
        Error::Layer {
            image: self.image.clone(),
            reason,
            source: None,
        }
    }

    /// What was uploaded, of this media type.
    pub(crate) fn finished(self, media_type: &str) -> Result<PackedLayer, Error> {
        if !self.whole {
            return Err(self.refuse("its packing ended early".to_owned()));
        }
        Ok(PackedLayer {
            blob: Descriptor::new(media_type, self.size, Digest::from_hasher(self.hasher)),
            diff_id: Digest::from_hasher(self.plain),
            unpacked: self.unpacked,
        })
    }

    fn accept(&mut self, chunk: Option<io::Result<Bytes>>) -> Result<Option<Bytes>, Error> {
        match chunk {
            None if self.reader.is_none()
                && self.ahead.is_empty()
                && self.packed_whole.try_recv().is_ok() =>
            {
                self.whole = true;
                Ok(None)
            }
            None => Err(self.refuse("its packing ended early".to_owned())),
            Some(Err(source)) => Err(Error::Layer {
                image: self.image.clone(),
                reason: "it cannot be packed".to_owned(),
                source: Some(source),
            }),
            Some(Ok(chunk)) => {
                self.size += chunk.len() as u64;
                if self.others.saturating_add(self.size) > self.limit {
                    let limit = self.limit;
                    return Err(
                        self.refuse(format!("the image would have more than {limit} bytes"))
                    );
                }
                self.hasher.update(&chunk);
                Ok(Some(chunk))
            }
        }
    }
}

impl Chunks for LayerStream<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.ahead.is_empty() {
                if self.reader.is_none() {
                    self.feed = None;
                    let chunk = self.packed.recv().await;
                    return self.accept(chunk);
                }
                // Packed chunks go first, so that the upload never waits for the reading.
                if let Ok(chunk) = self.packed.try_recv() {
                    return self.accept(Some(chunk));
                }
                self.read().await?;
                continue;
            }
            let Some(feed) = &self.feed else {
                return Err(self.refuse("its packing ended early".to_owned()));
            };
            let packed = tokio::select! {
                biased;
                free = feed.reserve() => {
                    if let Ok(free) = free {
                        free.send(self.ahead.remove(0));
                        continue;
                    }
                    // The packer has ended; its error comes last.
                    None
                }
                chunk = self.packed.recv() => chunk,
            };
            return self.accept(packed);
        }
    }
}

/// Packs what comes until it ends.
fn pack(
    mut plain: mpsc::Receiver<Bytes>,
    packed: mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let mut gzip = Gzip::new(ChunkWriter::new(packed), LEVEL)?;
    while let Some(chunk) = plain.blocking_recv() {
        gzip.write(&chunk)?;
    }
    gzip.finish()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive with one empty file.
    fn archive() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_cksum();
        tar.append_data(&mut header, "file", io::empty()).unwrap();
        tar.into_inner().unwrap()
    }

    async fn packed(stops_early: bool) -> Result<PackedLayer, Error> {
        let archive = archive();
        let layer = LayerStream::open("x".into(), archive.as_slice(), 0, 1 << 20).await?;
        let mut layer = layer.unwrap();
        if stops_early {
            // As a packer that panics leaves it.
            layer.packed_whole = oneshot::channel().1;
        }
        while layer.next().await?.is_some() {}
        layer.finished("application/vnd.oci.image.layer.v1.tar+gzip")
    }

    #[tokio::test]
    async fn a_layer_whose_packer_stops_without_its_end_mark_is_never_taken_for_whole() {
        assert!(packed(false).await.is_ok());
        let error = packed(true).await.unwrap_err().to_string();
        assert!(error.contains("its packing ended early"), "{error}");
    }
}
