//! Messages as `monitord` reads them (`include/Message.h`):
//! `<TYPE> <STATUS> <HOST ID> <UNIX TIME> <base64(zlib(rsa?(data)))>`, one per UDP datagram or
//! TCP connection, and the document that answers the start of monitoring.

use std::fmt::Write as _;
use std::io::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use getrandom::SysRng;
use onedock_common::HostId;
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Encrypt, PublicKey};
use thiserror::Error;

/// Data bytes of one datagram. `monitord` reads at most 65,535 bytes and a datagram over IPv4
/// carries 65,507; this many bytes stay below that in base64, incompressible and encrypted with
/// the shortest key that has room for padding, so the cut can be made before encoding (fault 62).
pub const DATAGRAM: usize = 32 * 1024;

/// Why a message could not be written.
#[derive(Debug, Error)]
pub enum WireError {
    /// The key is not what OpenNebula writes.
    #[error(
        "NETWORK/PUBKEY of monitord.conf is not a PEM file with the head BEGIN RSA PUBLIC KEY ({0})"
    )]
    Key(String),
    /// The key does not encrypt.
    #[error("a message cannot be encrypted with NETWORK/PUBKEY")]
    Encrypt(#[source] rsa::Error),
    /// Memory or the compressor failed.
    #[error("a message cannot be compressed")]
    Compress(#[source] std::io::Error),
}

/// The messages that this agent sends (`MonitorDriverMessages.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The agent lives.
    BeaconHost,
    /// What the host is.
    SystemHost,
    /// What the host does.
    MonitorHost,
    /// What VMs use.
    MonitorVm,
    /// What state VMs are in.
    StateVm,
}

impl Kind {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::BeaconHost => "BEACON_HOST",
            Self::SystemHost => "SYSTEM_HOST",
            Self::MonitorHost => "MONITOR_HOST",
            Self::MonitorVm => "MONITOR_VM",
            Self::StateVm => "STATE_VM",
        }
    }
}

/// `monitord`'s public key.
#[derive(Debug, Clone)]
pub struct Key(PublicKey);

impl Key {
    /// Reads PKCS #1 PEM whose line ends may have become blanks on the way here
    /// (`echo ${STDIN}` in `run_monitord_client`).
    pub fn from_pem(text: &str) -> Result<Self, WireError> {
        let bad = |why: &str| WireError::Key(why.to_owned());
        let body = text
            .split_once("-----BEGIN RSA PUBLIC KEY-----")
            .and_then(|(_, rest)| rest.split_once("-----END RSA PUBLIC KEY-----"))
            .ok_or_else(|| bad("no such head and foot"))?
            .0;
        let body: String = body.split_ascii_whitespace().collect();
        let der = BASE64_STANDARD
            .decode(body)
            .map_err(|e| bad(&e.to_string()))?;
        PublicKey::from_pkcs1_der(&der)
            .map(Self)
            .map_err(|e| bad(&e.to_string()))
    }

    fn encrypt(&self, data: &[u8]) -> Result<Vec<u8>, WireError> {
        // PKCS #1 v1.5 padding takes eleven bytes of each block.
        let block = self.0.size().saturating_sub(11).max(1);
        let mut out = Vec::with_capacity(data.len().div_ceil(block) * self.0.size());
        for part in data.chunks(block) {
            let part = self
                .0
                .encrypt(&mut SysRng, Pkcs1v15Encrypt, part)
                .map_err(WireError::Encrypt)?;
            out.extend(part);
        }
        Ok(out)
    }
}

/// One message. `time` is in seconds since 1970.
pub fn message(
    kind: Kind,
    host: HostId,
    time: u64,
    data: &str,
    key: Option<&Key>,
) -> Result<String, WireError> {
    let (data, level) = match key {
        // What is encrypted does not compress.
        Some(key) => (key.encrypt(data.as_bytes())?, Compression::fast()),
        None => (data.as_bytes().to_vec(), Compression::default()),
    };
    let mut zlib = ZlibEncoder::new(Vec::new(), level);
    let packed = zlib
        .write_all(&data)
        .and_then(|()| zlib.finish())
        .map_err(WireError::Compress)?;
    Ok(format!(
        "{} SUCCESS {host} {time} {}",
        kind.name(),
        BASE64_STANDARD.encode(packed)
    ))
}

/// Puts records together until a datagram is full; a record is never cut (fault 62). One that
/// fills a datagram alone stands alone.
pub fn datagrams(records: &[String]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for record in records {
        match out.last_mut() {
            Some(last) if last.len() + 1 + record.len() <= DATAGRAM => {
                last.push('\n');
                last.push_str(record);
            }
            _ => out.push(record.clone()),
        }
    }
    out
}

/// The output of the probes at the start; a probe may have none.
#[derive(Debug, Clone, Default)]
pub struct First {
    /// SYSTEM_HOST.
    pub system_host: String,
    /// MONITOR_HOST.
    pub monitor_host: String,
    /// STATE_VM.
    pub state_vm: String,
    /// MONITOR_VM.
    pub monitor_vm: String,
}

impl First {
    /// The document that the start of monitoring answers, base64 without zlib, in the order and
    /// with the empty parts of the stock client (`vm/execution` and `vm/snapshot` have no probe
    /// here). `monitord` reads the first element of each name.
    pub fn document(&self, time: u64) -> String {
        let mut out = String::from("<MONITOR_MESSAGES>");
        for (name, data) in [
            ("SYSTEM_HOST", self.system_host.as_str()),
            ("MONITOR_HOST", &self.monitor_host),
            ("STATE_VM", &self.state_vm),
            ("EXEC_VM", ""),
            ("MONITOR_VM", &self.monitor_vm),
            ("MONITOR_VM", ""),
        ] {
            let _ = writeln!(out, "<{name}>{}</{name}>", BASE64_STANDARD.encode(data));
        }
        let _ = write!(out, "<TIMESTAMP>{time}</TIMESTAMP></MONITOR_MESSAGES>");
        out
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
