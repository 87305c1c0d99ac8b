//! The front of this crate: which registries are known, the deadline of each call, and the calls
//! about one repository. The calls about images, archives and disks are in the modules of those
//! layers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use onedock_common::Digest;
use onedock_common::opennebula::config::Config;
use onedock_common::types::reference::{Reference, RegistryName, Repository, Tag};
use tokio::time::timeout_at;

use crate::error::Error;
use crate::options::Options;
use crate::repository::remote::{Deleted, RemoteRepository, Resolved};
use crate::transport::credentials::Credentials;
use crate::transport::endpoint::Endpoint;
use crate::transport::retry::Deadline;

/// Talks to registries.
#[derive(Debug)]
pub struct Client {
    pub(crate) options: Options,
    credentials: Credentials,
    endpoints: Mutex<HashMap<RegistryName, Arc<Endpoint>>>,
}

impl Client {
    /// A client; reads the file of credentials, opens no connection.
    pub fn new(options: Options) -> Result<Self, Error> {
        let credentials = match &options.auth_file {
            Some(path) => Credentials::read(path)?,
            None => Credentials::default(),
        };
        Ok(Self {
            options,
            credentials,
            endpoints: Mutex::default(),
        })
    }

    /// The client that `onedock.conf` describes, with the login in this machine's file of
    /// credentials.
    pub fn configured(config: &Config) -> Result<Self, Error> {
        Self::new(config.into())
    }

    /// The manifest or index of a reference. A digest in the reference wins over its tag; no
    /// tag means `latest`, no registry means Docker Hub.
    pub async fn resolve(&self, reference: &Reference) -> Result<Resolved, Error> {
        let what = format!("to resolve {reference}");
        self.at(&repository_of(reference), &what, async |repository| {
            repository.resolve(reference).await
        })
        .await
    }

    /// Points a tag at a manifest of the repository.
    pub async fn tag(
        &self,
        repository: &Repository,
        digest: &Digest,
        tag: &Tag,
    ) -> Result<(), Error> {
        self.at(repository, "to tag an image", async |repository| {
            let Resolved {
                media_type, bytes, ..
            } = repository.manifest_of(digest).await?;
            let put = repository.put_manifest(Some(tag), &media_type, bytes);
            put.await.map(drop)
        })
        .await
    }

    /// The tags of a repository; none when the repository is not there.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, Error> {
        self.at(repository, "to list tags", async |repository| {
            repository.tags().await
        })
        .await
    }

    /// Removes one tag; its manifest and the other tags of that stay
    /// ([`RemoteRepository::remove_tag`]). A tag that is not there is [`Deleted::Before`].
    pub async fn untag(&self, repository: &Repository, tag: &Tag) -> Result<Deleted, Error> {
        self.at(repository, "to remove a tag", async |repository| {
            repository.untag(tag).await
        })
        .await
    }

    /// Whether [`Client::untag`] was interrupted at this tag. One that is not there is an error.
    pub async fn is_half_untagged(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<bool, Error> {
        self.at(repository, "to read a tag", async |repository| {
            repository.is_half_untagged(tag).await
        })
        .await
    }

    /// Deletes a manifest **and every tag that points at it**: the registry deletes by digest.
    /// [`Client::untag`] removes one tag. Blobs are deleted by the registry's own garbage
    /// collection. An index's images stay: [`Client::delete_repository`] deletes those as well.
    pub async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Deleted, Error> {
        self.at(repository, "to delete an image", async |repository| {
            repository.delete_manifest(digest).await
        })
        .await
    }

    /// Deletes every manifest that a tag of the repository reaches, indexes with their images.
    /// The registry's garbage collection then frees the blobs that nothing else uses.
    pub async fn delete_repository(&self, repository: &Repository) -> Result<Deleted, Error> {
        self.at(repository, "to delete a repository", async |repository| {
            repository.delete_all().await
        })
        .await
    }

    /// Stores a small JSON document of our own under a tag: an OCI manifest whose configuration
    /// it is.
    pub async fn put_artifact(
        &self,
        repository: &Repository,
        tag: &Tag,
        media_type: &str,
        json: &[u8],
    ) -> Result<Digest, Error> {
        self.at(repository, "to store attributes", async |repository| {
            repository.put_artifact(tag, media_type, json).await
        })
        .await
    }

    /// The document that [`Client::put_artifact`] stored; `None` when there is none. Another kind
    /// of content under that tag is an error.
    pub async fn get_artifact(
        &self,
        repository: &Repository,
        tag: &Tag,
        media_type: &str,
    ) -> Result<Option<Bytes>, Error> {
        self.at(repository, "to read attributes", async |repository| {
            repository.get_artifact(tag, media_type).await
        })
        .await
    }

    /// Runs one call within the total deadline. `what` is the call's name for the error.
    pub(crate) async fn within<T>(
        &self,
        registry: &RegistryName,
        what: &str,
        call: impl AsyncFnOnce(&Deadline) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let limit = self.options.total_timeout;
        let deadline = Deadline::after(limit, self.options.request_budget);
        let late = |_| Error::Timeout {
            registry: registry.clone(),
            what: what.to_owned(),
            limit,
        };
        timeout_at(deadline.at(), call(&deadline))
            .await
            .map_err(late)?
    }

    /// The same for a call about one repository.
    pub(crate) async fn at<T>(
        &self,
        repository: &Repository,
        what: &str,
        call: impl AsyncFnOnce(RemoteRepository) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.within(repository.registry(), what, async |deadline| {
            call(self.remote(repository, deadline).await?).await
        })
        .await
    }

    /// A repository, for one call.
    pub(crate) async fn remote(
        &self,
        repository: &Repository,
        deadline: &Deadline,
    ) -> Result<RemoteRepository, Error> {
        Ok(RemoteRepository {
            endpoint: self.endpoint(repository.registry()).await?,
            path: repository.path().clone(),
            shared_layers: self.options.shared_layers.clone(),
            deadline: deadline.clone(),
        })
    }

    async fn endpoint(&self, registry: &RegistryName) -> Result<Arc<Endpoint>, Error> {
        let known = || {
            self.endpoints
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(endpoint) = known().get(registry) {
            return Ok(Arc::clone(endpoint));
        }
        let opened = Endpoint::open(&self.options, &self.credentials, registry).await?;
        let endpoint = known()
            .entry(registry.clone())
            .or_insert_with(|| Arc::new(opened))
            .clone();
        Ok(endpoint)
    }
}

/// The repository of a reference; without a registry it is on Docker Hub.
pub(crate) fn repository_of(reference: &Reference) -> Repository {
    reference
        .repository()
        .unwrap_or_else(|| Repository::new(RegistryName::docker_hub(), reference.path().clone()))
}
