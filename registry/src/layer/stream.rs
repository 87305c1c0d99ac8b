//! A layer on its way from a stream to the registry: looked at, packed on a thread of its own,
//! handed over piece by piece. Reading, packing and sending overlap.

use std::io::{self, Write};
use std::mem;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use onedock_common::Digest;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;

use crate::chunks::Pieces;
use crate::error::Error;
use crate::layer::gzip::Gzip;
use crate::layer::tar_end::TarEnd;
use crate::oci::manifest::Descriptor;

/// The fastest: a VM waits while its changes are packed. Engines of version 20.10 read no zstd.
pub(crate) const LEVEL: u32 = 1;
/// How large the pieces are, in bytes.
const PIECE: usize = 256 * 1024;
/// How many pieces wait before and behind the packer.
const WAITING: usize = 4;

type Reader<'a> = Pin<Box<dyn AsyncRead + Send + 'a>>;

/// A layer being packed.
pub(crate) struct LayerStream<'a> {
    /// The image, for messages.
    image: String,
    /// `None` at the end of the archive.
    reader: Option<Reader<'a>>,
    end: TarEnd,
    /// What was read and not handed to the packer yet.
    ahead: Vec<Bytes>,
    feed: Option<mpsc::Sender<Bytes>>,
    packed: mpsc::Receiver<io::Result<Bytes>>,
    room: BytesMut,
    plain: Sha256,
    hasher: Sha256,
    size: u64,
    /// What the image's other layers have, and the most that all may have, in bytes.
    others: u64,
    limit: u64,
    whole: bool,
}

/// A layer that was packed and sent.
pub(crate) struct PackedLayer {
    pub(crate) blob: Descriptor,
    pub(crate) diff_id: Digest,
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
        let mut layer = Self {
            image,
            reader: Some(Box::pin(reader)),
            end: TarEnd::new(),
            ahead: Vec::new(),
            feed: Some(feed),
            packed,
            room: BytesMut::new(),
            plain: Sha256::new(),
            hasher: Sha256::new(),
            size: 0,
            others,
            limit,
            whole: false,
        };
        while layer.end.entries() == 0 {
            if layer.reader.is_none() {
                return Ok(None);
            }
            layer.read().await?;
        }
        tokio::task::spawn_blocking(move || {
            if let Err(e) = pack(plain, &sender) {
                drop(sender.blocking_send(Err(e)));
            }
        });
        Ok(Some(layer))
    }

    /// Reads one piece; nothing is lost when this is dropped while it waits.
    async fn read(&mut self) -> Result<(), Error> {
        let Some(reader) = &mut self.reader else {
            return Ok(());
        };
        self.room.reserve(PIECE);
        let read = reader.read_buf(&mut self.room).await;
        let read = read.map_err(|source| Error::Layer {
            image: self.image.clone(),
            reason: "its archive cannot be read".to_owned(),
            source: Some(source),
        })?;
        if read == 0 {
            self.reader = None;
            return self.end.finish().map_err(|reason| self.refuse(reason));
        }
        let piece = self.room.split().freeze();
        let passed = self.end.pass(&piece);
        passed.map_err(|reason| self.refuse(reason))?;
        self.plain.update(&piece);
        self.ahead.push(piece);
        Ok(())
    }

    fn refuse(&self, reason: String) -> Error {
        Error::Layer {
            image: self.image.clone(),
            reason,
            source: None,
        }
    }

    /// What was sent, of this media type.
    pub(crate) fn finished(self, media_type: &str) -> Result<PackedLayer, Error> {
        if !self.whole {
            return Err(self.refuse("its packing ended early".to_owned()));
        }
        Ok(PackedLayer {
            blob: Descriptor::new(media_type, self.size, Digest::from_hasher(self.hasher)),
            diff_id: Digest::from_hasher(self.plain),
        })
    }

    fn accept(&mut self, piece: Option<io::Result<Bytes>>) -> Result<Option<Bytes>, Error> {
        match piece {
            None if self.reader.is_none() && self.ahead.is_empty() => {
                self.whole = true;
                Ok(None)
            }
            None => Err(self.refuse("its packing ended early".to_owned())),
            Some(Err(source)) => Err(Error::Layer {
                image: self.image.clone(),
                reason: "it cannot be packed".to_owned(),
                source: Some(source),
            }),
            Some(Ok(piece)) => {
                self.size += piece.len() as u64;
                if self.others.saturating_add(self.size) > self.limit {
                    let limit = self.limit;
                    return Err(
                        self.refuse(format!("the image would have more than {limit} bytes"))
                    );
                }
                self.hasher.update(&piece);
                Ok(Some(piece))
            }
        }
    }
}

impl Pieces for LayerStream<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.ahead.is_empty() {
                if self.reader.is_none() {
                    self.feed = None;
                    let piece = self.packed.recv().await;
                    return self.accept(piece);
                }
                // Packed pieces go first, so that the other side never waits for this one.
                if let Ok(piece) = self.packed.try_recv() {
                    return self.accept(Some(piece));
                }
                self.read().await?;
                continue;
            }
            let Some(feed) = &self.feed else {
                return Err(self.refuse("its packing ended early".to_owned()));
            };
            let packed = tokio::select! {
                biased;
                room = feed.reserve() => {
                    if let Ok(room) = room {
                        room.send(self.ahead.remove(0));
                        continue;
                    }
                    // The packer has ended; what it says of it comes last.
                    None
                }
                piece = self.packed.recv() => piece,
            };
            return self.accept(packed);
        }
    }
}

/// Packs what comes until it ends.
fn pack(
    mut plain: mpsc::Receiver<Bytes>,
    packed: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let mut gzip = Gzip::new(Outlet::new(packed), LEVEL)?;
    while let Some(piece) = plain.blocking_recv() {
        gzip.write(&piece)?;
    }
    gzip.finish()?.hand_over()
}

/// Hands pieces over to the other side; an error when nobody listens any more.
pub(crate) struct Outlet<'a> {
    sender: &'a mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl<'a> Outlet<'a> {
    pub(crate) fn new(sender: &'a mpsc::Sender<io::Result<Bytes>>) -> Self {
        Self {
            sender,
            buffer: Vec::with_capacity(PIECE),
        }
    }

    pub(crate) fn hand_over(&mut self) -> io::Result<()> {
        let piece = mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        if piece.is_empty() {
            return Ok(());
        }
        self.sender
            .blocking_send(Ok(Bytes::from(piece)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

impl Write for Outlet<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.hand_over()?;
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
