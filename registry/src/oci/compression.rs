//! How a layer, an archive or a file is compressed: by its first bytes, never by its name.

/// How many of the first bytes are enough to recognise it.
pub(crate) const MAGIC: usize = 6;

/// Whether a file is compressed with a method that archives may have, by its first bytes.
pub fn is_compressed(beginning: &[u8]) -> bool {
    Compression::of(beginning) != Compression::None
}

/// A method of compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// None, or an unknown one.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// The container format of XZ Utils.
    Xz,
    /// bzip2.
    Bzip2,
}

impl Compression {
    /// The method of what begins with these bytes.
    pub(crate) fn of(beginning: &[u8]) -> Self {
        match beginning {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or a skippable frame, with which some packers begin.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            _ => Self::None,
        }
    }

    /// Whether every engine reads layers that are compressed so
    /// (`docs/decisions/0020-what-every-engine-takes.md`).
    pub(crate) fn is_portable(self) -> bool {
        matches!(self, Self::None | Self::Gzip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_sixteen_skippable_frames_is_zstd() {
        for first in 0x50..=0x5f {
            let frame = [first, 0x2a, 0x4d, 0x18];
            assert_eq!(Compression::of(&frame), Compression::Zstd, "{first:x}");
        }
        for other in [0x4f, 0x60] {
            assert_eq!(
                Compression::of(&[other, 0x2a, 0x4d, 0x18]),
                Compression::None
            );
        }
    }
}
