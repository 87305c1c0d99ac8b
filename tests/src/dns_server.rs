//! A DNS server for one test: it knows the records that it is given and says what it was asked.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;

/// How the server treats a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It answers.
    Answers,
    /// It takes every question and answers none.
    Silent,
    /// It says SERVFAIL.
    Fails,
    /// It says SERVFAIL for one name and answers for the others.
    FailsFor(&'static str),
    /// It answers by UDP that the answer needs TCP.
    Truncates,
}

/// A running server; it ends with its value.
#[derive(Debug)]
pub struct DnsServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

struct Zone {
    records: Vec<(String, IpAddr)>,
    manner: Manner,
    asked: Arc<Mutex<Vec<String>>>,
}

impl DnsServer {
    /// Listens on `address` by UDP and TCP, on a free port where it is 0. `records` are names
    /// without a final dot and their addresses.
    pub fn start(
        address: SocketAddr,
        manner: Manner,
        records: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut read = Vec::new();
        for (name, ip) in records {
            read.push((name.to_ascii_lowercase(), ip.parse()?));
        }
        let (udp, tcp) = sockets(address)?;
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let ended = Arc::<AtomicBool>::default();
        let address = udp.local_addr()?;
        let zone = Arc::new(Zone {
            records: read,
            manner,
            asked: Arc::clone(&asked),
        });
        let (by_udp, udp_ended) = (Arc::clone(&zone), Arc::clone(&ended));
        let (by_tcp, tcp_ended) = (zone, Arc::clone(&ended));
        let threads = vec![
            thread::spawn(move || serve_udp(&udp, &by_udp, &udp_ended)),
            thread::spawn(move || serve_tcp(&tcp, &by_tcp, &tcp_ended)),
        ];
        Ok(Self {
            address,
            asked,
            ended,
            threads,
        })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The names that it was asked for, each once, in their order.
    pub fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<String> = Vec::new();
        for name in asked.iter() {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Both threads wait for a question: here is one.
        if let Ok(socket) = UdpSocket::bind(SocketAddr::new(self.address.ip(), 0)) {
            let _ = socket.send_to(&[], self.address);
        }
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One port for both, which another process may hold for one of them.
fn sockets(address: SocketAddr) -> anyhow::Result<(UdpSocket, TcpListener)> {
    let mut failed = None;
    for _ in 0..10 {
        let udp = UdpSocket::bind(address).with_context(|| format!("no port at {address}"))?;
        match TcpListener::bind(udp.local_addr()?) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(e) => failed = Some(e),
        }
    }
    Err(anyhow::anyhow!("no port at {address}: {failed:?}"))
}

fn serve_udp(socket: &UdpSocket, zone: &Zone, ended: &AtomicBool) {
    let mut question = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut question) {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        if let Some(answer) = zone.answer(&question[..length], zone.manner == Manner::Truncates) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn serve_tcp(listener: &TcpListener, zone: &Zone, ended: &AtomicBool) {
    for stream in listener.incoming() {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        let Ok(mut stream) = stream else { continue };
        let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
        // Several questions may come over one connection (RFC 7766).
        while let Some(question) = framed(&mut stream) {
            let Some(answer) = zone.answer(&question, false) else {
                break;
            };
            let length = u16::try_from(answer.len())
                .unwrap_or(u16::MAX)
                .to_be_bytes();
            if stream.write_all(&[&length[..], &answer].concat()).is_err() {
                break;
            }
        }
    }
}

fn framed(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut question).ok()?;
    Some(question)
}

impl Zone {
    /// The answer (RFC 1035, section 4.1) to a message with one question.
    fn answer(&self, message: &[u8], truncated: bool) -> Option<Vec<u8>> {
        const HEADER: usize = 12;
        const NXDOMAIN: u8 = 3;
        const SERVFAIL: u8 = 2;
        let (mut labels, mut at) = (Vec::new(), HEADER);
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            labels
                .push(String::from_utf8_lossy(message.get(at..at + length)?).to_ascii_lowercase());
            at += length;
        }
        let kind = u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?);
        let name = labels.join(".");
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(name.clone());
        if self.manner == Manner::Silent {
            return None;
        }
        let known: Vec<IpAddr> = self
            .records
            .iter()
            .filter(|(record, _)| *record == name)
            .map(|(_, ip)| *ip)
            .collect();
        let fails = match self.manner {
            Manner::Fails => true,
            Manner::FailsFor(failing) => name == failing,
            _ => false,
        };
        let mut records = Vec::new();
        let mut count: u16 = 0;
        for ip in &known {
            let (of_kind, data) = match ip {
                IpAddr::V4(ip) => (1u16, ip.octets().to_vec()),
                IpAddr::V6(ip) => (28, ip.octets().to_vec()),
            };
            if of_kind == kind && !truncated && !fails {
                // The question's name, the kind, class IN, a minute to live.
                records.extend([0xc0, 12]);
                records.extend(of_kind.to_be_bytes());
                records.extend([0, 1, 0, 0, 0, 60]);
                records.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
                records.extend(data);
                count += 1;
            }
        }
        let code = if fails {
            SERVFAIL
        } else if known.is_empty() {
            NXDOMAIN
        } else {
            0
        };
        let mut answer = message.get(..2)?.to_vec();
        answer.push(0x81 | if truncated { 2 } else { 0 });
        answer.push(0x80 | code);
        answer.extend([0, 1]);
        answer.extend(count.to_be_bytes());
        answer.extend([0; 4]);
        answer.extend(message.get(HEADER..at + 4)?);
        answer.extend(records);
        Some(answer)
    }
}
