//! What the caller decides: files, trust, limits and deadlines.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use onedock_common::opennebula::config::Config;
use onedock_common::types::reference::{RegistryName, RepositoryPath};

/// Which registries a [`Client`](crate::Client) connects to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reach {
    /// All: the administrator names them.
    #[default]
    Anywhere,
    /// Users name them: none at an address of this machine, of its links, or of a cloud's metadata
    /// service, wherever an answer leads. Excepted are these, and those that the administrator has
    /// named as insecure, with an endpoint, a login or a certificate authority.
    Outward(Vec<RegistryName>),
}

/// How a [`Client`](crate::Client) reaches registries. [`Options::default`] is what a
/// front-end takes: the system's certificate authorities, `/etc/docker/certs.d`, no
/// credentials, no insecure registry.
#[derive(Debug, Clone)]
pub struct Options {
    /// Credentials in the engine's form: `{"auths": {"host:port": {"auth": "base64"}}}`. A
    /// file that is not there holds none.
    pub auth_file: Option<PathBuf>,
    /// Registries that may speak plain HTTP and whose certificate is not checked. Loopback
    /// (127.0.0.0/8, ::1, localhost) may speak plain HTTP without being named, as with the engine.
    pub insecure: Vec<RegistryName>,
    /// `<certs_dir>/<registry>/*.crt` are further certificate authorities of that registry.
    pub certs_dir: PathBuf,
    /// Where the requests for a registry are sent instead: `docker.io -> https://mirror.example`. A base
    /// URL with `http:` allows plain HTTP for it. Credentials are still found under the
    /// registry's name, else under the endpoint's host and port.
    pub endpoints: BTreeMap<RegistryName, String>,
    /// Hosts other than its own to which a registry's credentials may go for a token.
    /// Docker Hub's and parent domains (gitlab.com of registry.gitlab.com) need no entry.
    pub token_hosts: BTreeMap<RegistryName, Vec<String>>,
    /// A repository of the *target* registry in which every layer that was ever copied can be
    /// found, so that a layer of another image is mounted and not copied again. It holds links,
    /// no manifests; it costs one request for each layer.
    pub shared_layers: Option<RepositoryPath>,
    /// Which registries may be asked at all.
    pub reach: Reach,
    /// Until there is a connection.
    pub connect_timeout: Duration,
    /// Between two chunks of an answer.
    pub idle_timeout: Duration,
    /// How long a layer may come with less than 16 KiB a second, in whole seconds.
    pub slow_limit: Duration,
    /// One whole request that carries no layer.
    pub request_timeout: Duration,
    /// All requests of one call that carry no layer, with the pauses that a registry asks for. A slow
    /// registry would hold a driver's thread for as many such requests as it names layers.
    pub request_budget: Duration,
    /// One whole call of the client, retries and waits included.
    pub total_timeout: Duration,
    /// The largest image: the sum of its layers as they are transferred, and an archive's
    /// unpacked size, in bytes.
    pub image_limit: u64,
    /// What the layers of an image that is copied may unpack to, in bytes.
    pub unpacked_limit: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            auth_file: None,
            insecure: Vec::new(),
            certs_dir: PathBuf::from("/etc/docker/certs.d"),
            endpoints: BTreeMap::new(),
            token_hosts: BTreeMap::new(),
            shared_layers: None,
            reach: Reach::Anywhere,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            slow_limit: Duration::from_secs(60),
            request_timeout: Duration::from_secs(60),
            request_budget: Duration::from_secs(15 * 60),
            total_timeout: Duration::from_secs(2 * 60 * 60),
            image_limit: 256 << 30,
            unpacked_limit: 1 << 40,
        }
    }
}

impl From<&Config> for Options {
    fn from(config: &Config) -> Self {
        Self {
            auth_file: Some(config.auth_file.clone()),
            insecure: config.insecure_registries.clone(),
            certs_dir: config.certs_dir.clone(),
            endpoints: config.mirrors.iter().cloned().collect(),
            ..Self::default()
        }
    }
}
