//! Just enough HTTP/1.1 to ask the engine over its unix socket. Every request has one deadline
//! for everything, and the answer one bound; a connection serves one request.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use onedock_common::engine::NoAnswer;
use thiserror::Error;

/// How long the engine may take for one answer.
pub const DEADLINE: Duration = Duration::from_secs(3);
/// The largest answer that is read: a list of 1,000 containers has about 2 MB.
pub const LIMIT: u64 = 32 * 1024 * 1024;
/// The longest head of an answer.
const HEAD: u64 = 64 * 1024;

/// Why the engine gave no answer that can be used.
#[derive(Debug, Error)]
pub enum HttpError {
    /// Nobody answers there.
    #[error("{}", reason.explain(socket))]
    Connect { socket: PathBuf, reason: NoAnswer },
    /// No answer in time.
    #[error("the Docker engine did not answer {path} in time")]
    Deadline {
        /// What was asked.
        path: String,
    },
    /// The connection broke or what came is not HTTP.
    #[error("the Docker engine's answer to {path} cannot be read ({problem})")]
    Damaged {
        /// What was asked.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// An answer other than 200.
    #[error("the Docker engine answered {status} to {path}")]
    Status {
        /// What was asked.
        path: String,
        /// The HTTP status.
        status: u16,
    },
}

/// A stream whose reads and writes all end at one moment.
#[derive(Debug)]
struct Timed {
    stream: UnixStream,
    until: Option<Instant>,
}

impl Timed {
    fn left(&self) -> io::Result<Option<Duration>> {
        match self
            .until
            .map(|u| u.saturating_duration_since(Instant::now()))
        {
            Some(left) if left.is_zero() => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(buffer)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The engine's socket.
#[derive(Debug, Clone)]
pub struct Socket {
    path: PathBuf,
}

enum Length {
    Known(u64),
    Chunked,
    UntilClose,
}

impl Socket {
    /// The socket at `path`; nothing is sent yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks for `path` and reads the whole answer within [`DEADLINE`].
    pub fn get(&self, path: &str) -> Result<Vec<u8>, HttpError> {
        self.get_within(path, DEADLINE)
    }

    /// The same within another time, for what the engine has to work for.
    pub fn get_within(&self, path: &str, time: Duration) -> Result<Vec<u8>, HttpError> {
        let (mut reader, length) = self.ask(path, time)?;
        let mut body = Vec::new();
        let read = match length {
            Length::Known(n) if n > LIMIT => Err(io::Error::other("it is too large")),
            Length::Known(n) => read_exactly(&mut reader, n, &mut body),
            Length::Chunked => read_chunks(&mut reader, &mut body),
            Length::UntilClose => (&mut reader).take(LIMIT).read_to_end(&mut body).map(drop),
        };
        read.map_err(|e| failed(path, &e))?;
        Ok(body)
    }

    /// Asks for an endless answer (`/events`) and returns once its head is there; each byte
    /// that comes later means that something happened.
    pub fn follow(&self, path: &str) -> Result<impl Read + use<>, HttpError> {
        let (mut reader, _) = self.ask(path, DEADLINE)?;
        reader.get_mut().until = None;
        let clear = reader.get_ref().stream.set_read_timeout(None);
        clear.map_err(|e| failed(path, &e))?;
        Ok(reader)
    }

    fn ask(&self, path: &str, time: Duration) -> Result<(BufReader<Timed>, Length), HttpError> {
        let until = Instant::now() + time;
        let mut stream = Timed {
            stream: self.connect().map_err(|problem| HttpError::Connect {
                socket: self.path.clone(),
                reason: NoAnswer::of(&self.path, &problem),
            })?,
            until: Some(until),
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .map_err(|e| failed(path, &e))?;
        let mut reader = BufReader::with_capacity(64 * 1024, stream);
        let (status, length) = read_head(&mut reader).map_err(|e| failed(path, &e))?;
        if status == 200 {
            Ok((reader, length))
        } else {
            Err(HttpError::Status {
                path: shown(path),
                status,
            })
        }
    }

    /// A hung engine does not accept, and once its queue is full a plain connect would block
    /// without end; so the connect does not block, and a full queue is an error at once.
    fn connect(&self) -> io::Result<UnixStream> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        let address = UnixAddr::new(&self.path)?;
        match connect(fd.as_raw_fd(), &address) {
            Ok(()) => {}
            Err(Errno::EAGAIN) => return Err(io::Error::other("its queue is full")),
            Err(e) => return Err(e.into()),
        }
        let stream = UnixStream::from(fd);
        stream.set_nonblocking(false)?;
        Ok(stream)
    }
}

/// The path without its query, for people.
fn shown(path: &str) -> String {
    path.split('?').next().unwrap_or(path).to_owned()
}

fn failed(path: &str, error: &io::Error) -> HttpError {
    let path = shown(path);
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => HttpError::Deadline { path },
        _ => HttpError::Damaged {
            path,
            problem: error.to_string(),
        },
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn read_line(reader: &mut impl BufRead, left: &mut u64) -> io::Result<String> {
    let mut line = Vec::new();
    let read = reader.take(*left).read_until(b'\n', &mut line)?;
    *left -= read as u64;
    if !line.ends_with(b"\n") {
        return Err(wrong("it ends within its head, or the head is too long"));
    }
    String::from_utf8(line)
        .map(|l| l.trim_end().to_owned())
        .map_err(|_| wrong("its head is not text"))
}

fn read_head(reader: &mut impl BufRead) -> io::Result<(u16, Length)> {
    let mut left = HEAD;
    let first = read_line(reader, &mut left)?;
    let status = first
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| wrong("it is not HTTP"))?;
    let mut length = Length::UntilClose;
    loop {
        let line = read_line(reader, &mut left)?;
        if line.is_empty() {
            return Ok((status, length));
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(wrong("its head is damaged"));
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            length = Length::Chunked;
        } else if name.eq_ignore_ascii_case("content-length") && !matches!(length, Length::Chunked)
        {
            let bytes = onedock_common::types::decimal::parse_whole(value)
                .map_err(|_| wrong("its length is not a number"))?;
            length = Length::Known(bytes);
        }
    }
}

fn read_exactly(reader: &mut impl Read, bytes: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let read = reader.take(bytes).read_to_end(body)?;
    if read as u64 == bytes {
        Ok(())
    } else {
        Err(wrong("it ends too early"))
    }
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let line = read_line(reader, &mut 1024)?;
        let size = line.split(';').next().unwrap_or("").trim();
        let size = Some(size)
            .filter(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|s| u64::from_str_radix(s, 16).ok())
            .ok_or_else(|| wrong("a chunk's size is not a number"))?;
        if size == 0 {
            return Ok(());
        }
        if size > LIMIT || body.len() as u64 + size > LIMIT {
            return Err(wrong("it is too large"));
        }
        read_exactly(reader, size, body)?;
        if !read_line(reader, &mut 1024)?.is_empty() {
            return Err(wrong("a chunk is longer than its size"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut reader = BufReader::new(bytes);
        let (status, length) = read_head(&mut reader)?;
        assert_eq!(status, 200);
        let mut body = Vec::new();
        match length {
            Length::Known(n) => read_exactly(&mut reader, n, &mut body)?,
            Length::Chunked => read_chunks(&mut reader, &mut body)?,
            Length::UntilClose => drop(reader.read_to_end(&mut body)?),
        }
        Ok(body)
    }

    #[test]
    fn bodies_of_known_length_in_chunks_and_until_the_end_are_read() {
        let known = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]";
        assert_eq!(whole(known).unwrap(), b"[]");
        let chunked =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n[\r\n1;x\r\n]\r\n0\r\n\r\n";
        assert_eq!(whole(chunked).unwrap(), b"[]");
        assert_eq!(whole(b"HTTP/1.0 200 OK\r\n\r\n[]").unwrap(), b"[]");
    }

    #[test]
    fn attack_44_cut_endless_or_lying_answers_are_refused() {
        for bad in [
            &b"garbage\r\n\r\n"[..],
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n[]",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n[",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\n[\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[",
        ] {
            assert!(whole(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        let endless = [&b"HTTP/1.1 200 OK\r\n"[..], &vec![b'x'; 100_000]].concat();
        assert!(whole(&endless).is_err());
    }
}
