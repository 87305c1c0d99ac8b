//! How large a layer is when unpacked, without unpacking it: the rule and its reasons are in
//! `docs/decisions/0003-image-size.md`.

use std::io;

use crate::client::Size;
use crate::compression::{Compression, MAGIC};
use crate::error::Error;
use crate::manifest::{Descriptor, ImageManifest, Packing};
use crate::remote::Remote;

/// What a gzip trailer counts modulo.
const WRAP: u64 = 1 << 32;
/// A tar archive is a whole number of blocks.
const BLOCK: u64 = 512;
/// The most that deflate can expand a byte to.
const DEFLATE_MOST: u64 = 1032;
/// More than this no layer of files is expected to shrink by gzip, times.
const EXPECTED_MOST: u64 = 20;
/// What is taken where nothing tells the size, times the packed size.
const GZIP_ESTIMATE: u64 = 3;
const ZSTD_ESTIMATE: u64 = 4;
/// Smaller layers are fetched and unpacked to learn their size, in bytes: a request that brings
/// the last four of them takes as long. Unpacked it is 66 MB at most.
const SMALL: u64 = 64 * 1024;

impl Size {
    /// Nothing yet.
    pub(crate) const EMPTY: Self = Self {
        bytes: 0,
        exact: true,
    };

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            exact: self.exact && other.exact,
        }
    }
}

fn known(bytes: u64) -> Size {
    Size { bytes, exact: true }
}

fn guess(bytes: u64) -> Size {
    Size {
        bytes,
        exact: false,
    }
}

/// The size of what a gzip stream of `packed` bytes holds, from the last four of them: the
/// length modulo 2^32, of the last member only when there are several.
pub(crate) fn from_gzip_trailer(packed: u64, trailer: Option<[u8; 4]>) -> Size {
    let estimate = guess(packed.saturating_mul(GZIP_ESTIMATE));
    let Some(trailer) = trailer else {
        return estimate;
    };
    let counted = u64::from(u32::from_le_bytes(trailer));
    // Not a whole tar archive: it is the trailer of one member of several.
    if counted % BLOCK != 0 {
        return estimate;
    }
    // What cannot shrink grows: by an eighth where the packer has only its fixed code for it
    // (the fastest levels of some), and by gzip's own 18 bytes and a name.
    let least = packed.saturating_sub(packed / 8 + 1024);
    let possible = |most: u64| {
        let most = packed.saturating_mul(most);
        (0..)
            .map(move |k| counted + k * WRAP)
            .skip_while(move |c| *c < least)
            .take_while(move |c| *c <= most)
    };
    let expected: Vec<u64> = possible(EXPECTED_MOST).take(2).collect();
    match expected.as_slice() {
        [one] => known(*one),
        // Both are possible. A layer usually shrinks to a half or a third.
        [first, second] if *first < packed.saturating_mul(2) => guess(*second),
        [first, ..] => guess(*first),
        // Shrunk beyond expectation (zeros), or the last of several members.
        [] => match possible(DEFLATE_MOST).next() {
            Some(one) if packed.saturating_mul(DEFLATE_MOST) < WRAP => known(one),
            Some(one) => guess(one),
            None => estimate,
        },
    }
}

/// The size in the header of a zstd frame, when it tells one (RFC 8878, 3.1.1.1) and the frame
/// is the first of a blob of `packed` bytes.
pub(crate) fn from_zstd_header(packed: u64, header: &[u8]) -> Size {
    let told = || {
        let [0x28, 0xb5, 0x2f, 0xfd, descriptor, rest @ ..] = header else {
            return None;
        };
        let single = descriptor & 0x20 != 0;
        let dictionary = [0usize, 1, 2, 4][usize::from(descriptor & 3)];
        let at = usize::from(!single) + dictionary;
        let length = match descriptor >> 6 {
            0 if single => 1,
            0 => return None,
            1 => 2,
            2 => 4,
            _ => 8,
        };
        let field = rest.get(at..at + length)?;
        let value = field
            .iter()
            .rev()
            .fold(0u64, |sum, b| sum << 8 | u64::from(*b));
        Some(if length == 2 { value + 256 } else { value })
    };
    match told() {
        // A blob of several frames tells the first one's size only.
        Some(bytes) if bytes % BLOCK == 0 && bytes >= packed / 2 => guess(bytes),
        _ => guess(packed.saturating_mul(ZSTD_ESTIMATE)),
    }
}

impl Remote {
    /// The unpacked size of an image: one small request a layer.
    pub(crate) async fn unpacked_size(&self, image: &ImageManifest) -> Result<Size, Error> {
        let mut sum = Size::EMPTY;
        for layer in &image.layers {
            sum = sum.plus(self.layer_size(layer).await?);
        }
        Ok(sum)
    }

    async fn layer_size(&self, layer: &Descriptor) -> Result<Size, Error> {
        let packing = layer.packing().map_err(|reason| self.refuse(reason))?;
        Ok(match packing {
            Packing::Tar => known(layer.size),
            Packing::Gzip if layer.size <= SMALL => self.small_layer_size(layer).await?,
            Packing::Gzip => {
                let trailer = match layer.size.checked_sub(4) {
                    Some(start) => self.range(&layer.digest, start, 4).await?,
                    None => None,
                };
                let trailer = trailer.and_then(|t| <[u8; 4]>::try_from(t).ok());
                from_gzip_trailer(layer.size, trailer)
            }
            Packing::Zstd => {
                let header = self.range(&layer.digest, 0, layer.size.min(18)).await?;
                from_zstd_header(layer.size, &header.unwrap_or_default())
            }
            Packing::Unsaid => match Compression::of(&self.first_bytes(layer).await?) {
                Compression::None => known(layer.size),
                _ => guess(layer.size.saturating_mul(ZSTD_ESTIMATE)),
            },
        })
    }

    /// The size of a gzip layer that is unpacked for it: the trailer counts the last of several
    /// members only.
    async fn small_layer_size(&self, layer: &Descriptor) -> Result<Size, Error> {
        let Some(packed) = self.range(&layer.digest, 0, layer.size).await? else {
            return Ok(from_gzip_trailer(layer.size, None));
        };
        let counted = tokio::task::spawn_blocking(move || {
            let mut content = Compression::Gzip.reader(&*packed);
            io::copy(&mut content, &mut io::sink())
        });
        match counted.await.unwrap_or_else(|e| Err(io::Error::other(e))) {
            Ok(bytes) => Ok(known(bytes)),
            Err(_) => Ok(from_gzip_trailer(layer.size, None)),
        }
    }

    /// The first bytes of a blob, which tell how it is compressed.
    pub(crate) async fn first_bytes(&self, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        let length = blob.size.min(MAGIC as u64);
        if length == 0 {
            return Ok(Vec::new());
        }
        if let Some(bytes) = self.range(&blob.digest, 0, length).await? {
            return Ok(bytes);
        }
        // A registry without ranges: the answer is broken off again.
        let piece = self.download(blob).next().await?;
        Ok(piece.map(|piece| piece.to_vec()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailer(bytes: u64) -> Option<[u8; 4]> {
        Some(u32::try_from(bytes % WRAP).unwrap().to_le_bytes())
    }

    #[test]
    fn a_gzip_trailer_tells_the_size_where_only_one_is_possible() {
        const M: u64 = 1 << 20;
        for (packed, real, told, exact) in [
            (32, 1024, 1024, true),                // the engine's empty layer
            (M, 3 * M, 3 * M, true),               //
            (M, M - M % 512, M, true),             // incompressible
            (4_000_000, 3000 * M, 3000 * M, true), // zeros, and too short to have wrapped
            (30 * M, 100 * M, 100 * M, true),      //
            (300 * M, 900 * M, 900 * M, false),    // 900 MiB or 4.9 GiB: the usual ratio
            (2048 * M, 5000 * M, 5000 * M, false), // wrapped
            (10 * M, 5000 * M, 904 * M, false),    // zeros that wrapped: cannot be known
        ] {
            let size = from_gzip_trailer(packed, trailer(real));
            assert_eq!((size.bytes, size.exact), (told, exact), "{packed} {real}");
        }
    }

    #[test]
    fn several_gzip_members_and_missing_trailers_are_estimated_and_said_to_be() {
        for size in [
            from_gzip_trailer(1000, None),
            from_gzip_trailer(1000, Some(*b"\x01\x02\x00\x00")), // no whole archive
            from_gzip_trailer(10_000, trailer(0)),               // the empty last member
        ] {
            assert!(!size.exact && size.bytes >= 3000, "{size:?}");
        }
    }

    #[test]
    fn a_zstd_frame_may_tell_its_size() {
        let header = b"\x28\xb5\x2f\xfd\xa4\x00\x10\x00\x00\x00";
        assert_eq!(from_zstd_header(1000, header), guess(4096));
        assert_eq!(
            from_zstd_header(1000, b"\x28\xb5\x2f\xfd\x04\x58"),
            guess(4000)
        );
        assert_eq!(from_zstd_header(1000, b""), guess(4000));
    }
}
