//! One repository of a registry, within one call of the client: its manifests.

use std::sync::Arc;

use bytes::Bytes;
use onedock_common::Digest;
use onedock_common::types::reference::{Reference, RepositoryPath, Tag};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};

use crate::error::Error;
use crate::oci::manifest::{self, MANIFEST_LIMIT, Manifest};
use crate::transport::answer::{into_error, no_page, read_all};
use crate::transport::endpoint::Endpoint;
use crate::transport::request::Request;
use crate::transport::retry::Deadline;
use crate::transport::token::Scopes;

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// A manifest as the registry stores it, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The media type of the manifest.
    pub media_type: String,
    /// The manifest itself.
    pub bytes: Bytes,
}

/// What a deletion found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It was there and is gone.
    Now,
    /// It was not there.
    Before,
}

/// A repository as one call of the client reaches it. What else it does is in the other modules of
/// this layer.
#[derive(Debug, Clone)]
pub(crate) struct RemoteRepository {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) path: RepositoryPath,
    /// [`Options::shared_layers`](crate::Options::shared_layers).
    pub(crate) shared_layers: Option<RepositoryPath>,
    pub(crate) deadline: Deadline,
}

impl RemoteRepository {
    /// What a request that reads needs.
    pub(crate) fn pull(&self) -> Scopes {
        Scopes::of(self.path.as_str(), "pull")
    }

    /// What a request that writes needs.
    pub(crate) fn push(&self) -> Scopes {
        Scopes::of(self.path.as_str(), "pull,push")
    }

    /// The repository of shared layers, unless this is it.
    pub(crate) fn shared(&self) -> Option<Self> {
        let path = self.shared_layers.clone()?;
        (path != self.path).then(|| Self {
            path,
            ..self.clone()
        })
    }

    /// `registry/path` for messages.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.endpoint.registry, self.path)
    }

    fn manifest(&self, method: Method, name: &str, scopes: Scopes) -> Result<Request, Error> {
        let url = self
            .endpoint
            .at(&format!("{}/manifests/{name}", self.path))?;
        let joint = if name.contains(':') { '@' } else { ':' };
        let what = format!("manifest {}{joint}{name}", self.path);
        let mut request = Request::new(what, method, url, scopes);
        request
            .headers
            .insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        Ok(request)
    }

    /// What a reference names here: its digest wins over its tag, no tag means `latest`.
    pub(crate) async fn resolve(&self, reference: &Reference) -> Result<Resolved, Error> {
        match (reference.digest(), reference.tag()) {
            (Some(digest), _) => self.manifest_of(digest).await,
            (None, Some(tag)) => self.manifest_of_tag(tag).await,
            (None, None) => self.manifest_of_tag(&Tag::latest()).await,
        }
    }

    /// The manifest of a tag.
    pub(crate) async fn manifest_of_tag(&self, tag: &Tag) -> Result<Resolved, Error> {
        self.get_manifest(tag.as_str(), None).await
    }

    /// The manifest of a digest, verified.
    pub(crate) async fn manifest_of(&self, digest: &Digest) -> Result<Resolved, Error> {
        self.get_manifest(digest.as_str(), Some(digest)).await
    }

    async fn get_manifest(&self, name: &str, expected: Option<&Digest>) -> Result<Resolved, Error> {
        let request = self.manifest(Method::GET, name, self.pull())?;
        let mut response = self
            .endpoint
            .expect(&request, &self.deadline, &[StatusCode::OK])
            .await?;
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type = content_type
            .and_then(|t| t.to_str().ok())
            .map(str::to_owned);
        let bytes = read_all(&self.endpoint, &mut response, MANIFEST_LIMIT, &request.what).await?;
        no_page(&self.endpoint, &bytes, &request.what)?;
        let digest = Digest::of(&bytes);
        if let Some(expected) = expected
            && *expected != digest
        {
            return Err(Error::Digest {
                what: request.what,
                expected: expected.clone(),
                found: digest,
            });
        }
        let media_type = manifest::media_type(&bytes, content_type.as_deref())
            .map_err(|reason| self.refuse(reason))?;
        Ok(Resolved {
            digest,
            media_type,
            bytes: Bytes::from(bytes),
        })
    }

    /// Reads a manifest of this repository.
    pub(crate) fn parse(&self, resolved: &Resolved) -> Result<Manifest, Error> {
        manifest::parse(&resolved.bytes, &resolved.media_type).map_err(|reason| self.refuse(reason))
    }

    /// The error of an image in this repository that cannot be used.
    pub(crate) fn refuse(&self, reason: String) -> Error {
        Error::Image {
            image: self.name(),
            reason,
        }
    }

    /// Writes a manifest under a tag, or under its digest alone.
    pub(crate) async fn put_manifest(
        &self,
        tag: Option<&Tag>,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest, Error> {
        let digest = Digest::of(&bytes);
        let name = tag.map_or(digest.as_str(), Tag::as_str);
        let mut request = self.manifest(Method::PUT, name, self.push())?;
        let content_type = HeaderValue::from_str(media_type)
            .map_err(|_| self.refuse("its type is no media type".to_owned()))?;
        request.headers.insert(CONTENT_TYPE, content_type);
        request.body = Some(bytes);
        let wanted = [StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED];
        let response = self
            .endpoint
            .expect(&request, &self.deadline, &wanted)
            .await?;
        let header = response.headers().get("docker-content-digest");
        match header.and_then(|d| d.to_str().ok()).map(str::parse) {
            Some(Ok(found)) if found != digest => Err(Error::Digest {
                what: request.what,
                expected: digest,
                found,
            }),
            _ => Ok(digest),
        }
    }

    /// Deletes a manifest by its digest.
    pub(crate) async fn delete_manifest(&self, digest: &Digest) -> Result<Deleted, Error> {
        let scopes = Scopes::of(self.path.as_str(), "pull,delete");
        let request = self.manifest(Method::DELETE, digest.as_str(), scopes)?;
        let response = self.endpoint.send(&request, &self.deadline).await?;
        match response.status().as_u16() {
            200 | 202 | 204 => Ok(Deleted::Now),
            404 | 410 => Ok(Deleted::Before),
            405 => Err(Error::DeleteDisabled(self.endpoint.registry.clone())),
            _ => Err(into_error(&self.endpoint, response, &request.what).await),
        }
    }
}
