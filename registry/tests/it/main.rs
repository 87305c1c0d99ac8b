//! The client against the real registry, and against one that lies.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stand outside of #[test]"
)]

mod archives;
mod copies;
mod disks;
mod field;
mod foreign;
mod images;
mod layers;
mod lies;
mod lying;
mod upkeep;

use std::time::Duration;

use onedock_common::types::reference::Repository;
use onedock_registry::{Client, Options, Platform};
use onedock_tests::registry_server::RegistryServer;

/// Short deadlines, and nothing of this machine's settings.
pub(crate) fn options() -> Options {
    Options {
        certs_dir: "/nonexistent".into(),
        connect_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(2),
        request_timeout: Duration::from_secs(4),
        total_timeout: Duration::from_secs(60),
        ..Options::default()
    }
}

pub(crate) fn client(options: Options) -> Client {
    Client::new(options).unwrap()
}

pub(crate) fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

pub(crate) fn at(server: &RegistryServer, path: &str) -> Repository {
    server.repository(path).unwrap()
}

/// An error with its causes.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(link) = next {
        text += &format!(": {link}");
        next = link.source();
    }
    text
}
