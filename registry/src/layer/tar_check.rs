//! Whether a tar archive is whole, while it is streamed: every header right, every entry as long as its
//! header says, and an end. The stream of a process that died looks like one that ended; its
//! content would be lost with the container that it came from.

/// A block of an archive, in bytes.
const BLOCK: usize = 512;
/// The largest extended header that is read, in bytes.
const EXTENDED_LIMIT: u64 = 16 << 20;
/// An archive ends with this many blocks of zeros.
const END_BLOCKS: u32 = 2;

/// What the next block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Header,
    /// The rest of an old GNU header of a file with holes.
    MoreHoles {
        size: u64,
    },
    /// An entry's content.
    Content {
        left: u64,
    },
    /// An extended header's text.
    Extended {
        left: u64,
    },
}

/// Checks a tar archive as it is read.
#[derive(Debug)]
pub(crate) struct TarCheck {
    next: Next,
    /// The part of a block that came last.
    block: Vec<u8>,
    extended: Vec<u8>,
    /// The size that an extended header gave the next entry.
    size: Option<u64>,
    zeros: u32,
    entries: u64,
}

impl TarCheck {
    pub(crate) fn new() -> Self {
        Self {
            next: Next::Header,
            block: Vec::with_capacity(BLOCK),
            extended: Vec::new(),
            size: None,
            zeros: 0,
            entries: 0,
        }
    }

    /// How many headers there were.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// Reads the next bytes; the error is the reason in words.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            // Whole blocks of content are not read.
            if let Next::Content { left } = &mut self.next
                && self.block.is_empty()
            {
                let blocks = (*left).min((bytes.len() / BLOCK) as u64);
                *left -= blocks;
                let skipped = usize::try_from(blocks).unwrap_or(usize::MAX) * BLOCK;
                bytes = bytes.get(skipped..).unwrap_or_default();
                if *left == 0 {
                    self.next = Next::Header;
                    continue;
                }
            }
            let wanted = BLOCK - self.block.len();
            let (now, rest) = bytes.split_at(wanted.min(bytes.len()));
            self.block.extend_from_slice(now);
            bytes = rest;
            if self.block.len() == BLOCK {
                let block = std::mem::take(&mut self.block);
                self.whole_block(&block)?;
                self.block = block;
                self.block.clear();
            }
        }
        Ok(())
    }

    /// Whether the archive came to its end.
    pub(crate) fn finish(&self) -> Result<(), String> {
        // No archive at all is an archive of nothing.
        let nothing = self.entries == 0 && self.block.is_empty();
        let ended = self.next == Next::Header && self.zeros >= END_BLOCKS && self.block.is_empty();
        if nothing || ended {
            Ok(())
        } else {
            Err("its archive breaks off".to_owned())
        }
    }

    fn whole_block(&mut self, block: &[u8]) -> Result<(), String> {
        self.next = match self.next {
            Next::Header => return self.header(block),
            Next::MoreHoles { size } if block.get(504).is_some_and(|b| *b != 0) => {
                Next::MoreHoles { size }
            }
            Next::MoreHoles { size } => content(size),
            Next::Content { left } if left > 1 => Next::Content { left: left - 1 },
            Next::Content { .. } => Next::Header,
            Next::Extended { left } => {
                let length = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
                self.extended
                    .extend_from_slice(block.get(..length).unwrap_or(block));
                if left > BLOCK as u64 {
                    Next::Extended {
                        left: left - BLOCK as u64,
                    }
                } else {
                    self.size = size_record(&self.extended)?;
                    self.extended.clear();
                    Next::Header
                }
            }
        };
        Ok(())
    }

    fn header(&mut self, block: &[u8]) -> Result<(), String> {
        if block.iter().all(|b| *b == 0) {
            self.zeros += 1;
            return Ok(());
        }
        if self.zeros > 0 {
            return Err("its archive goes on behind its end".to_owned());
        }
        let damaged = || "its archive has a damaged header".to_owned();
        let field = |from: usize, to: usize| block.get(from..to).unwrap_or_default();
        if !has_checksum(block) {
            return Err(damaged());
        }
        self.entries += 1;
        let size = number(field(124, 136)).ok_or_else(damaged)?;
        let kind = block.get(156).copied().unwrap_or_default();
        if kind == b'x' {
            if size > EXTENDED_LIMIT {
                return Err(damaged());
            }
            self.next = match size {
                0 => Next::Header,
                left => Next::Extended { left },
            };
            return Ok(());
        }
        // A long name stands between an extended header and its entry.
        let size = match kind {
            b'L' | b'K' | b'g' => size,
            // Links, devices, folders and pipes have no content, whatever their header says.
            b'1'..=b'6' => {
                self.size = None;
                0
            }
            _ => self.size.take().unwrap_or(size),
        };
        let more = kind == b'S' && block.get(482).is_some_and(|b| *b != 0);
        self.next = if more {
            Next::MoreHoles { size }
        } else {
            content(size)
        };
        Ok(())
    }
}

/// Whether a file that begins with these bytes is a tar archive: its first block is a header whose
/// checksum is right. That holds for every form; the oldest (version 7 of Unix) has no other mark.
pub fn is_tar(beginning: &[u8]) -> bool {
    beginning.get(..BLOCK).is_some_and(has_checksum)
}

/// Whether a header holds the sum of its bytes, its own field counted as blanks (POSIX.1-1988,
/// 10.1.1).
fn has_checksum(header: &[u8]) -> bool {
    let sum: u64 = header
        .iter()
        .enumerate()
        .map(|(at, b)| u64::from(if (148..156).contains(&at) { b' ' } else { *b }))
        .sum();
    header.get(148..156).and_then(number) == Some(sum)
}

fn content(size: u64) -> Next {
    match size.div_ceil(BLOCK as u64) {
        0 => Next::Header,
        left => Next::Content { left },
    }
}

/// A number of a header: octal digits, or GNU's binary form.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((first, rest)) = field.split_first()
        && *first == 0x80
    {
        return rest.iter().try_fold(0u64, |sum, b| {
            sum.checked_mul(256)?.checked_add(u64::from(*b))
        });
    }
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_matches(|c| c == ' ' || c == '\0');
    if text.is_empty() {
        return Some(0);
    }
    if !text.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return None;
    }
    u64::from_str_radix(text, 8).ok()
}

/// The record `size` of an extended header (`<length> size=<number>\n`, the last one counts).
fn size_record(text: &[u8]) -> Result<Option<u64>, String> {
    let damaged = || "its archive has a damaged extended header".to_owned();
    let (mut rest, mut found) = (text, None);
    while !rest.is_empty() {
        let blank = rest.iter().position(|b| *b == b' ').ok_or_else(damaged)?;
        let length = rest.get(..blank).and_then(|l| std::str::from_utf8(l).ok());
        let length: usize = length
            .and_then(|l| onedock_common::types::decimal::parse_u32(l).ok())
            .and_then(|l| usize::try_from(l).ok())
            .ok_or_else(damaged)?;
        let record = rest.get(blank + 1..length).ok_or_else(damaged)?;
        let record = record.strip_suffix(b"\n").ok_or_else(damaged)?;
        if let Some(value) = record.strip_prefix(b"size=") {
            let value = std::str::from_utf8(value).map_err(|_| damaged())?;
            found =
                Some(onedock_common::types::decimal::parse_whole(value).map_err(|_| damaged())?);
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
