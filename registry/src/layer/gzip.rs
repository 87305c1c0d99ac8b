//! A gzip stream (RFC 1952) that spends no time on what does not become smaller: media, archives,
//! whatever was packed or encrypted before. Such blocks are stored as they are, which is also
//! faster to unpack; everything else is packed at the fastest level.

use std::io::{self, Write};
use std::mem;

use flate2::{Compress, Compression, Crc, FlushCompress};

/// How many bytes are either packed or stored. The same bytes give the same stream, however they
/// are written.
const BLOCK: usize = 64 * 1024;
/// The largest stored block of a deflate stream (RFC 1951, 3.2.4).
const STORED: usize = 0xffff;
/// No name, no time, the fastest level, from no particular system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// The stream on its way into `out`.
pub(crate) struct Gzip<W> {
    out: W,
    deflate: Compress,
    crc: Crc,
    block: Vec<u8>,
    packed: Vec<u8>,
    /// Whether something was packed since the last stored block.
    open: bool,
}

impl<W: Write> Gzip<W> {
    pub(crate) fn new(mut out: W, level: u32) -> io::Result<Self> {
        out.write_all(&HEADER)?;
        Ok(Self {
            out,
            deflate: Compress::new(Compression::new(level), false),
            crc: Crc::new(),
            block: Vec::with_capacity(BLOCK),
            packed: Vec::with_capacity(2 * BLOCK),
            open: false,
        })
    }

    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let free = BLOCK - self.block.len();
            let (now, later) = bytes.split_at(free.min(bytes.len()));
            self.block.extend_from_slice(now);
            if self.block.len() == BLOCK {
                self.block()?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// Ends the stream; answers what it was written to.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.block()?;
        self.deflate(&[], FlushCompress::Finish)?;
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.out)
    }

    fn block(&mut self) -> io::Result<()> {
        let block = mem::take(&mut self.block);
        self.crc.update(&block);
        if is_dense(&block) {
            self.store(&block)?;
        } else if !block.is_empty() {
            self.deflate(&block, FlushCompress::None)?;
            self.open = true;
        }
        self.block = block;
        self.block.clear();
        Ok(())
    }

    /// Whole bytes, and nothing later refers to what was before: the packer does not know of
    /// what is stored here.
    fn store(&mut self, block: &[u8]) -> io::Result<()> {
        if mem::take(&mut self.open) {
            self.deflate(&[], FlushCompress::Full)?;
        }
        for part in block.chunks(STORED) {
            let length = u16::try_from(part.len()).map_err(io::Error::other)?;
            self.out.write_all(&[0])?;
            self.out.write_all(&length.to_le_bytes())?;
            self.out.write_all(&(!length).to_le_bytes())?;
            self.out.write_all(part)?;
        }
        Ok(())
    }

    fn deflate(&mut self, mut bytes: &[u8], flush: FlushCompress) -> io::Result<()> {
        loop {
            self.packed.clear();
            let before = self.deflate.total_in();
            self.deflate
                .compress_vec(bytes, &mut self.packed, flush)
                .map_err(io::Error::other)?;
            let taken = self.deflate.total_in() - before;
            bytes = usize::try_from(taken)
                .ok()
                .and_then(|taken| bytes.get(taken..))
                .unwrap_or_default();
            self.out.write_all(&self.packed)?;
            // The buffer is not full, so there is no more to come.
            if bytes.is_empty() && self.packed.len() < self.packed.capacity() {
                return Ok(());
            }
        }
    }
}

/// Whether all 256 bytes are about equally frequent: packing would save at most a few hundredths.
/// (The chance that two bytes are equal, against that in random ones.)
fn is_dense(block: &[u8]) -> bool {
    // Too few to decide.
    if block.len() < 8192 {
        return false;
    }
    let mut counts = [0_u64; 256];
    for byte in block {
        counts[usize::from(*byte)] += 1;
    }
    let equal: u64 = counts.iter().map(|count| count * count).sum();
    let length = block.len() as u64;
    // Random bytes give 256 of 256 and a little more; one tenth above that is not random.
    equal * 2560 < length * length * 11
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read as _;

    fn random(length: usize, mut seed: u64) -> Vec<u8> {
        std::iter::repeat_with(|| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_le_bytes()[3]
        })
        .take(length)
        .collect()
    }

    fn packed(bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut gzip = Gzip::new(Vec::new(), 1).unwrap();
        for piece in bytes.chunks(piece) {
            gzip.write(piece).unwrap();
        }
        gzip.finish().unwrap()
    }

    fn unpacked(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
        plain
    }

    /// Random, text, and text that was there before, in pieces of odd lengths.
    fn mixed() -> Vec<u8> {
        let text: Vec<u8> = (0..30_000_u32)
            .flat_map(|n| n.to_string().into_bytes())
            .collect();
        let mut all = Vec::new();
        for turn in 0..40_u32 {
            let length = (turn as usize * 7919) % 140_000;
            if turn % 3 == 0 {
                all.extend(random(length, u64::from(turn) + 1));
            } else {
                all.extend(&text[..length.min(text.len())]);
            }
        }
        all
    }

    #[test]
    fn what_is_unpacked_is_what_was_packed() {
        let mixed = mixed();
        for bytes in [
            &b""[..],
            b"x",
            &vec![7; 1_000_000],
            &random(200_000, 5),
            &mixed,
        ] {
            assert!(unpacked(&packed(bytes, 10_000)) == bytes, "{}", bytes.len());
        }
    }

    #[test]
    fn the_same_bytes_give_the_same_stream_however_they_come() {
        let mixed = mixed();
        let whole = packed(&mixed, mixed.len());
        for piece in [1000, 65_536, 65_537] {
            assert!(packed(&mixed, piece) == whole, "{piece}");
        }
    }

    #[test]
    fn only_what_does_not_become_smaller_is_stored() {
        let random = random(BLOCK, 9);
        assert!(is_dense(&random));
        let stored = packed(&random, BLOCK).len();
        assert!((BLOCK..BLOCK + 64).contains(&stored), "{stored}");
        let letters: Vec<u8> = random.iter().map(|byte| byte % 64 + 32).collect();
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let program = program.get(BLOCK..2 * BLOCK).unwrap();
        for plain in [&letters[..], program, &[0; BLOCK], &random[..4000]] {
            assert!(!is_dense(plain));
        }
        assert!(packed(program, BLOCK).len() < BLOCK * 9 / 10);
    }

    #[test]
    fn the_system_s_gzip_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mixed.gz");
        std::fs::write(&path, packed(&mixed(), 4096)).unwrap();
        let output = std::process::Command::new("gzip")
            .arg("-dc")
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success());
        assert!(output.stdout == mixed());
    }
}
