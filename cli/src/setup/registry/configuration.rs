//! `config.yml` of the registry.

use super::{RegistrySetup, proxy};
use crate::file_step::PutFile;
use crate::step::Step;

/// The file's step.
pub(super) fn step(setup: &RegistrySetup) -> Box<dyn Step> {
    PutFile::new(
        setup.file("config.yml"),
        render(setup),
        0o640,
        setup.readable_by_service(),
    )
}

/// No cache of blob descriptors: it lives in the process and goes on naming blobs that the
/// garbage collection has taken away.
fn render(setup: &RegistrySetup) -> String {
    let file = |name: &str| quoted(&setup.file(name).display().to_string());
    format!(
        "# Written by `onedock setup registry`; a change in here is undone by the next one.\n\
         version: 0.1\n\
         log:\n  level: error\n  accesslog:\n    disabled: true\n\
         storage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n\
         http:\n  net: unix\n  addr: {}\n  host: {}\n  relativeurls: true\n\
         \x20 headers:\n    X-Content-Type-Options: [nosniff]\n\
         auth:\n  htpasswd:\n    realm: onedock\n    path: {}\n",
        quoted(&setup.storage().display().to_string()),
        quoted(&setup.host.path(proxy::SOCKET).display().to_string()),
        quoted(&format!("https://{}", setup.registry)),
        file("htpasswd"),
    )
}

/// A YAML string in double quotes, which are JSON's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
