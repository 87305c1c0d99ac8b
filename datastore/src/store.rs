//! The private registry as this datastore uses it: which registry, and where in it an image lies.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use onedock_common::ImageId;
use onedock_common::opennebula::config::Config;
use onedock_common::opennebula::image::Datastore;
use onedock_common::resolver::{Resolver, own_addresses};
use onedock_common::types::reference::{Reference, RegistryName, Repository, Source};
use onedock_common::types::registry_pattern::RegistryPattern;
use onedock_registry::{Client, ImageStore, Options, Reach, credential};

/// The repositories of images are `onedock/img-<id>`.
const PREFIX: &str = "onedock/img-";
/// All that the drivers keep in the private registry lies below this.
const OURS: &str = "onedock/";
/// Every layer that was ever copied can be mounted from there.
const LAYERS: &str = "onedock/layers";

/// What an image may unpack to for each MB of its SIZE, in bytes: twice as much, because SIZE is that of one
/// platform, and may be an estimate (`docs/decisions/0003-image-size.md`).
const UNPACKED: u64 = 2 << 20;

/// A datastore with its registry.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) images: ImageStore,
    registry: Option<RegistryName>,
    /// Where an unqualified name is looked for; Docker Hub where the datastore names none.
    default_registry: Option<RegistryName>,
    pub(crate) config: Config,
}

impl Store {
    /// REGISTRY of the datastore, else LOCAL_SERVER; DEFAULT_REGISTRY, else Docker Hub. `limit` is
    /// how long one call of a registry may take, where it is not the usual one; `size_mb` what an image
    /// may unpack to, where it is known.
    pub(crate) fn open(
        config: &Config,
        datastore: &Datastore,
        limit: Option<Duration>,
        size_mb: Option<u64>,
    ) -> anyhow::Result<Self> {
        let registry = match &datastore.registry {
            Some(name) => Some(name.parse().context("the datastore's REGISTRY")?),
            None => config.local_server.clone(),
        };
        let default_registry = match &datastore.default_registry {
            Some(name) => Some(name.parse().context("the datastore's DEFAULT_REGISTRY")?),
            None => None,
        };
        let mut options = options(config)?;
        let named = config
            .user_registries
            .iter()
            .filter_map(|pattern| match pattern {
                RegistryPattern::One(name) => Some(name.clone()),
                RegistryPattern::All | RegistryPattern::Below(_) => None,
            });
        let of_datastore = registry.iter().chain(&default_registry).cloned();
        options.reach = Reach::Outward(of_datastore.chain(named).collect());
        options.total_timeout = limit.unwrap_or(options.total_timeout);
        if let Some(mb) = size_mb {
            options.unpacked_limit = mb.saturating_mul(UNPACKED);
        }
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

    /// Whether this is another name of a private registry: with the port that https means, a registry
    /// whose mirror it is, or another host with the same address. A registry to which the drivers have a
    /// login counts as one: it may be another datastore's.
    async fn is_private(&self, name: &RegistryName) -> anyhow::Result<bool> {
        if !name.is_docker_hub() && credential(&self.config.auth_file, name)?.is_some() {
            return Ok(true);
        }
        for own in [&self.registry, &self.config.local_server]
            .into_iter()
            .flatten()
        {
            if self.is_the_same(name, own).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether `name` leads to the registry `own`.
    async fn is_the_same(&self, name: &RegistryName, own: &RegistryName) -> anyhow::Result<bool> {
        let mirror = self.config.mirrors.iter().find(|(of, _)| of == name);
        let asked = match mirror {
            None => name.clone(),
            Some((_, url)) => {
                let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
                let authority = rest.split('/').next().unwrap_or_default();
                authority.parse().context("ONEDOCK_REGISTRY_MIRRORS")?
            }
        };
        if (asked.host(), asked.port()) == (own.host(), own.port()) {
            return Ok(true);
        }
        if asked.is_docker_hub() || asked.port() != own.port() {
            return Ok(false);
        }
        let names = Resolver::from_system()?;
        let theirs = names.lookup(asked.host()).await?;
        let ours = names.lookup(own.host()).await?;
        let of_machine = own_addresses();
        let is_here = |address: &IpAddr| {
            let address = address.to_canonical();
            address.is_loopback() || of_machine.contains(&address)
        };
        Ok(theirs.iter().any(|address| ours.contains(address))
            || (theirs.iter().any(is_here) && ours.iter().any(is_here)))
    }

    /// Whether users may name a registry (ONEDOCK_USER_REGISTRIES). Those that the datastore names they may.
    fn is_for_users(&self, name: &RegistryName) -> bool {
        let patterns = &self.config.user_registries;
        patterns.is_empty()
            || self.registry.as_ref() == Some(name)
            || self.default_registry.as_ref() == Some(name)
            || patterns.iter().any(|pattern| pattern.has(name))
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

    /// The name with its registry, which must be one that users may name. What the drivers keep is no
    /// source of images: they read it with an account of their own, so whoever may register an image
    /// could have the image of anybody else by the number in its name (attack 22).
    pub(crate) async fn complete(&self, reference: &Reference) -> anyhow::Result<Reference> {
        let hub = RegistryName::docker_hub();
        let default = self.default_registry.as_ref().unwrap_or(&hub);
        let reference = reference.with_default_registry(default);
        let name = reference.registry().unwrap_or(default);
        ensure!(
            self.is_for_users(name),
            "PATH docker://{reference}: registry {name} is not among those that users may name (ONEDOCK_USER_REGISTRIES in onedock.conf)"
        );
        if reference.path().as_str().starts_with(OURS) {
            let is_private = self.is_private(name).await.with_context(|| {
                format!(
                    "whether {name} is the private registry by another name cannot be found out"
                )
            })?;
            ensure!(
                !is_private,
                "PATH docker://{reference} lies where the datastore keeps the images of all users; register it from where it came"
            );
        }
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
        Store::open(&config, &datastore(), None, None).unwrap()
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

    /// What `name` becomes in a datastore with this configuration, or why it is refused.
    fn complete(store: &Store, name: &str) -> Result<String, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let completed = runtime.block_on(store.complete(&name.parse().unwrap()));
        completed
            .map(|r| r.to_string())
            .map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn attack_22_what_the_drivers_keep_is_no_source_of_images() {
        let private = |name: &str| Store {
            registry: Some(name.parse().unwrap()),
            ..store()
        };
        for (own, bad) in [
            ("front:5000", "front:5000/onedock/img-7:latest"),
            ("front:5000", "onedock/img-7"),
            ("front:5000", "front:5000/onedock/layers"),
            ("front:5000", "hub:443/onedock/img-7"),
            ("front.example", "front.example:443/onedock/img-7"),
            // Another name or address of the same machine.
            ("localhost:5000", "127.0.0.1:5000/onedock/img-7"),
            ("127.0.0.1:5000", "localhost:5000/onedock/img-7"),
            ("127.0.0.1:5000", "[::1]:5000/onedock/img-7"),
            ("localhost:5000", "127.0.0.2:5000/onedock/img-7"),
            ("192.0.2.1", "192.0.2.1:443/onedock/img-7"),
        ] {
            let error = complete(&private(own), bad).unwrap_err();
            assert!(error.contains("the images of all users"), "{bad}: {error}");
        }
        let error = complete(&store(), "unknown.invalid:5000/onedock/img-7").unwrap_err();
        assert!(error.contains("cannot be found out"), "{error}");
        for good in [
            "front:5000/team/web:1",
            "docker.io/onedock/img-7",
            "alpine",
            "unknown.invalid:5000/team/web",
        ] {
            assert!(complete(&store(), good).is_ok(), "{good}");
        }
        let mut other = private("192.0.2.1:5000");
        other.config.local_server = None;
        for good in [
            "192.0.2.2:5000/onedock/img-7",
            "192.0.2.1:5001/onedock/img-7",
        ] {
            assert!(complete(&other, good).is_ok(), "{good}");
        }
    }

    #[test]
    fn users_name_the_registries_that_the_administrator_lets_them_name() {
        let mut store = store();
        store.config.user_registries = vec!["*.example.com".parse().unwrap()];
        for good in ["r.example.com/a", "front:5000/team/web", "web"] {
            assert!(complete(&store, good).is_ok(), "{good}");
        }
        let error = complete(&store, "docker.io/alpine").unwrap_err();
        assert!(error.contains("ONEDOCK_USER_REGISTRIES"), "{error}");
        // Docker Hub is no exception where it is the default of a datastore that names none.
        store.default_registry = None;
        assert!(complete(&store, "alpine").is_err());
        store
            .config
            .user_registries
            .push("docker.io".parse().unwrap());
        assert!(complete(&store, "alpine").is_ok());
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
