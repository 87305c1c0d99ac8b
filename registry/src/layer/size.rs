//! How large a layer is when unpacked, without unpacking it: the rule and its reasons are in
//! `docs/decisions/0003-image-size.md`.

use std::io;

use flate2::bufread::{self, GzDecoder};

/// The unpacked size of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// The sum of its layers' tar archives, in bytes.
    pub bytes: u64,
    /// Whether every layer's size was known, and not estimated
    /// (`docs/decisions/0003-image-size.md`).
    pub exact: bool,
}

/// What a gzip trailer counts modulo.
const WRAP: u64 = 1 << 32;
/// A tar archive is a whole number of blocks.
const BLOCK: u64 = 512;
/// The most that deflate can expand a byte to.
const DEFLATE_MOST: u64 = 1032;
/// By how many times gzip is expected to shrink a layer of files at most.
const EXPECTED_MOST: u64 = 20;
/// The estimate where the size is unknown, times the packed size.
pub(crate) const GZIP_ESTIMATE: u64 = 3;
pub(crate) const ZSTD_ESTIMATE: u64 = 4;
/// How many offsets in the last bytes of a layer are tried as the beginning of a gzip member.
const BEGINNINGS: usize = 16;
/// The first bytes of a gzip member (RFC 1952, 2.3), and the flags that are reserved.
const MEMBER: [u8; 3] = [0x1f, 0x8b, 8];
const RESERVED: u8 = 0xe0;

impl Size {
    /// Of no layer.
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

/// A size that is known.
pub(crate) fn known(bytes: u64) -> Size {
    Size { bytes, exact: true }
}

/// A size that is estimated.
pub(crate) fn estimated(bytes: u64) -> Size {
    Size {
        bytes,
        exact: false,
    }
}

/// The size of what a gzip stream of `packed` bytes holds, from the last four of them: the
/// length modulo 2^32, of the last member only when there are several.
pub(crate) fn from_gzip_trailer(packed: u64, trailer: Option<[u8; 4]>) -> Size {
    let estimate = estimated(packed.saturating_mul(GZIP_ESTIMATE));
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
        [first, second] if *first < packed.saturating_mul(2) => estimated(*second),
        [first, ..] => estimated(*first),
        // Shrunk beyond expectation (zeros), or the last of several members.
        [] => match possible(DEFLATE_MOST).next() {
            Some(one) if packed.saturating_mul(DEFLATE_MOST) < WRAP => known(one),
            Some(one) => estimated(one),
            None => estimate,
        },
    }
}

/// The size in the header of a zstd frame, when there is one (RFC 8878, 3.1.1.1) and the frame
/// is the first of a blob of `packed` bytes.
pub(crate) fn from_zstd_header(packed: u64, header: &[u8]) -> Size {
    let size = || {
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
    match size() {
        // A blob of several frames has the size of the first one only.
        Some(bytes) if bytes % BLOCK == 0 && bytes >= packed / 2 => estimated(bytes),
        _ => estimated(packed.saturating_mul(ZSTD_ESTIMATE)),
    }
}

/// Whether these first and last bytes of a gzip stream show that it has several members: the
/// first one ends within `head`, or the last one begins within `tail`.
pub(crate) fn has_several_members(head: &[u8], tail: &[u8]) -> bool {
    let is_whole = |bytes: &[u8]| io::copy(&mut GzDecoder::new(bytes), &mut io::sink()).is_ok();
    // To the very end: a gzip file that is stored within the layer has other bytes behind it.
    let is_last =
        |bytes: &[u8]| io::copy(&mut bufread::MultiGzDecoder::new(bytes), &mut io::sink()).is_ok();
    let beginnings = tail.windows(MEMBER.len() + 1).enumerate();
    is_whole(head)
        || beginnings
            .filter(|(_, bytes)| {
                let flags = bytes.last().copied().unwrap_or(RESERVED);
                bytes.starts_with(&MEMBER) && flags & RESERVED == 0
            })
            .take(BEGINNINGS)
            .any(|(at, _)| tail.get(at..).is_some_and(is_last))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn trailer(bytes: u64) -> Option<[u8; 4]> {
        Some(u32::try_from(bytes % WRAP).unwrap().to_le_bytes())
    }

    #[test]
    fn a_gzip_trailer_tells_the_size_where_only_one_is_possible() {
        const M: u64 = 1 << 20;
        for (packed, real, size, exact) in [
            (32, 1024, 1024, true),                // the engine's empty layer
            (M, 3 * M, 3 * M, true),               //
            (M, M - M % 512, M, true),             // incompressible
            (4_000_000, 3000 * M, 3000 * M, true), // zeros, and too short to have wrapped
            (30 * M, 100 * M, 100 * M, true),      //
            (300 * M, 900 * M, 900 * M, false),    // 900 MiB or 4.9 GiB: the usual ratio
            (2048 * M, 5000 * M, 5000 * M, false), // wrapped
            (10 * M, 5000 * M, 904 * M, false),    // zeros that wrapped: cannot be known
        ] {
            let found = from_gzip_trailer(packed, trailer(real));
            let expected = Size { bytes: size, exact };
            assert_eq!(found, expected, "{packed} {real}");
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
        assert_eq!(from_zstd_header(1000, header), estimated(4096));
        assert_eq!(
            from_zstd_header(1000, b"\x28\xb5\x2f\xfd\x04\x58"),
            estimated(4000)
        );
        assert_eq!(from_zstd_header(1000, b""), estimated(4000));
    }

    #[test]
    fn a_sum_is_exact_only_when_every_part_is() {
        for (a, b, exact) in [
            (known(1), known(2), true),
            (known(1), estimated(2), false),
            (estimated(1), known(2), false),
        ] {
            let sum = a.plus(b);
            assert_eq!((sum.bytes, sum.exact), (3, exact));
        }
    }

    #[test]
    fn of_two_possible_sizes_the_one_that_is_twice_the_packed_one_is_taken_as_an_estimate() {
        const M: u64 = 1 << 20;
        let packed = 1024 * M;
        assert_eq!(
            from_gzip_trailer(packed, trailer(1500 * M)),
            estimated(1500 * M + WRAP)
        );
        assert_eq!(
            from_gzip_trailer(packed, trailer(2100 * M)),
            estimated(2100 * M)
        );
        // A little archive that gzip makes larger.
        assert_eq!(from_gzip_trailer(1100, trailer(512)), known(512));
    }

    #[test]
    fn the_size_in_a_zstd_header_has_one_to_eight_bytes_behind_a_window_and_a_dictionary() {
        let header =
            |descriptor: u8, rest: &[u8]| [&b"\x28\xb5\x2f\xfd"[..], &[descriptor], rest].concat();
        for (descriptor, rest, bytes) in [
            // Two bytes count from 256 on.
            (0x60, &[0x00, 0x01][..], 512),
            // A window and a dictionary of one byte stand before four bytes.
            (0x81, &[0x58, 7, 0x00, 0x10, 0, 0], 4096),
            (0xe0, &[0x00, 0x02, 0, 0, 0, 0, 0, 0], 512),
        ] {
            assert_eq!(
                from_zstd_header(600, &header(descriptor, rest)),
                estimated(bytes)
            );
        }
        // One byte is never that of an archive but of nothing; one that is no whole number of
        // blocks, and one that is far too small, are those of another frame.
        assert_eq!(from_zstd_header(0, &header(0x20, &[0])), estimated(0));
        assert_eq!(
            from_zstd_header(1000, &header(0x60, &[1, 1])),
            estimated(4000)
        );
        assert_eq!(
            from_zstd_header(100_000, &header(0x60, &[0, 1])),
            estimated(400_000)
        );
    }

    #[test]
    fn several_members_show_at_either_end_of_a_stream() {
        let gzip = |bytes: &[u8]| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let one = gzip(b"content");
        let part = &one[..one.len() - 1];
        let rest = &one[one.len() - 6..];
        assert!(!has_several_members(part, rest));
        assert!(has_several_members(&[&one, part].concat(), rest));
        assert!(has_several_members(part, &[rest, &one].concat()));
        // A gzip file within the content of the only member.
        assert!(!has_several_members(part, &[rest, &one, b"more"].concat()));
        // What begins like a member and is none.
        let fake = [&MEMBER[..], &[0xff], &one].concat();
        assert!(!has_several_members(part, &fake[..fake.len() - 1]));
    }
}
