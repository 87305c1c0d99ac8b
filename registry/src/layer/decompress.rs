//! Readers of compressed content, with limits on memory, length and time.

use std::io::{self, BufRead, BufReader, Read};
use std::time::Instant;

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::oci::compression::Compression;

/// The most memory that xz may ask for, in KiB: its strongest preset (`xz -9`) needs 65 MiB. zstd
/// has a limit of its own (128 MiB, which is `zstd --long`), and bzip2 never needs more than 4 MiB.
const XZ_MEMORY: u32 = 128 << 10;
const BUFFER: usize = 128 * 1024;

/// The content of `packed`, to its very end: each of these formats may be several streams one
/// after the other.
pub(crate) fn decompress<'a>(
    method: Compression,
    packed: impl Read + Send + 'a,
) -> Box<dyn Read + Send + 'a> {
    let packed = BufReader::with_capacity(BUFFER, packed);
    match method {
        Compression::None => Box::new(packed),
        Compression::Gzip => Box::new(MultiGzDecoder::new(packed)),
        Compression::Bzip2 => Box::new(MultiBzDecoder::new(packed)),
        Compression::Xz => Box::new(XzReader::new_mem_limit(packed, true, XZ_MEMORY)),
        Compression::Zstd => Box::new(ZstdFrames::new(packed)),
    }
}

/// The frames of a zstd stream, one after the other.
struct ZstdFrames<R> {
    packed: R,
    frame: Box<FrameDecoder>,
    /// Whether the present frame has more to give.
    open: bool,
}

impl<R: BufRead> ZstdFrames<R> {
    fn new(packed: R) -> Self {
        Self {
            packed,
            frame: Box::new(FrameDecoder::new()),
            open: false,
        }
    }

    /// Opens the next frame; `false` at the end.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.packed.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.frame.reset(&mut self.packed) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped = io::copy(&mut (&mut self.packed).take(length), &mut io::sink())?;
                    if skipped < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(e) => return Err(damaged(e)),
            }
        }
    }
}

fn damaged(error: FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.open && !self.next_frame()? {
                return Ok(0);
            }
            self.open = true;
            while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                self.frame
                    .decode_blocks(&mut self.packed, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(damaged)?;
            }
            match self.frame.read(buffer)? {
                0 => self.open = false,
                read => return Ok(read),
            }
        }
    }
}

/// Stops a reader after so many bytes, and at a time.
pub(crate) struct Bounded<R> {
    inner: R,
    left: u64,
    until: Instant,
}

impl<R> Bounded<R> {
    pub(crate) fn new(inner: R, left: u64, until: Instant) -> Self {
        Self { inner, left, until }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "unpacked"))?;
        if Instant::now() > self.until {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "reading it took too long",
            ));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use super::*;

    /// Text that each method makes smaller, longer than the buffers on the way.
    fn text(seed: usize) -> Vec<u8> {
        (0..25_000)
            .flat_map(|n| format!("{} {seed}\n", n * n % 977).into_bytes())
            .collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let options = lzma_rust2::XzOptions::with_preset(1);
        let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    type Pack = fn(&[u8]) -> Vec<u8>;

    const METHODS: [(Compression, Pack); 4] = [
        (Compression::Gzip, gzip),
        (Compression::Bzip2, bzip2),
        (Compression::Xz, xz),
        (Compression::Zstd, zstd),
    ];

    fn unpack(method: Compression, packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        decompress(method, packed)
            .read_to_end(&mut bytes)
            .map(|_| bytes)
    }

    #[test]
    fn each_method_is_known_by_its_first_bytes_and_read_over_all_its_streams() {
        let (a, b) = (text(1), text(2));
        for (method, pack) in METHODS {
            let packed = pack(&a);
            assert_eq!(Compression::of(&packed), method);
            assert_eq!(unpack(method, &packed).unwrap(), a, "{method:?}");
            let two = [packed, pack(&b)].concat();
            assert_eq!(
                unpack(method, &two).unwrap(),
                [&a[..], &b[..]].concat(),
                "{method:?}"
            );
        }
        for plain in [&b"ustar"[..], b"BZhx", b"\x1f", b""] {
            assert_eq!(Compression::of(plain), Compression::None);
        }
        assert_eq!(unpack(Compression::None, &a).unwrap(), a);
    }

    #[test]
    fn what_is_cut_off_is_an_error_in_each_method() {
        for (method, pack) in METHODS {
            let packed = pack(&text(1));
            assert!(
                unpack(method, &packed[..packed.len() / 2]).is_err(),
                "{method:?}"
            );
        }
    }

    #[test]
    fn skippable_frames_of_zstd_are_skipped() {
        let skipped = [&b"\x50\x2a\x4d\x18\x05\0\0\0"[..], b"abcde"].concat();
        let stream = [
            &skipped[..],
            &zstd(b"one"),
            &skipped,
            &zstd(b"two"),
            &skipped,
        ]
        .concat();
        assert_eq!(Compression::of(&stream), Compression::Zstd);
        assert_eq!(unpack(Compression::Zstd, &stream).unwrap(), b"onetwo");
        let cut = &stream[..stream.len() - 1];
        assert!(unpack(Compression::Zstd, cut).is_err());
    }

    #[test]
    fn attack_17_no_stream_gets_more_memory_than_is_given() {
        // A frame that asks for a window of 1 GiB (RFC 8878, 3.1.1.1.2): 2^(10 + 20).
        let zstd = b"\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00";
        assert!(unpack(Compression::Zstd, zstd).is_err());
        let mut options = lzma_rust2::XzOptions::with_preset(1);
        options.lzma_options.dict_size = 256 << 20;
        let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        encoder.write_all(b"x").unwrap();
        let xz = encoder.finish().unwrap();
        assert!(unpack(Compression::Xz, &xz).is_err());
    }

    #[test]
    fn a_bounded_reader_ends_at_its_limit_and_at_its_time() {
        let later = Instant::now() + Duration::from_secs(600);
        let read = |left, until| {
            let mut bytes = Vec::new();
            Bounded::new(&b"12345"[..], left, until).read_to_end(&mut bytes)
        };
        assert_eq!(read(5, later).unwrap(), 5);
        assert_eq!(
            read(4, later).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
        let error = read(5, Instant::now()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
