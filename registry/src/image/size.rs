//! The unpacked size of an image in a registry, without a pull: the rule and its reasons are in
//! `docs/decisions/0003-image-size.md`.

use std::io::{self, Write};
use std::time::Duration;

use flate2::write::MultiGzDecoder;
use onedock_common::types::reference::Reference;
use tokio::time::{Instant, timeout_at};

use crate::blocking::blocking;
use crate::chunks::Chunks as _;
use crate::client::{Client, repository_of};
use crate::error::Error;
use crate::layer::decompress::decompress;
use crate::layer::size::{
    GZIP_ESTIMATE, Size, ZSTD_ESTIMATE, estimated, from_gzip_trailer, from_zstd_header,
    has_several_members, known,
};
use crate::oci::compression::Compression;
use crate::oci::descriptor::Descriptor;
use crate::oci::manifest::ImageManifest;
use crate::oci::platform::Platform;
use crate::repository::remote::RemoteRepository;

/// Smaller layers are fetched and unpacked to learn their size, in bytes: a request that brings
/// the last four of them takes as long. Unpacked it is 66 MB at most.
const SMALL: u64 = 64 * 1024;
/// How long the layers of several gzip members of one image are downloaded at most to count them;
/// `oned` waits 90 s for the size of an image.
const COUNTING: Duration = Duration::from_secs(40);

impl Client {
    /// The unpacked size of an image for a platform, found without a pull.
    pub async fn unpacked_size(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Size, Error> {
        let what = format!("to measure {reference}");
        self.at(&repository_of(reference), &what, async |repository| {
            let image = self.image(&repository, reference, platform).await?;
            repository.unpacked_size(&image).await
        })
        .await
    }
}

/// Counts what is written into it.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl RemoteRepository {
    /// The unpacked size of an image: one or two small requests a layer; a layer that shows
    /// several gzip members is downloaded.
    pub(crate) async fn unpacked_size(&self, image: &ImageManifest) -> Result<Size, Error> {
        let mut sum = Size::EMPTY;
        let until = self.counting();
        for layer in &image.layers {
            sum = sum.plus(self.layer_size(layer, until).await?);
        }
        Ok(sum)
    }

    /// Until when layers are counted. All of the call's time would leave none for the estimate.
    fn counting(&self) -> Instant {
        let now = Instant::now();
        now + COUNTING.min((self.deadline.at() - now) * 2 / 3)
    }

    /// The unpacked size of one layer.
    pub(super) async fn layer_size_in_time(&self, layer: &Descriptor) -> Result<Size, Error> {
        self.layer_size(layer, self.counting()).await
    }

    async fn layer_size(&self, layer: &Descriptor, until: Instant) -> Result<Size, Error> {
        let compression = layer.compression().map_err(|reason| self.refuse(reason))?;
        Ok(match compression {
            Some(Compression::None) => known(layer.size),
            Some(Compression::Gzip) if layer.size <= SMALL => self.small_layer_size(layer).await?,
            Some(Compression::Gzip) => self.large_layer_size(layer, until).await?,
            Some(_) => {
                let header = self.range(&layer.digest, 0, layer.size.min(18)).await?;
                from_zstd_header(layer.size, &header.unwrap_or_default())
            }
            None => match Compression::of(&self.first_bytes(layer).await?) {
                Compression::None => known(layer.size),
                _ => estimated(layer.size.saturating_mul(ZSTD_ESTIMATE)),
            },
        })
    }

    /// The size of a gzip layer that is unpacked for it: the trailer counts the last of several
    /// members only.
    async fn small_layer_size(&self, layer: &Descriptor) -> Result<Size, Error> {
        let Some(packed) = self.range(&layer.digest, 0, layer.size).await? else {
            return Ok(from_gzip_trailer(layer.size, None));
        };
        let counted = blocking(move || {
            let mut content = decompress(Compression::Gzip, &*packed);
            io::copy(&mut content, &mut io::sink())
        });
        match counted.await {
            Ok(bytes) => Ok(known(bytes)),
            Err(_) => Ok(from_gzip_trailer(layer.size, None)),
        }
    }

    /// The size of a gzip layer that is too large to be fetched for it: from its trailer, unless its
    /// first or its last bytes show that it has several members.
    async fn large_layer_size(&self, layer: &Descriptor, until: Instant) -> Result<Size, Error> {
        let head = self.range(&layer.digest, 0, SMALL).await?;
        let start = layer.size.saturating_sub(SMALL);
        let tail = self.range(&layer.digest, start, SMALL).await?;
        let (Some(head), Some(tail)) = (head, tail) else {
            return Ok(from_gzip_trailer(layer.size, None));
        };
        let trailer = tail.last_chunk().copied();
        let several = blocking(move || Ok(has_several_members(&head, &tail))).await;
        if several.unwrap_or_default() {
            self.counted_size(layer, until).await
        } else {
            Ok(from_gzip_trailer(layer.size, trailer))
        }
    }

    /// The size of a gzip layer, over all its members, which is downloaded for it; an estimate when
    /// that takes too long.
    async fn counted_size(&self, layer: &Descriptor, until: Instant) -> Result<Size, Error> {
        let mut counter = MultiGzDecoder::new(Counter(0));
        let whole = timeout_at(until, async {
            let mut packed = self.download(layer);
            while let Some(chunk) = packed.next().await? {
                if counter.write_all(&chunk).is_err() {
                    return Ok(false);
                }
            }
            Ok(counter.try_finish().is_ok())
        });
        let whole = whole.await.unwrap_or(Ok(false))?;
        let counted = counter.get_ref().0;
        Ok(match whole {
            true => known(counted),
            false => estimated(counted.max(layer.size.saturating_mul(GZIP_ESTIMATE))),
        })
    }
}
