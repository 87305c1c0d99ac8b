//! A layer from a registry, packed again with gzip on its way to another. Engines before 23.0 read
//! no zstd (`docs/decisions/0020-what-every-engine-takes.md`).

use std::io::{self, Cursor, Read};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::chunk_reader::ChunkReader;
use super::chunk_writer::ChunkWriter;
use super::decompress::decompress;
use super::packer::{PackedLayer, Packer, pack};
use crate::chunks::Chunks;
use crate::error::Error;
use crate::oci::compression::{Compression, MAGIC};

/// How many chunks of the download wait for the packer.
const WAITING: usize = 4;

/// A layer being packed again.
pub(crate) struct RecompressedLayer {
    packer: Packer<PackedLayer>,
    _feeder: Feeder,
    image: String,
}

/// The task that feeds the packer; it ends with the layer.
struct Feeder(JoinHandle<()>);

impl Drop for Feeder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RecompressedLayer {
    /// Reads a download to its end, where it verifies itself. The layer gets this media type.
    /// Unpacked it has at most `limit` bytes. `image` is the name for errors.
    pub(crate) fn open(
        mut download: impl Chunks + 'static,
        image: &str,
        limit: u64,
        media_type: &'static str,
    ) -> Self {
        let (feed, chunks) = mpsc::channel(WAITING);
        let feeder = tokio::spawn(async move {
            while let Some(chunk) = download.next().await.transpose() {
                let last = chunk.is_err();
                if feed.send(chunk).await.is_err() || last {
                    return;
                }
            }
        });
        let name = image.to_owned();
        let packer = Packer::spawn(move |writer| {
            let mut reader = ChunkReader::new(chunks);
            let packed = repack(&mut reader, writer, limit, media_type);
            match (reader.failed, packed) {
                (None, Ok(packed)) => Ok(packed),
                (Some(error), _) => Err(error),
                (None, Err(source)) => Err(Error::Layer {
                    image: name,
                    reason: "it cannot be unpacked".to_owned(),
                    source: Some(source),
                }),
            }
        });
        Self {
            packer,
            _feeder: Feeder(feeder),
            image: image.to_owned(),
        }
    }

    /// What was uploaded, when it was uploaded to its end.
    pub(crate) fn finished(self) -> Result<PackedLayer, Error> {
        self.packer.finished().ok_or(Error::Layer {
            image: self.image,
            reason: "its packing ended early".to_owned(),
            source: None,
        })
    }
}

impl Chunks for RecompressedLayer {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.packer.next().await
    }
}

fn repack(
    reader: &mut ChunkReader,
    writer: ChunkWriter<Error>,
    limit: u64,
    media_type: &str,
) -> io::Result<PackedLayer> {
    let mut magic = Vec::new();
    reader.take(MAGIC as u64).read_to_end(&mut magic)?;
    let method = Compression::of(&magic);
    let stream = Read::chain(Cursor::new(magic), &mut *reader);
    let packed = pack(&mut *decompress(method, stream), writer, limit, media_type)?;
    // A stream may end before its blob does, whose last chunk verifies it.
    io::copy(reader, &mut io::sink())?;
    Ok(packed)
}
