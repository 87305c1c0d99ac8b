//! The private registry as this datastore uses it: where an image lies, and what is kept with it.

use anyhow::{Context as _, ensure};
use onedock_common::ImageId;
use onedock_common::config::Config;
use onedock_common::image::Datastore;
use onedock_common::reference::{Reference, RegistryName, Repository, Source};
use onedock_registry::{Client, Options};

/// The repositories of images are `onedock/img-<id>`.
const PREFIX: &str = "onedock/img-";
/// All that the drivers keep in the private registry lies below this.
const OURS: &str = "onedock/";
/// Every layer that was ever copied can be mounted from there.
const LAYERS: &str = "onedock/layers";

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

    /// The name with its registry. What the drivers keep is no source of images: they read it
    /// with an account of their own, so whoever may register an image could have the image of
    /// anybody else by the number in its name (attack 22).
    pub(crate) fn complete(&self, reference: &Reference) -> anyhow::Result<Reference> {
        let reference = reference.with_default_registry(&self.default_registry);
        ensure!(
            reference.registry() != self.registry.as_ref()
                || !reference.path().as_str().starts_with(OURS),
            "PATH docker://{reference} lies where the datastore keeps the images of all users; register it from where it came"
        );
        Ok(reference)
    }
}

/// How registries are reached from here.
pub(crate) fn options(config: &Config) -> anyhow::Result<Options> {
    Ok(Options {
        shared_layers: Some(LAYERS.parse()?),
        ..Options::from(config)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Store {
        let config = Config {
            local_server: Some("front:5000".parse().unwrap()),
            auth_file: "/nonexistent".into(),
            ..Config::default()
        };
        let datastore = Datastore {
            id: None,
            registry: None,
            default_registry: Some("front:5000".into()),
            safe_dirs: Vec::new(),
            restricted_dirs: Vec::new(),
            limit_mb: None,
        };
        Store::open(&config, &datastore).unwrap()
    }

    #[test]
    fn attack_22_what_the_drivers_keep_is_no_source_of_images() {
        let store = store();
        let complete = |name: &str| store.complete(&name.parse().unwrap());
        for bad in [
            "front:5000/onedock/img-7:latest",
            "onedock/img-7",
            "front:5000/onedock/layers",
        ] {
            let error = complete(bad).unwrap_err().to_string();
            assert!(
                error.starts_with("PATH docker://front:5000/onedock/"),
                "{error}"
            );
        }
        for good in ["front:5000/team/web:1", "docker.io/onedock/img-7", "alpine"] {
            assert!(complete(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn only_an_image_of_this_datastore_is_deleted() {
        let store = store();
        let own = |name: &str| {
            let source = format!("docker://{name}@sha256:{}", "ab".repeat(32));
            store.own(&source.parse().unwrap())
        };
        assert!(own("front:5000/onedock/img-7").is_ok());
        for bad in [
            "front:5000/onedock/layers",
            "front:5000/team/web",
            "other:5000/onedock/img-7",
        ] {
            assert!(own(bad).is_err(), "{bad}");
        }
    }
}
