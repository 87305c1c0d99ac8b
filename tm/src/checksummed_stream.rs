//! A stream with a known end, so that one that was cut off is never taken for a whole one: pieces
//! with their length, an empty piece, the digest of all of it.

use std::io::{self, Read, Write};

use onedock_common::Digest;
use sha2::{Digest as _, Sha256};

/// The largest piece, in bytes.
const PIECE: usize = 256 * 1024;

/// Writes pieces.
pub(crate) struct Sender<W> {
    to: W,
    buffer: Vec<u8>,
    hasher: Sha256,
}

impl<W: Write> Sender<W> {
    pub(crate) fn new(to: W) -> Self {
        Self {
            to,
            buffer: Vec::with_capacity(PIECE),
            hasher: Sha256::new(),
        }
    }

    fn piece(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            let length = u32::try_from(self.buffer.len()).map_err(io::Error::other)?;
            self.to.write_all(&length.to_be_bytes())?;
            self.to.write_all(&self.buffer)?;
            self.hasher.update(&self.buffer);
            self.buffer.clear();
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.piece()?;
        self.to.write_all(&0_u32.to_be_bytes())?;
        self.to
            .write_all(Digest::from_hasher(self.hasher).as_str().as_bytes())?;
        self.to.flush()
    }
}

impl<W: Write> Write for Sender<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.buffer.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.buffer.extend_from_slice(taken);
        if self.buffer.len() == PIECE {
            self.piece()?;
        }
        Ok(taken.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads pieces.
pub(crate) struct Receiver<R> {
    from: R,
    left: usize,
    ended: bool,
    hasher: Sha256,
}

impl<R: Read> Receiver<R> {
    pub(crate) fn new(from: R) -> Self {
        Self {
            from,
            left: 0,
            ended: false,
            hasher: Sha256::new(),
        }
    }

    /// Reads what nobody wanted, and compares the digest.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink())?;
        let mut digest = [0; 71];
        self.from.read_exact(&mut digest)?;
        if digest == *Digest::from_hasher(self.hasher).as_str().as_bytes() {
            Ok(())
        } else {
            Err(io::Error::other("what arrived is not what was sent"))
        }
    }
}

impl<R: Read> Read for Receiver<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.ended {
            let mut length = [0; 4];
            self.from.read_exact(&mut length)?;
            self.left = u32::from_be_bytes(length) as usize;
            self.ended = self.left == 0;
        }
        let wanted = self.left.min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let Some(part) = buffer.get_mut(..wanted) else {
            return Ok(0);
        };
        let read = self.from.read(part)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.hasher.update(part.get(..read).unwrap_or_default());
        self.left -= read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_was_cut_off_or_changed_anywhere_is_refused() {
        let mut sent = Vec::new();
        let mut sender = Sender::new(&mut sent);
        let content: Vec<u8> = (0..PIECE + 1000).map(|n| n.to_le_bytes()[0]).collect();
        sender.write_all(&content).unwrap();
        sender.finish().unwrap();
        let read = |bytes: &[u8]| {
            let mut receiver = Receiver::new(bytes);
            let mut got = Vec::new();
            receiver.read_to_end(&mut got)?;
            receiver.finish().map(|()| got)
        };
        assert_eq!(read(&sent).unwrap(), content);
        for end in [0, 3, 4, 100, PIECE + 4, sent.len() - 72, sent.len() - 1] {
            assert!(read(&sent[..end]).is_err(), "{end}");
        }
        let mut changed = sent.clone();
        changed[5000] ^= 1;
        assert!(read(&changed).is_err());
    }

    #[test]
    fn a_read_of_no_bytes_is_not_the_end() {
        let mut sent = Vec::new();
        let mut sender = Sender::new(&mut sent);
        sender.write_all(b"x").unwrap();
        sender.finish().unwrap();
        let mut receiver = Receiver::new(&sent[..]);
        assert_eq!(receiver.read(&mut []).unwrap(), 0);
        let mut got = Vec::new();
        receiver.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"x");
        receiver.finish().unwrap();
    }

    #[test]
    fn what_is_written_at_once_is_sent_in_pieces_that_the_receiver_takes() {
        let mut sent = Vec::new();
        let mut sender = Sender::new(&mut sent);
        sender.write_all(&[1; 10]).unwrap();
        sender.write_all(&vec![2; 3 * 262_144]).unwrap();
        sender.finish().unwrap();
        let (mut at, mut pieces) = (0, Vec::new());
        loop {
            let length = u32::from_be_bytes(sent[at..at + 4].try_into().unwrap());
            let length = usize::try_from(length).unwrap();
            at += 4 + length;
            if length == 0 {
                break;
            }
            pieces.push(length);
        }
        assert_eq!(pieces, [262_144, 262_144, 262_144, 10]);
    }
}
