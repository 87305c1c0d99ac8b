//! Image references: `[registry[:port]/]repository[:tag][@digest]`, read strictly.
//!
//! The grammar is that of the distribution specification (1.1, "Pulling manifests") and of the
//! engine's reference parser; what counts as a registry is ONEDock's rule made right:
//! the first part is a registry when it contains a point or a colon or is `localhost`. An
//! unqualified name has no registry until [`Reference::with_default_registry`] gives it one.
//! Docker Hub is `docker.io`; its single names lie under `library/`.

mod image_tag;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::types::digest::{BadDigest, Digest};

pub use image_tag::{ImageTag, UnknownTag};

/// The scheme of an image's PATH and SOURCE.
pub const SCHEME: &str = "docker://";

/// The longest repository path, in bytes (the engine refuses longer names).
const PATH_LIMIT: usize = 255;
/// The longest host name, in bytes (RFC 1035).
const HOST_LIMIT: usize = 253;
/// The longest text that can be a reference at all.
const TEXT_LIMIT: usize = HOST_LIMIT + 6 + 1 + PATH_LIMIT + 1 + 128 + 1 + 71;

/// Why text is not an image reference.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BadReference {
    /// Not a registry's name.
    #[error("\"{0}\" is not a registry (host[:port], in lower case)")]
    Registry(String),
    /// An address in another form than the usual one, in which it would be another registry.
    #[error("\"{0}\" is not the usual form of an IP address (192.0.2.1 or [2001:db8::1])")]
    Address(String),
    /// Not a repository path.
    #[error(
        "\"{0}\" is not a repository name (lower-case letters, digits, single . _ or - between them, parts with /, at most 255)"
    )]
    Path(String),
    /// Not a tag.
    #[error("\"{0}\" is not a tag (letters, digits, . _ and -, at most 128)")]
    Tag(String),
    /// The part after `@` is not a digest.
    #[error(transparent)]
    Digest(#[from] BadDigest),
    /// Longer than any reference.
    #[error("the image name has {0} bytes; at most {TEXT_LIMIT} are possible")]
    TooLong(usize),
    /// No `docker://` in front.
    #[error("\"{0}\" does not begin with {SCHEME}")]
    Scheme(String),
    /// A SOURCE that leaves open which image it means.
    #[error("\"{0}\" is not a SOURCE of this driver (docker://registry/repository@sha256:…)")]
    Source(String),
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

macro_rules! text_type {
    ($name:ident, $error:ty) => {
        impl TryFrom<String> for $name {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        text_type!($name, BadReference);
    };
}

newtype!(
    /// A registry as it stands in an image's name: `host`, `host:port`, `[v6]:port`.
    /// Docker Hub's several names all become `docker.io`.
    RegistryName
);
newtype!(
    /// A repository's path within its registry, such as `library/busybox`.
    RepositoryPath
);
newtype!(
    /// A tag.
    Tag
);

impl RegistryName {
    /// `docker.io`.
    pub fn docker_hub() -> Self {
        Self("docker.io".to_owned())
    }

    /// Whether this is Docker Hub.
    pub fn is_docker_hub(&self) -> bool {
        self.0 == "docker.io"
    }

    /// The host and port that answer for this registry: Docker Hub's are not those in its name.
    pub fn endpoint_host(&self) -> &str {
        if self.is_docker_hub() {
            "registry-1.docker.io"
        } else {
            &self.0
        }
    }

    /// The host without the port; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        match split_port(&self.0) {
            Some((host, _)) => in_brackets(host).unwrap_or(host),
            None => &self.0,
        }
    }

    /// The port; without one that of HTTPS.
    pub fn port(&self) -> u16 {
        let named = split_port(&self.0).and_then(|(_, port)| port?.parse().ok());
        named.unwrap_or(443)
    }
}

/// Host (with its brackets) and port, when the text has the shape of one.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let end = rest.find(']')?;
        let (host, after) = (text.get(..end + 2)?, rest.get(end + 1..)?);
        return match after {
            "" => Some((host, None)),
            _ => after.strip_prefix(':').map(|port| (host, Some(port))),
        };
    }
    match text.split_once(':') {
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

/// The address between the brackets of an IPv6 host.
fn in_brackets(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

/// Whether an address has its usual form. Others (`2130706433`, `0x7f.1`, `127.1`) are numbers to
/// whoever connects: a last label that is a number makes the host an IPv4 address (URL standard,
/// "ends in a number checker").
fn address_is_usual(host: &str) -> bool {
    if let Some(text) = in_brackets(host) {
        let usual = |v6: Ipv6Addr| v6.to_ipv4_mapped().is_none() && v6.to_string() == text;
        return text.parse().is_ok_and(usual);
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    let hexadecimal = |digits: &str| digits.bytes().all(|b| b.is_ascii_hexdigit());
    let is_number = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(hexadecimal);
    !is_number || host.parse::<Ipv4Addr>().is_ok()
}

fn host_is_good(host: &str) -> bool {
    if let Some(v6) = in_brackets(host) {
        return v6.parse::<Ipv6Addr>().is_ok();
    }
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    host.len() <= HOST_LIMIT && host.split('.').all(label)
}

fn port_is_good(port: &str) -> bool {
    port.bytes().all(|b| b.is_ascii_digit())
        && !port.starts_with('0')
        && port.parse::<u16>().is_ok()
}

impl FromStr for RegistryName {
    type Err = BadReference;
    fn from_str(text: &str) -> Result<Self, BadReference> {
        let parts = split_port(text)
            .filter(|(host, port)| host_is_good(host) && port.is_none_or(port_is_good));
        let Some((host, _)) = parts else {
            return Err(BadReference::Registry(shown(text)));
        };
        if !address_is_usual(host) {
            return Err(BadReference::Address(shown(host)));
        }
        match text {
            "index.docker.io" | "registry-1.docker.io" => Ok(Self::docker_hub()),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

/// One part of a path: runs of letters and digits joined by `.`, `_`, `__` or hyphens.
fn part_is_good(part: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let joint =
        |run: &str| run == "." || run == "_" || run == "__" || run.bytes().all(|b| b == b'-');
    let ends =
        part.bytes().next().is_some_and(alnum) && part.bytes().next_back().is_some_and(alnum);
    ends && part
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .filter(|run| !run.is_empty())
        .all(joint)
}

impl FromStr for RepositoryPath {
    type Err = BadReference;
    fn from_str(text: &str) -> Result<Self, BadReference> {
        if text.len() <= PATH_LIMIT && text.split('/').all(part_is_good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadReference::Path(shown(text)))
        }
    }
}

impl Tag {
    /// `latest`, what a reference without tag and digest means.
    pub fn latest() -> Self {
        Self("latest".to_owned())
    }
}

impl FromStr for Tag {
    type Err = BadReference;
    fn from_str(text: &str) -> Result<Self, BadReference> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let good = (1..=128).contains(&text.len())
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadReference::Tag(shown(text)))
        }
    }
}

/// A repository of a registry: where an image's manifests, tags and layers lie.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository {
    registry: RegistryName,
    path: RepositoryPath,
}
text_type!(Repository, BadReference);

impl Repository {
    /// A repository; a single name on Docker Hub goes under `library/`.
    pub fn new(registry: RegistryName, path: RepositoryPath) -> Self {
        let path = if registry.is_docker_hub() && !path.0.contains('/') {
            RepositoryPath(format!("library/{path}"))
        } else {
            path
        };
        Self { registry, path }
    }
    /// The registry.
    pub fn registry(&self) -> &RegistryName {
        &self.registry
    }
    /// The path within it.
    pub fn path(&self) -> &RepositoryPath {
        &self.path
    }
    /// The reference of one tag in it.
    pub fn tagged(&self, tag: &Tag) -> Reference {
        Reference {
            registry: Some(self.registry.clone()),
            path: self.path.clone(),
            tag: Some(tag.clone()),
            digest: None,
        }
    }
    /// The reference of one manifest in it.
    pub fn pinned(&self, digest: &Digest) -> Reference {
        Reference {
            registry: Some(self.registry.clone()),
            path: self.path.clone(),
            tag: None,
            digest: Some(digest.clone()),
        }
    }
}

impl FromStr for Repository {
    type Err = BadReference;
    fn from_str(text: &str) -> Result<Self, BadReference> {
        let reference: Reference = text.parse()?;
        match (reference.repository(), &reference.tag, &reference.digest) {
            (Some(repository), None, None) => Ok(repository),
            (None, ..) => Err(BadReference::Registry(shown(text))),
            _ => Err(BadReference::Path(shown(text))),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

/// An image's name. Printed and read again it is the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: Option<RegistryName>,
    path: RepositoryPath,
    tag: Option<Tag>,
    digest: Option<Digest>,
}
text_type!(Reference, BadReference);

impl Reference {
    /// Reads `docker://…` as it stands in an image's PATH, without arguments.
    pub fn from_url(text: &str) -> Result<Self, BadReference> {
        text.strip_prefix(SCHEME)
            .ok_or_else(|| BadReference::Scheme(shown(text)))?
            .parse()
    }
    /// `docker://…`.
    pub fn to_url(&self) -> String {
        format!("{SCHEME}{self}")
    }
    /// The registry, when the name says one.
    pub fn registry(&self) -> Option<&RegistryName> {
        self.registry.as_ref()
    }
    /// The path within the registry.
    pub fn path(&self) -> &RepositoryPath {
        &self.path
    }
    /// The tag, when the name says one.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }
    /// The digest, when the name is pinned. It wins over the tag.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
    /// Registry and path, when the name says a registry.
    pub fn repository(&self) -> Option<Repository> {
        let registry = self.registry.clone()?;
        Some(Repository::new(registry, self.path.clone()))
    }
    /// The same image with `registry` in place of none: a name that says its registry is
    /// returned as it is. Docker Hub's single names become `library/…`.
    #[must_use]
    pub fn with_default_registry(&self, registry: &RegistryName) -> Self {
        let registry = self.registry.clone().unwrap_or_else(|| registry.clone());
        let Repository { registry, path } = Repository::new(registry, self.path.clone());
        Self {
            registry: Some(registry),
            path,
            ..self.clone()
        }
    }
}

impl FromStr for Reference {
    type Err = BadReference;
    fn from_str(text: &str) -> Result<Self, BadReference> {
        if text.len() > TEXT_LIMIT {
            return Err(BadReference::TooLong(text.len()));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (registry, rest) = match name.split_once('/') {
            Some((first, rest))
                if first.contains(['.', ':']) || first == "localhost" || first.is_empty() =>
            {
                (Some(first.parse::<RegistryName>()?), rest)
            }
            _ => (None, name),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag.parse::<Tag>()?)),
            None => (rest, None),
        };
        let path: RepositoryPath = path.parse()?;
        // The engine takes 64 hexadecimal digits for an image id, never for a name.
        let id = |p: &str| p.len() == 64 && p.bytes().all(|b| b.is_ascii_hexdigit());
        if registry.is_none() && id(path.as_str()) {
            return Err(BadReference::Path(shown(path.as_str())));
        }
        let path = match &registry {
            Some(registry) => Repository::new(registry.clone(), path).path,
            None => path,
        };
        Ok(Self {
            registry,
            path,
            tag,
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(f, "{registry}/")?;
        }
        write!(f, "{}", self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// An image's SOURCE: `docker://registry/repository@sha256:…`, always with registry and digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Source {
    repository: Repository,
    digest: Digest,
}
text_type!(Source, BadReference);

impl Source {
    /// The SOURCE of one manifest.
    pub fn new(repository: Repository, digest: Digest) -> Self {
        Self { repository, digest }
    }
    /// Where it lies.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }
    /// What it is.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
    /// The image's name.
    pub fn reference(&self) -> Reference {
        self.repository.pinned(&self.digest)
    }
}

impl FromStr for Source {
    type Err = BadReference;
    fn from_str(text: &str) -> Result<Self, BadReference> {
        let reference = Reference::from_url(text)?;
        match (reference.repository(), reference.digest, reference.tag) {
            (Some(repository), Some(digest), None) => Ok(Self { repository, digest }),
            _ => Err(BadReference::Source(shown(text))),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}@{}", self.repository, self.digest)
    }
}

#[cfg(test)]
mod tests;
