//! Sends messages to `monitord`: UDP, and TCP for the states, which must not get lost.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use onedock_common::resolver::{self, LookupError};
use thiserror::Error;

use crate::config::Config;
use crate::wire::{Kind, WireError, datagrams, message};

const DEADLINE: Duration = Duration::from_secs(3);

/// Why a message was not sent.
#[derive(Debug, Error)]
pub enum SendError {
    /// It could not be written.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The name is unknown.
    #[error(
        "monitord's address \"{address}\" has no IP address ({problem}); see NETWORK/MONITOR_ADDRESS in monitord.conf"
    )]
    Name {
        /// What was looked up.
        address: String,
        /// The resolver's words.
        problem: LookupError,
    },
    /// The network did not take it.
    #[error("{transport} to monitord at {to} failed ({problem})")]
    Network {
        transport: &'static str,
        to: SocketAddr,
        problem: io::Error,
    },
}

/// Seconds since 1970.
pub fn unix_time() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| d.as_secs())
}

/// The way to one `monitord`.
#[derive(Debug)]
pub struct Monitord {
    config: Config,
    to: Option<(SocketAddr, UdpSocket)>,
}

impl Monitord {
    /// Nothing is sent or looked up yet.
    pub fn new(config: Config) -> Self {
        Self { config, to: None }
    }

    /// Looks the address up, again after each failure: a front-end's name may move.
    pub fn resolve(&mut self) -> Result<SocketAddr, SendError> {
        if let Some((to, _)) = &self.to {
            return Ok(*to);
        }
        let address = self.config.address.as_str();
        let ip = resolver::lookup_blocking(address).map_err(|problem| SendError::Name {
            address: address.to_owned(),
            problem,
        })?;
        let to = SocketAddr::new(ip, self.config.port);
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)
            .and_then(|s| s.set_write_timeout(Some(DEADLINE)).map(|()| s))
            .map_err(|problem| SendError::Network {
                transport: "UDP",
                to,
                problem,
            })?;
        self.to = Some((to, socket));
        Ok(to)
    }

    /// Sends by UDP, in as many datagrams as it takes, all of one moment: `monitord` drops what
    /// is older than the last message of its type.
    pub fn udp(&mut self, kind: Kind, records: &[String]) -> Result<(), SendError> {
        let time = unix_time();
        for data in datagrams(records) {
            let text = message(
                kind,
                self.config.host,
                time,
                &data,
                self.config.key.as_ref(),
            )?;
            let to = self.resolve()?;
            let Some((_, socket)) = &self.to else {
                continue;
            };
            if let Err(problem) = socket.send_to(text.as_bytes(), to) {
                self.to = None;
                return Err(SendError::Network {
                    transport: "UDP",
                    to,
                    problem,
                });
            }
        }
        Ok(())
    }

    /// Sends by TCP, one connection a message, its end being the message's.
    pub fn tcp(&mut self, kind: Kind, data: &str) -> Result<(), SendError> {
        let key = self.config.key.as_ref();
        let text = message(kind, self.config.host, unix_time(), data, key)?;
        let to = self.resolve()?;
        let sent = TcpStream::connect_timeout(&to, DEADLINE).and_then(|mut stream| {
            stream.set_write_timeout(Some(DEADLINE))?;
            stream.write_all(text.as_bytes())
        });
        sent.map_err(|problem| {
            self.to = None;
            SendError::Network {
                transport: "TCP",
                to,
                problem,
            }
        })
    }
}
