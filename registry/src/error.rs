//! What can go wrong with a registry, in words for the person who reads it.

use std::error::Error as StdError;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use onedock_common::Digest;
use onedock_common::types::reference::RegistryName;
use thiserror::Error;

/// Why an operation on a registry or an archive failed. The text is the error's own; causes
/// are in the source chain.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection, or it broke and did not come back.
    #[error(
        "registry {registry} cannot be reached at {address}; is it running, and is its name right?"
    )]
    Unreachable {
        /// The registry.
        registry: RegistryName,
        /// Scheme, host and port.
        address: String,
        /// The error of the network.
        source: reqwest::Error,
    },
    /// A user's registry at an address that is not for users.
    #[error(
        "registry {registry} is not allowed: it leads to {host} ({address}), an address of the front-end or its links; an administrator can allow it with ONEDOCK_USER_REGISTRIES=\"* {registry}\" in onedock.conf"
    )]
    Inward {
        /// The registry.
        registry: RegistryName,
        /// Where it leads.
        host: String,
        /// The address of that host.
        address: IpAddr,
    },
    /// Its certificate is not trusted here.
    #[error(
        "the certificate of registry {registry} is not trusted; put its CA into {certs} or name the registry as insecure"
    )]
    Certificate {
        /// The registry.
        registry: RegistryName,
        /// The folder where its CA belongs.
        certs: PathBuf,
        /// The error of the check.
        source: reqwest::Error,
    },
    /// A deadline passed.
    #[error("registry {registry} did not finish {what} within {} s", limit.as_secs_f32())]
    Timeout {
        /// The registry.
        registry: RegistryName,
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// It asked for a longer pause than there is time.
    #[error("registry {registry} is busy ({status}) and asks to come back in {} s{detail}", wait.as_secs())]
    Busy {
        /// The registry.
        registry: RegistryName,
        /// Its answer.
        status: u16,
        /// Its Retry-After, or our next pause.
        wait: Duration,
        /// Its message, as one short line with a colon in front; or nothing.
        detail: String,
    },
    /// An answer that the operation cannot go on with.
    #[error("registry {registry} answered {status} to {what}{detail}")]
    Status {
        /// The registry.
        registry: RegistryName,
        /// The HTTP status.
        status: u16,
        /// What was requested.
        what: String,
        /// Its message, as one short line with a colon in front; or nothing.
        detail: String,
    },
    /// No or wrong credentials.
    #[error("registry {registry} refuses {what}: {reason}")]
    Denied {
        /// The registry.
        registry: RegistryName,
        /// What was requested.
        what: String,
        /// What to do.
        reason: String,
    },
    /// The registry does not have it.
    #[error("{what} is not in registry {registry}")]
    NotFound {
        /// The registry.
        registry: RegistryName,
        /// What was requested.
        what: String,
    },
    /// Bytes that do not have the digest of their name.
    #[error("{what} has digest {found} where {expected} was expected; nothing was tagged")]
    Digest {
        /// Which bytes.
        what: String,
        /// The digest in the manifest or the name.
        expected: Digest,
        /// What was received.
        found: Digest,
    },
    /// More or fewer bytes than in the manifest.
    #[error("{what} has {found} bytes where {expected} were expected; nothing was tagged")]
    Length {
        /// Which bytes.
        what: String,
        /// The size in the manifest, in bytes.
        expected: u64,
        /// What was received.
        found: u64,
    },
    /// A manifest or configuration that cannot be used.
    #[error("{image} cannot be used: {reason}")]
    Image {
        /// The image.
        image: String,
        /// Why.
        reason: String,
    },
    /// More than the size that it was registered with allows.
    #[error(
        "{image} unpacks to more than {limit} bytes, twice its SIZE; register it with a larger one behind PATH (?size=<MB>)"
    )]
    Unpacked {
        /// The image.
        image: String,
        /// The most, in bytes.
        limit: u64,
    },
    /// An index without a platform that is wanted.
    #[error("{image} is not built for {wanted} (it has {has})")]
    Platform {
        /// The image.
        image: String,
        /// What was requested.
        wanted: String,
        /// What is there.
        has: String,
    },
    /// The registry does not delete.
    #[error(
        "registry {0} does not allow deletion; set storage.delete.enabled to true in its configuration"
    )]
    DeleteDisabled(RegistryName),
    /// An answer that breaks the protocol or a limit.
    #[error("registry {registry} gave an answer that is refused: {reason}")]
    Answer {
        /// The registry.
        registry: RegistryName,
        /// What is wrong with it.
        reason: String,
    },
    /// An archive that is refused.
    #[error("archive {path} cannot be used: {reason}", path = path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A local file that cannot be read.
    #[error("{path} cannot be read", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A disk's file that is refused.
    #[error("{path} cannot be stored as a disk: {reason}", path = path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A local file that cannot be written.
    #[error("{path} cannot be written", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A layer's archive that is incomplete or no archive; nothing was tagged.
    #[error("the layer for {image} cannot be used: {reason}")]
    Layer {
        /// The image that it was for.
        image: String,
        /// Why.
        reason: String,
        /// The error of the reading, when that failed.
        source: Option<std::io::Error>,
    },
    /// A file of settings (credentials, certificates) that is damaged.
    #[error("{path} is not {expected}", path = path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What belongs there.
        expected: &'static str,
    },
    /// Given up because another transfer of the same call failed, whose error is reported.
    #[error("another part of the image failed")]
    Cancelled,
    /// The HTTP client could not be set up.
    #[error("the connection to registry {registry} could not be prepared")]
    Prepare {
        /// The registry.
        registry: RegistryName,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Whether the same call may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Busy { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Whether what was requested is not in the registry.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// The error of a local file that cannot be read.
pub(crate) fn cannot_read(path: &Path) -> impl Fn(io::Error) -> Error + Copy {
    move |source| Error::File {
        path: path.to_owned(),
        source,
    }
}

/// The error of a local file that cannot be written.
pub(crate) fn cannot_write(path: &Path) -> impl Fn(io::Error) -> Error + Copy {
    move |source| Error::Write {
        path: path.to_owned(),
        source,
    }
}

/// An error and what caused it, outermost first. An `io::Error` shows the cause of what it wraps, and not
/// what it wraps.
pub(crate) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let next = |link: &&'a (dyn StdError + 'static)| -> Option<&'a (dyn StdError + 'static)> {
        let link = *link;
        match link
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => link.source(),
        }
    };
    std::iter::successors(Some(error), next)
}

/// Text of a registry or an archive as one short line without control characters.
pub(crate) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect()
}
