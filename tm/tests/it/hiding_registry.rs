//! A front of the registry that can hide what the registry holds: it says that no layer is there,
//! to whoever asks for it by its digest. What is pushed arrives, and cannot be read back.

use std::io::{Read as _, Write as _, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;

/// The longest head of a request, in bytes.
const LIMIT: usize = 64 * 1024;

/// How a greeting of TLS begins.
const TLS: u8 = 0x16;

pub(crate) struct HidingRegistry {
    address: String,
    hides: Arc<AtomicBool>,
}

impl HidingRegistry {
    /// In front of the registry at `behind`, in the network of the calling thread.
    pub(crate) fn start(behind: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let hides = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&hides);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (hides, behind) = (Arc::clone(&shared), behind.clone());
                thread::spawn(move || pass(client, &behind, &hides));
            }
        });
        Ok(Self { address, hides })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn hide(&self, hides: bool) {
        self.hides.store(hides, Ordering::SeqCst);
    }
}

/// One request and its answer, on a connection of their own.
fn pass(mut client: TcpStream, behind: &str, hides: &AtomicBool) -> Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < LIMIT {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
        if head == [TLS] {
            // As the registry without TLS answers.
            return Ok(client.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n")?);
        }
    }
    let text = String::from_utf8(head)?;
    let line = text.lines().next().unwrap_or_default();
    // An engine looks at what it has pushed itself.
    let asks = !text.contains("User-Agent: docker/") && line.starts_with("HEAD ");
    if hides.load(Ordering::SeqCst) && asks && line.contains("/blobs/") {
        let nothing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return Ok(client.write_all(nothing.as_bytes())?);
    }
    let mut server = TcpStream::connect_timeout(&behind.parse()?, Duration::from_secs(5))?;
    let (first, rest) = text.split_once("\r\n").unwrap_or((&text, "\r\n"));
    server.write_all(format!("{first}\r\nConnection: close\r\n{rest}").as_bytes())?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || copy(&mut from, &mut to));
    copy(&mut server, &mut client)?;
    Ok(client.shutdown(Shutdown::Both)?)
}
