//! A layer that is unpacked on its way, to count what becomes of it on a node: the sizes in a manifest and
//! at the end of a gzip stream, and the type of a layer, are what somebody has written there (attack 17).

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use onedock_common::Digest;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::chunk_reader::{Chunk, ChunkReader};
use super::decompress::decompress;
use crate::chunks::Chunks;
use crate::error::Error;
use crate::oci::compression::{Compression, MAGIC};

/// How many chunks wait to be unpacked.
const WAITING: usize = 4;
const BUFFER: usize = 256 * 1024;

/// What the layers of one image unpack to, and the most that they may.
#[derive(Debug, Clone)]
pub(crate) struct Unpacked {
    image: String,
    limit: u64,
    layers: Arc<Mutex<BTreeMap<Digest, Arc<AtomicU64>>>>,
}

impl Unpacked {
    /// Nothing yet. `image` is the name for errors.
    pub(crate) fn new(image: String, limit: u64) -> Self {
        Self {
            image,
            limit,
            layers: Arc::default(),
        }
    }

    /// A layer from its beginning, in place of what was counted of it before.
    fn begin(&self, layer: &Digest) -> Arc<AtomicU64> {
        let count = Arc::<AtomicU64>::default();
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers.insert(layer.clone(), Arc::clone(&count));
        count
    }

    /// Counts one more layer of this digest: members of an archive may be the same when they are packed.
    pub(crate) fn add(&self, layer: &Digest, bytes: u64) -> Result<(), Error> {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = layers.entry(layer.clone()).or_default();
        count.fetch_add(bytes, Ordering::Relaxed);
        drop(layers);
        self.check()
    }

    /// An error when all layers together are too much.
    fn check(&self) -> Result<(), Error> {
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = layers.values().map(|count| count.load(Ordering::Relaxed));
        if counts.fold(0_u64, u64::saturating_add) <= self.limit {
            return Ok(());
        }
        Err(self.too_much())
    }

    /// The error of an image that is too large.
    pub(crate) fn too_much(&self) -> Error {
        Error::Unpacked {
            image: self.image.clone(),
            limit: self.limit,
        }
    }

    /// The most that all layers together may be, in bytes.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Counts a layer that is not sent, because it is there already, with the size that it is known to
    /// have.
    pub(crate) fn charge(&self, layer: &Digest, bytes: u64) -> Result<(), Error> {
        self.begin(layer).store(bytes, Ordering::Relaxed);
        self.check()
    }
}

/// A layer being counted.
pub(crate) struct CountedLayer<C> {
    layer: C,
    feed: Option<mpsc::Sender<Chunk>>,
    counter: Option<JoinHandle<Result<(), Error>>>,
}

impl<C: Chunks> CountedLayer<C> {
    /// Counts a layer, of which the image has as many: an engine unpacks each.
    pub(crate) fn new(layer: C, (digest, times): (&Digest, u64), unpacked: &Unpacked) -> Self {
        let (feed, chunks) = mpsc::channel(WAITING);
        let count = unpacked.begin(digest);
        let unpacked = unpacked.clone();
        let counter = tokio::task::spawn_blocking(move || {
            run(ChunkReader::new(chunks), &count, times, &unpacked)
        });
        Self {
            layer,
            feed: Some(feed),
            counter: Some(counter),
        }
    }

    /// The result of the count, when all was sent or the counter has ended before.
    async fn counted(&mut self) -> Result<(), Error> {
        self.feed = None;
        match self.counter.take() {
            None => Ok(()),
            Some(counter) => counter.await.unwrap_or(Err(Error::Cancelled)),
        }
    }
}

/// Unpacks to the end. How it is packed its first bytes say, by which engines go, too.
fn run(
    mut packed: ChunkReader,
    count: &AtomicU64,
    times: u64,
    unpacked: &Unpacked,
) -> Result<(), Error> {
    let damaged = |source: io::Error| Error::Layer {
        image: unpacked.image.clone(),
        reason: "it cannot be unpacked".to_owned(),
        source: Some(source),
    };
    let mut magic = Vec::new();
    (&mut packed)
        .take(MAGIC as u64)
        .read_to_end(&mut magic)
        .map_err(damaged)?;
    let method = Compression::of(&magic);
    let mut content = decompress(method, Read::chain(Cursor::new(magic), &mut packed));
    let mut buffer = vec![0; BUFFER];
    let failed = loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                let bytes = (read as u64).saturating_mul(times);
                count.fetch_add(bytes, Ordering::Relaxed);
                unpacked.check()?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => break e,
        }
    };
    drop(content);
    // That its bytes are not those of its digest is the better reason, and comes with the last of them.
    let _ = io::copy(&mut packed, &mut io::sink());
    Err(damaged(failed))
}

impl<C: Chunks> Chunks for CountedLayer<C> {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(chunk) = self.layer.next().await? else {
            self.counted().await?;
            return Ok(None);
        };
        let sent = match &self.feed {
            Some(feed) => feed.send(Ok(chunk.clone())).await.is_ok(),
            None => true,
        };
        if !sent {
            self.counted().await?;
        }
        Ok(Some(chunk))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::Write as _;

    use super::*;

    struct Pieces(VecDeque<Bytes>);

    impl Chunks for Pieces {
        async fn next(&mut self) -> Result<Option<Bytes>, Error> {
            Ok(self.0.pop_front())
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn limit(limit: u64) -> Unpacked {
        Unpacked::new("x".into(), limit)
    }

    /// Sends a layer through the counter; how many bytes came out.
    async fn send(packed: &[u8], times: u64, sum: &Unpacked) -> Result<usize, Error> {
        let pieces = packed.chunks(1000).map(Bytes::copy_from_slice).collect();
        let digest = Digest::of(packed);
        let mut layer = CountedLayer::new(Pieces(pieces), (&digest, times), sum);
        let mut length = 0;
        while let Some(chunk) = layer.next().await? {
            length += chunk.len();
        }
        Ok(length)
    }

    #[tokio::test]
    async fn attack_17_a_layer_is_sent_whole_as_long_as_all_of_them_unpack_to_what_is_allowed() {
        let content = vec![7; 300_000];
        let two = [gzip(&content), gzip(&content)].concat();
        let sum = limit(900_000);
        assert_eq!(send(&two, 1, &sum).await.unwrap(), two.len());
        // 300,000 are left.
        let plain = vec![1; 300_000];
        assert_eq!(send(&plain, 1, &sum).await.unwrap(), 300_000);
        let error = send(&[1], 1, &sum).await.unwrap_err();
        assert!(error.to_string().contains("900000"), "{error}");
        let error = send(&two, 1, &limit(599_999)).await.unwrap_err();
        assert!(matches!(error, Error::Unpacked { .. }), "{error}");
        for (times, allowed) in [(2, true), (3, false)] {
            let sent = send(&content, times, &limit(600_000)).await;
            assert_eq!(sent.is_ok(), allowed, "{times}");
        }
    }

    #[tokio::test]
    async fn a_layer_that_is_sent_once_more_counts_once() {
        let packed = gzip(&vec![7; 300_000]);
        let sum = limit(300_000);
        for _ in 0..2 {
            send(&packed, 1, &sum).await.unwrap();
        }
        sum.charge(&Digest::of(&packed), 300_000).unwrap();
        assert!(sum.charge(&Digest::of(b"other"), 1).is_err());
        let sum = limit(100);
        sum.add(&Digest::of(b"same"), 50).unwrap();
        sum.add(&Digest::of(b"same"), 50).unwrap();
        assert!(sum.add(&Digest::of(b"same"), 1).is_err());
    }

    #[tokio::test]
    async fn attack_17_what_cannot_be_unpacked_to_its_end_is_refused() {
        let packed = gzip(&vec![7; 300_000]);
        let damaged = [&packed[..packed.len() / 2], &[0xff; 5000]].concat();
        // A bit of the header that is reserved, which some unpackers pass over.
        let mut flags = packed.clone();
        flags[3] |= 0x20;
        for bytes in [damaged, flags, packed[..packed.len() - 1].to_vec()] {
            let error = send(&bytes, 1, &limit(1 << 30)).await.unwrap_err();
            assert!(error.to_string().contains("cannot be unpacked"), "{error}");
        }
    }
}
