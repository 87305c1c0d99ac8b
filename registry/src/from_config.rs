//! How `onedock.conf` says that registries are reached.

use onedock_common::opennebula::config::Config;
use onedock_common::types::reference::RegistryName;
use onedock_common::types::secret::Credential;

use crate::client::Client;
use crate::error::Error;
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

impl Client {
    /// The client that this machine's configuration describes, with the account in its file of
    /// credentials.
    pub fn configured(config: &Config) -> Result<Self, Error> {
        Self::new(config.into())
    }

    /// The same with a login that was entrusted for this call; without one the machine's own.
    pub fn configured_with(
        config: &Config,
        registry: &RegistryName,
        login: Option<&Credential>,
    ) -> Result<Self, Error> {
        let client = Self::configured(config)?;
        Ok(match login {
            Some(login) => client.with_login(registry, login),
            None => client,
        })
    }
}
