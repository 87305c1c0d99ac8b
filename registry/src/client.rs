//! The client's calls.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use onedock_common::Digest;
use onedock_common::types::reference::{Reference, RegistryName, Repository, Tag};
use onedock_common::types::secret::Credential;
use reqwest::{Method, StatusCode};
use tokio::time::timeout_at;

use crate::archive;
use crate::error::Error;
use crate::image::copy::Copy;
use crate::oci::config::{self, ImageConfig};
use crate::oci::manifest::CONFIG_LIMIT;
use crate::oci::platform::Platform;
use crate::options::Options;
use crate::repository::artifact;
use crate::repository::delete::sweep;
use crate::repository::remote::Remote;
use crate::transport::answer::{no_page, read_all};
use crate::transport::auth::Scopes;
use crate::transport::credentials::Credentials;
use crate::transport::endpoint::Endpoint;
use crate::transport::request::{Ask, Deadline};

/// The largest answer to a greeting, in bytes.
const GREETING_LIMIT: u64 = 1 << 20;

/// A manifest as the registry holds it, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The media type of the manifest.
    pub media_type: String,
    /// The manifest itself.
    pub bytes: Bytes,
}

/// How large an image is when unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// The sum of its layers' tar archives, in bytes.
    pub bytes: u64,
    /// Whether every layer's size was known, and not estimated
    /// (`docs/decisions/0003-image-size.md`).
    pub exact: bool,
}

/// What a deletion found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It was there and is gone.
    Now,
    /// It was not there.
    Before,
}

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

    /// The same client with this login for one registry, whatever its file says: what another
    /// machine was entrusted with for one call.
    #[must_use]
    pub fn with_login(mut self, registry: &RegistryName, login: &Credential) -> Self {
        self.credentials.set(registry, login);
        self
    }

    /// Whether the registry answers and takes our login.
    pub async fn ping(&self, registry: &RegistryName) -> Result<(), Error> {
        self.within(registry, "a greeting", async |deadline| {
            let endpoint = self.endpoint(registry).await?;
            let url = endpoint.at("")?;
            let ask = Ask::new("a greeting", Method::GET, url, Scopes::default());
            let mut response = endpoint.expect(&ask, deadline, &[StatusCode::OK]).await?;
            let greeting = read_all(&endpoint, &mut response, GREETING_LIMIT, &ask.what).await?;
            no_page(&endpoint, &greeting, &ask.what)
        })
        .await
    }

    /// The manifest or index of a reference. A digest in the reference wins over its tag; no
    /// tag means `latest`, no registry means Docker Hub.
    pub async fn resolve(&self, reference: &Reference) -> Result<Resolved, Error> {
        let place = place(reference);
        let what = format!("to resolve {reference}");
        self.within(place.registry(), &what, async |deadline| {
            let remote = self.remote(&place, deadline).await?;
            find(&remote, reference).await
        })
        .await
    }

    /// Copies an image from registry to registry and tags it; returns the digest of what was
    /// tagged. Of an index, an index with the entries of `platforms` is kept (all entries of
    /// real platforms when the list is empty); a single image must be built for one of them.
    pub async fn copy(
        &self,
        source: &Reference,
        target: &Repository,
        tag: &Tag,
        platforms: &[Platform],
    ) -> Result<Digest, Error> {
        let place = place(source);
        let what = format!("the copy of {source}");
        self.within(place.registry(), &what, async |deadline| {
            let from = self.remote(&place, deadline).await?;
            let resolved = find(&from, source).await?;
            let target = self.remote(target, deadline).await?;
            let copy = Copy {
                image: source,
                source: from,
                pool: self.pool(&target),
                target,
                platforms,
                limit: self.options.image_limit,
            };
            copy.run(resolved, tag).await
        })
        .await
    }

    /// Pushes the one image of a `docker save` archive and tags it; returns its digest. Both
    /// layouts are read (manifest.json and OCI's index.json, and the engine's oldest form),
    /// with gzip, zstd, xz or bzip2 around them as well. Names and tags inside the archive mean
    /// nothing. Of several images the one for `platforms` is taken, which must be one; a single
    /// image must be built for one of them. Any will do when none is named.
    pub async fn push_archive(
        &self,
        path: &Path,
        target: &Repository,
        tag: &Tag,
        platforms: &[Platform],
    ) -> Result<Digest, Error> {
        let what = format!("the push of {}", path.display());
        self.within(target.registry(), &what, async |deadline| {
            let target = self.remote(target, deadline).await?;
            let pool = self.pool(&target);
            let limit = self.options.image_limit;
            archive::push(path, &target, pool.as_ref(), tag, limit, platforms).await
        })
        .await
    }

    /// The unpacked size of an image for a platform, found without a pull.
    pub async fn unpacked_size(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Size, Error> {
        let place = place(reference);
        let what = format!("to measure {reference}");
        self.within(place.registry(), &what, async |deadline| {
            let remote = self.remote(&place, deadline).await?;
            let image = self.image(&remote, reference, platform).await?;
            remote.unpacked_size(&image).await
        })
        .await
    }

    /// The configuration of an image for a platform.
    pub async fn image_config(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ImageConfig, Error> {
        let place = place(reference);
        let what = format!("the configuration of {reference}");
        self.within(place.registry(), &what, async |deadline| {
            let remote = self.remote(&place, deadline).await?;
            let image = self.image(&remote, reference, platform).await?;
            let bytes = remote.small_blob(&image.config, CONFIG_LIMIT).await?;
            let config = config::parse(&bytes).map_err(|reason| remote.refuse(reason))?;
            config::check_platform(&config, std::slice::from_ref(platform)).map_err(
                |(wanted, has)| Error::Platform {
                    image: reference.to_string(),
                    wanted,
                    has,
                },
            )?;
            Ok(config.image)
        })
        .await
    }

    /// Points a tag at a manifest that the repository holds.
    pub async fn tag(
        &self,
        repository: &Repository,
        digest: &Digest,
        tag: &Tag,
    ) -> Result<(), Error> {
        self.at(repository, "to tag an image", async |remote| {
            let resolved = remote.manifest_of(digest).await?;
            let media_type = resolved.media_type;
            remote
                .put_manifest(Some(tag), &media_type, resolved.bytes)
                .await
                .map(drop)
        })
        .await
    }

    /// The tags of a repository; none when the repository is not there.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, Error> {
        self.at(repository, "to list tags", async |remote| {
            remote.tags().await
        })
        .await
    }

    /// Deletes a manifest **and every tag that points at it**: the registry deletes by digest
    /// and knows no deletion of one tag. To take one tag away, point it at other content.
    /// Blobs go with the registry's own garbage collection. An index's images stay:
    /// [`Client::delete_repository`] deletes those as well.
    pub async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Deleted, Error> {
        let what = "to delete an image";
        self.at(repository, what, async |remote| {
            remote.delete_manifest(digest).await
        })
        .await
    }

    /// Deletes every manifest that a tag of the repository reaches, indexes with their images.
    /// The registry's garbage collection then frees the blobs that nothing else uses.
    pub async fn delete_repository(&self, repository: &Repository) -> Result<Deleted, Error> {
        let what = "to delete a repository";
        self.at(repository, what, async |remote| sweep(&remote).await)
            .await
    }

    /// Keeps a small JSON document of our own under a tag beside an image: an OCI manifest
    /// whose configuration it is.
    pub async fn put_artifact(
        &self,
        repository: &Repository,
        tag: &Tag,
        media_type: &str,
        json: &[u8],
    ) -> Result<Digest, Error> {
        self.at(repository, "to keep attributes", async |remote| {
            artifact::put(&remote, tag, media_type, json).await
        })
        .await
    }

    /// The document that [`Client::put_artifact`] kept; `None` when there is none. Another kind
    /// of content under that tag is an error.
    pub async fn get_artifact(
        &self,
        repository: &Repository,
        tag: &Tag,
        media_type: &str,
    ) -> Result<Option<Bytes>, Error> {
        self.at(repository, "to read attributes", async |remote| {
            artifact::get(&remote, tag, media_type).await
        })
        .await
    }

    /// Runs one call within the total deadline.
    pub(crate) async fn within<T>(
        &self,
        registry: &RegistryName,
        what: &str,
        call: impl AsyncFnOnce(Deadline) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let limit = self.options.total_timeout;
        let deadline = Deadline::after(limit);
        let late = |_| Error::Timeout {
            registry: registry.clone(),
            what: what.to_owned(),
            limit,
        };
        timeout_at(deadline.at(), call(deadline))
            .await
            .map_err(late)?
    }

    pub(crate) async fn at<T>(
        &self,
        repository: &Repository,
        what: &str,
        call: impl AsyncFnOnce(Remote) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.within(repository.registry(), what, async |deadline| {
            call(self.remote(repository, deadline).await?).await
        })
        .await
    }

    pub(crate) async fn remote(
        &self,
        repository: &Repository,
        deadline: Deadline,
    ) -> Result<Remote, Error> {
        Ok(Remote {
            endpoint: self.endpoint(repository.registry()).await?,
            path: repository.path().clone(),
            deadline,
        })
    }

    /// The repository of shared layers beside `target`.
    pub(crate) fn pool(&self, target: &Remote) -> Option<Remote> {
        let path = self.options.shared_layers.as_ref()?;
        (*path != target.path).then(|| target.beside(path))
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
pub(crate) fn place(reference: &Reference) -> Repository {
    let registry = reference
        .registry()
        .cloned()
        .unwrap_or_else(RegistryName::docker_hub);
    Repository::new(registry, reference.path().clone())
}

/// What a reference names in its repository.
pub(crate) async fn find(remote: &Remote, reference: &Reference) -> Result<Resolved, Error> {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => remote.manifest_of(digest).await,
        (None, Some(tag)) => remote.manifest_of_tag(tag).await,
        (None, None) => remote.manifest_of_tag(&Tag::latest()).await,
    }
}

/// The unpacked size of the one image of a `docker save` archive, chosen as
/// [`Client::push_archive`] does. Its layers are unpacked for it; where that takes too long the
/// size is estimated.
pub async fn archive_size(
    path: &Path,
    platforms: &[Platform],
    options: &Options,
) -> Result<Size, Error> {
    archive::size(path, options.image_limit, platforms).await
}
