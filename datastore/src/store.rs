//! The private registry as this datastore uses it: which registry, and where in it an image lies.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use onedock_common::ImageId;
use onedock_common::opennebula::config::Config;
use onedock_common::opennebula::image::Datastore;
use onedock_common::types::reference::{Reference, RegistryName, Repository, Source};
use onedock_registry::{Client, ImageStore, Options};

/// The repositories of images are `onedock/img-<id>`.
const PREFIX: &str = "onedock/img-";
/// All that the drivers keep in the private registry lies below this.
const OURS: &str = "onedock/";
/// Every layer that was ever copied can be mounted from there.
const LAYERS: &str = "onedock/layers";

/// A datastore with its registry.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) images: ImageStore,
    registry: Option<RegistryName>,
    default_registry: RegistryName,
    pub(crate) config: Config,
}

impl Store {
    /// REGISTRY of the datastore, else LOCAL_SERVER; DEFAULT_REGISTRY, else Docker Hub. `limit` is
    /// how long one call of a registry may take, where it is not the usual one.
    pub(crate) fn open(
        config: &Config,
        datastore: &Datastore,
        limit: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let registry = match &datastore.registry {
            Some(name) => Some(name.parse().context("the datastore's REGISTRY")?),
            None => config.local_server.clone(),
        };
        let default_registry = match &datastore.default_registry {
            Some(name) => name.parse().context("the datastore's DEFAULT_REGISTRY")?,
            None => RegistryName::docker_hub(),
        };
        let mut options = options(config)?;
        options.total_timeout = limit.unwrap_or(options.total_timeout);
        Ok(Self {
            images: ImageStore::new(Client::new(options)?),
            registry,
            default_registry,
            config: config.clone(),
        })
    }

    /// The client, which moves the content itself.
    pub(crate) fn client(&self) -> &Client {
        self.images.client()
    }

    /// The registry that stores the images.
    fn registry(&self) -> anyhow::Result<&RegistryName> {
        self.registry.as_ref().context(
            "no private registry is named; run 'onedock setup registry', or set LOCAL_SERVER in onedock.conf or REGISTRY in the datastore",
        )
    }

    /// Whether this is another spelling of the private registry: with the port that https means,
    /// or a registry whose mirror it is.
    fn is_private(&self, name: &RegistryName) -> bool {
        let bare = |text: &str| {
            let host = text.trim_start_matches("https://");
            host.strip_suffix(":443").unwrap_or(host).to_owned()
        };
        let Some(own) = self.registry.as_ref().map(|own| bare(own.as_str())) else {
            return false;
        };
        let mirrors = self.config.mirrors.iter().filter(|(of, _)| of == name);
        bare(name.as_str()) == own
            || mirrors
                .map(|(_, url)| bare(url.trim_start_matches("http://")))
                .any(|host| host == own)
    }

    /// Where image `id` is stored.
    pub(crate) fn repository(&self, id: ImageId) -> anyhow::Result<Repository> {
        Ok(Repository::new(
            self.registry()?.clone(),
            format!("{PREFIX}{id}").parse()?,
        ))
    }

    /// Whether images are stored in repositories of this name.
    pub(crate) fn is_image(repository: &Repository) -> bool {
        let number = repository.path().as_str().strip_prefix(PREFIX);
        number.is_some_and(|n| n.parse::<ImageId>().is_ok())
    }

    /// The repository of a SOURCE, if it is one of this datastore's images: nothing else is ever
    /// deleted or changed.
    pub(crate) fn own(&self, source: &Source) -> anyhow::Result<Repository> {
        let repository = source.repository();
        ensure!(
            repository.registry() == self.registry()? && Self::is_image(repository),
            "SOURCE {source} is not an image of this datastore; nothing was changed"
        );
        Ok(repository.clone())
    }

    /// The name with its registry. What the drivers keep is no source of images: they read it
    /// with an account of their own, so whoever may register an image could have the image of
    /// anybody else by the number in its name (attack 22).
    pub(crate) fn complete(&self, reference: &Reference) -> anyhow::Result<Reference> {
        let reference = reference.with_default_registry(&self.default_registry);
        ensure!(
            !reference.path().as_str().starts_with(OURS)
                || !reference
                    .registry()
                    .is_some_and(|name| self.is_private(name)),
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
            mirrors: vec![("hub:443".parse().unwrap(), "https://front:5000".into())],
            ..Config::default()
        };
        Store::open(&config, &datastore(), None).unwrap()
    }

    fn datastore() -> Datastore {
        Datastore {
            id: None,
            registry: None,
            default_registry: Some("front:5000".into()),
            safe_dirs: Vec::new(),
            restricted_dirs: Vec::new(),
            limit_mb: None,
            base_path: None,
        }
    }

    #[test]
    fn attack_22_what_the_drivers_keep_is_no_source_of_images() {
        let store = store();
        let complete = |name: &str| store.complete(&name.parse().unwrap());
        for bad in [
            "front:5000/onedock/img-7:latest",
            "onedock/img-7",
            "front:5000/onedock/layers",
            "hub:443/onedock/img-7",
        ] {
            let error = complete(bad).unwrap_err().to_string();
            assert!(error.contains("the images of all users"), "{error}");
        }
        let with_port = Store {
            registry: Some("front".parse().unwrap()),
            ..Store::open(&Config::default(), &datastore(), None).unwrap()
        };
        assert!(with_port.is_private(&"front:443".parse().unwrap()));
        assert!(!with_port.is_private(&"front:5000".parse().unwrap()));
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
