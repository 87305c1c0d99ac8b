//! The private registry as this datastore uses it: where an image lies, and what is kept with it.

use anyhow::{Context as _, ensure};
use onedock_common::ImageId;
use onedock_common::config::Config;
use onedock_common::image::Datastore;
use onedock_common::reference::{Reference, RegistryName, Repository, Source};
use onedock_registry::{Client, Options};

/// The repositories of images are `onedock/img-<id>`.
const PREFIX: &str = "onedock/img-";

/// A datastore with its registry.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) client: Client,
    registry: Option<RegistryName>,
    default_registry: RegistryName,
    pub(crate) config: Config,
}

impl Store {
    /// REGISTRY of the datastore, else LOCAL_SERVER; DEFAULT_REGISTRY, else Docker Hub.
    pub(crate) fn open(config: &Config, datastore: &Datastore) -> anyhow::Result<Self> {
        let registry = match &datastore.registry {
            Some(name) => Some(name.parse().context("the datastore's REGISTRY")?),
            None => config.local_server.clone(),
        };
        let default_registry = match &datastore.default_registry {
            Some(name) => name.parse().context("the datastore's DEFAULT_REGISTRY")?,
            None => RegistryName::docker_hub(),
        };
        let client = Client::new(options(config)?)?;
        Ok(Self {
            client,
            registry,
            default_registry,
            config: config.clone(),
        })
    }

    /// The registry that images are kept in.
    fn registry(&self) -> anyhow::Result<&RegistryName> {
        self.registry.as_ref().context(
            "no private registry is named; run 'onedock setup registry', or set LOCAL_SERVER in onedock.conf or REGISTRY in the datastore",
        )
    }

    /// Where image `id` is kept.
    pub(crate) fn repository(&self, id: ImageId) -> anyhow::Result<Repository> {
        Ok(Repository::new(
            self.registry()?.clone(),
            format!("{PREFIX}{id}").parse()?,
        ))
    }

    /// The repository of a SOURCE, if it is one of this datastore's images: nothing else is ever
    /// deleted.
    pub(crate) fn own(&self, source: &Source) -> anyhow::Result<Repository> {
        let repository = source.repository();
        let number = repository.path().as_str().strip_prefix(PREFIX);
        ensure!(
            repository.registry() == self.registry()?
                && number.is_some_and(|n| n.parse::<ImageId>().is_ok()),
            "SOURCE {source} is not an image of this datastore; nothing was deleted"
        );
        Ok(repository.clone())
    }

    /// The name with its registry.
    pub(crate) fn complete(&self, reference: &Reference) -> Reference {
        reference.with_default_registry(&self.default_registry)
    }
}

/// How registries are reached from here.
pub(crate) fn options(config: &Config) -> anyhow::Result<Options> {
    // Every layer that was ever copied can be mounted from there.
    let shared_layers = Some("onedock/layers".parse()?);
    Ok(Options {
        shared_layers,
        ..Options::from(config)
    })
}
