//! The client's calls.

use std::path::Path;

use bytes::Bytes;
use onedock_common::Digest;
use onedock_common::reference::{Reference, Repository, Tag};

use crate::config::ImageConfig;
use crate::error::Error;
use crate::options::Options;
use crate::platform::Platform;

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
    options: Options,
}

impl Client {
    /// A client; reads the file of credentials, opens no connection.
    pub fn new(options: Options) -> Result<Self, Error> {
        Ok(Self { options })
    }

    fn later<T>(&self, reference: impl std::fmt::Display) -> Result<T, Error> {
        Err(Error::Image {
            image: reference.to_string(),
            reason: format!("no call yet within {:?}", self.options.total_timeout),
        })
    }

    /// Whether the registry answers and takes our credentials.
    pub async fn ping(
        &self,
        registry: &onedock_common::reference::RegistryName,
    ) -> Result<(), Error> {
        self.later(registry)
    }

    /// The manifest or index of a reference. A digest in the reference wins over its tag; no
    /// tag means `latest`, no registry means Docker Hub.
    pub async fn resolve(&self, reference: &Reference) -> Result<Resolved, Error> {
        self.later(reference)
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
        let _ = (target, tag, platforms);
        self.later(source)
    }

    /// Pushes the one image of a `docker save` archive and tags it; returns its digest.
    pub async fn push_archive(
        &self,
        path: &Path,
        target: &Repository,
        tag: &Tag,
    ) -> Result<Digest, Error> {
        let _ = (target, tag);
        self.later(path.display())
    }

    /// The unpacked size of an image for a platform, found without a pull.
    pub async fn unpacked_size(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Size, Error> {
        let _ = platform;
        self.later(reference)
    }

    /// The configuration of an image for a platform.
    pub async fn image_config(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ImageConfig, Error> {
        let _ = platform;
        self.later(reference)
    }

    /// Points a tag at a manifest that the repository holds.
    pub async fn tag(
        &self,
        repository: &Repository,
        digest: &Digest,
        tag: &Tag,
    ) -> Result<(), Error> {
        let _ = (digest, tag);
        self.later(repository)
    }

    /// The tags of a repository; none when the repository is not there.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, Error> {
        self.later(repository)
    }

    /// Deletes a manifest **and every tag that points at it**: the registry deletes by digest.
    /// Blobs go with the registry's own garbage collection. An index's images stay:
    /// [`Client::delete_repository`] deletes those as well.
    pub async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Deleted, Error> {
        let _ = digest;
        self.later(repository)
    }

    /// Deletes every manifest that a tag of the repository reaches, indexes with their images.
    pub async fn delete_repository(&self, repository: &Repository) -> Result<Deleted, Error> {
        self.later(repository)
    }

    /// Keeps a small JSON document of our own under a tag beside an image: an OCI manifest
    /// without layers whose configuration it is.
    pub async fn put_artifact(
        &self,
        repository: &Repository,
        tag: &Tag,
        media_type: &str,
        json: &[u8],
    ) -> Result<Digest, Error> {
        let _ = (tag, media_type, json);
        self.later(repository)
    }

    /// The document that [`Client::put_artifact`] kept; `None` when there is none. Another kind
    /// of content under that tag is an error.
    pub async fn get_artifact(
        &self,
        repository: &Repository,
        tag: &Tag,
        media_type: &str,
    ) -> Result<Option<Bytes>, Error> {
        let _ = (tag, media_type);
        self.later(repository)
    }
}

/// The unpacked size of the one image of a `docker save` archive. Reads the whole archive when
/// it is compressed, else only its table.
pub async fn archive_size(path: &Path, options: &Options) -> Result<Size, Error> {
    let _ = options;
    Err(Error::Archive {
        path: path.to_owned(),
        reason: "no call yet".to_owned(),
    })
}
