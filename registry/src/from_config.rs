//! How `onedock.conf` says that registries are reached.

use onedock_common::config::Config;

use crate::options::Options;

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
