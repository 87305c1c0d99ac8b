//! The client against the real registry, and against a fake one that misbehaves.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stand outside of #[test]"
)]

mod append;
mod archives;
mod archives_of_tools;
mod copies;
mod disks;
mod fake_registry;
mod images;
mod pushed_by_others;
mod untrusted;
mod upkeep;

use std::time::Duration;

use onedock_common::Digest;
use onedock_common::types::reference::{Reference, Repository};
use onedock_registry::{Client, Options, Platform};
use onedock_tests::registry_server::RegistryServer;
use serde_json::Value;

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

/// A blob in the server's storage.
pub(crate) fn blob(server: &RegistryServer, digest: &Digest) -> Vec<u8> {
    let hex = digest.hex();
    let folder = format!("blobs/sha256/{}/{hex}/data", &hex[..2]);
    std::fs::read(server.storage().join(folder)).unwrap()
}

/// The configuration that a manifest names.
pub(crate) fn config_of(server: &RegistryServer, manifest: &Value) -> Value {
    let digest = manifest["config"]["digest"].as_str().unwrap();
    serde_json::from_slice(&blob(server, &digest.parse().unwrap())).unwrap()
}

/// The configuration of an image, or of the one for `platform` in an index; `None` when that has
/// none.
pub(crate) async fn image_config(
    server: &RegistryServer,
    client: &Client,
    reference: &Reference,
    platform: &str,
) -> Option<Value> {
    let resolved = client.resolve(reference).await.unwrap();
    let mut manifest: Value = serde_json::from_slice(&resolved.bytes).unwrap();
    if let Some(entries) = manifest["manifests"].as_array() {
        let is_wanted = |entry: &&Value| {
            let part = |key: &str| entry["platform"][key].as_str().unwrap_or_default();
            format!("{}/{}", part("os"), part("architecture")) == platform
        };
        let digest = entries.iter().find(is_wanted)?["digest"].as_str()?;
        manifest = serde_json::from_slice(&blob(server, &digest.parse().unwrap())).unwrap();
    }
    let config = config_of(server, &manifest);
    let built_for = |key: &str| config[key].as_str().unwrap().to_owned();
    assert_eq!(
        format!("{}/{}", built_for("os"), built_for("architecture")),
        platform
    );
    Some(config)
}

/// An error with its causes.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(link) = next {
        text += &format!(": {link}");
        next = link.source();
    }
    text
}
