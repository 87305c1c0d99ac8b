//! What can go wrong with a registry, in words for the person who reads it.

use std::path::PathBuf;
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
        /// The network's answer.
        source: reqwest::Error,
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
        /// What the check said.
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
    /// It asked to be left alone for longer than there is time.
    #[error("registry {registry} is busy ({status}) and asks to come back in {} s{detail}", wait.as_secs())]
    Busy {
        /// The registry.
        registry: RegistryName,
        /// Its answer.
        status: u16,
        /// Its Retry-After, or our next pause.
        wait: Duration,
        /// What it said, cleaned and cut, with a colon in front; or nothing.
        detail: String,
    },
    /// An answer that the operation cannot go on with.
    #[error("registry {registry} answered {status} to {what}{detail}")]
    Status {
        /// The registry.
        registry: RegistryName,
        /// The HTTP status.
        status: u16,
        /// What was asked.
        what: String,
        /// What it said, cleaned and cut, with a colon in front; or nothing.
        detail: String,
    },
    /// No or wrong credentials.
    #[error("registry {registry} refuses {what}: {reason}")]
    Denied {
        /// The registry.
        registry: RegistryName,
        /// What was asked.
        what: String,
        /// What to do.
        reason: String,
    },
    /// Not there.
    #[error("{what} is not in registry {registry}")]
    NotFound {
        /// The registry.
        registry: RegistryName,
        /// What was asked for.
        what: String,
    },
    /// Bytes that are not what their name says.
    #[error("{what} has digest {found} where {expected} was expected; nothing was tagged")]
    Digest {
        /// Which bytes.
        what: String,
        /// What the manifest or the name says.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// Bytes that are more or fewer than the manifest says.
    #[error("{what} has {found} bytes where {expected} were expected; nothing was tagged")]
    Length {
        /// Which bytes.
        what: String,
        /// What the manifest says.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// A manifest or configuration that is refused.
    #[error("{image} cannot be used: {reason}")]
    Image {
        /// The image.
        image: String,
        /// Why.
        reason: String,
    },
    /// An index without a platform that is wanted.
    #[error("{image} is not built for {wanted} (it has {has})")]
    Platform {
        /// The image.
        image: String,
        /// What was asked for.
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
        /// What the system answered.
        source: std::io::Error,
    },
    /// A disk's file that is refused.
    #[error("{path} cannot be kept as a disk: {reason}", path = path.display())]
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
        /// What the system answered.
        source: std::io::Error,
    },
    /// A layer's archive that broke off or is no archive; nothing was tagged.
    #[error("the layer for {image} cannot be used: {reason}")]
    Layer {
        /// The image that it was for.
        image: String,
        /// Why.
        reason: String,
        /// What the reading answered, when that failed.
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
    /// Given up because another part of the same work failed, which is what is told.
    #[error("another part of the image failed")]
    Stopped,
    /// The HTTP client could not be made.
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

    /// Whether what was asked for is not in the registry.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
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
