//! The image's configuration: what a container is started with (OCI image specification,
//! config.md; the engine's is the same with more fields).

use std::collections::BTreeMap;

/// What the driver needs of an image's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// The operating system it is built for, as written; may be empty in old images.
    pub os: String,
    /// The architecture it is built for, as written; may be empty in old images.
    pub architecture: String,
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// CMD.
    pub cmd: Vec<String>,
    /// ENV, each `NAME=value`.
    pub env: Vec<String>,
    /// LABEL.
    pub labels: BTreeMap<String, String>,
    /// VOLUME, the paths.
    pub volumes: Vec<String>,
    /// EXPOSE, each `port/protocol`.
    pub exposed_ports: Vec<String>,
    /// USER; empty is root.
    pub user: String,
    /// WORKDIR; empty is `/`.
    pub working_dir: String,
    /// STOPSIGNAL as written; `None` is SIGTERM.
    pub stop_signal: Option<String>,
}
