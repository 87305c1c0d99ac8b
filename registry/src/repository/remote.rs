//! One repository of a registry, within one call: manifests and tags.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use onedock_common::Digest;
use onedock_common::types::reference::{RepositoryPath, Tag};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue, LINK};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use crate::client::{Deleted, Resolved};
use crate::error::Error;
use crate::oci::manifest::{self, MANIFEST_LIMIT, Manifest};
use crate::transport::answer::{into_error, no_page, read_all};
use crate::transport::auth::Scopes;
use crate::transport::endpoint::Endpoint;
use crate::transport::request::{Ask, Deadline};

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// The most pages of a list of tags, and the most tags.
const PAGES: usize = 100;
const TAGS: usize = 100_000;
/// The largest page of tags, in bytes.
const PAGE_LIMIT: u64 = 4 << 20;

/// A repository as one call of the client reaches it.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) path: RepositoryPath,
    pub(crate) deadline: Deadline,
}

impl Remote {
    pub(crate) fn pull(&self) -> Scopes {
        Scopes::of(self.path.as_str(), "pull")
    }

    pub(crate) fn push(&self) -> Scopes {
        Scopes::of(self.path.as_str(), "pull,push")
    }

    /// The same registry's other repository.
    pub(crate) fn beside(&self, path: &RepositoryPath) -> Self {
        Self {
            path: path.clone(),
            ..self.clone()
        }
    }

    /// `registry/path` for messages.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.endpoint.registry, self.path)
    }

    fn manifest(&self, method: Method, name: &str, scopes: Scopes) -> Result<Ask, Error> {
        let url = self
            .endpoint
            .at(&format!("{}/manifests/{name}", self.path))?;
        let joint = if name.contains(':') { '@' } else { ':' };
        let what = format!("manifest {}{joint}{name}", self.path);
        let mut ask = Ask::new(what, method, url, scopes);
        ask.headers
            .insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        Ok(ask)
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
        let ask = self.manifest(Method::GET, name, self.pull())?;
        let mut response = self
            .endpoint
            .expect(&ask, self.deadline, &[StatusCode::OK])
            .await?;
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type = content_type
            .and_then(|t| t.to_str().ok())
            .map(str::to_owned);
        let bytes = read_all(&self.endpoint, &mut response, MANIFEST_LIMIT, &ask.what).await?;
        no_page(&self.endpoint, &bytes, &ask.what)?;
        let digest = Digest::of(&bytes);
        if let Some(expected) = expected
            && *expected != digest
        {
            return Err(Error::Digest {
                what: ask.what,
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

    /// Reads a manifest that this repository gave.
    pub(crate) fn parse(&self, resolved: &Resolved) -> Result<Manifest, Error> {
        manifest::parse(&resolved.bytes, &resolved.media_type).map_err(|reason| self.refuse(reason))
    }

    /// The error of an image in this repository that is refused.
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
        let mut ask = self.manifest(Method::PUT, name, self.push())?;
        let content_type = HeaderValue::from_str(media_type)
            .map_err(|_| self.refuse("its type is no media type".to_owned()))?;
        ask.headers.insert(CONTENT_TYPE, content_type);
        ask.body = Some(bytes);
        let wanted = [StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED];
        let response = self.endpoint.expect(&ask, self.deadline, &wanted).await?;
        let said = response.headers().get("docker-content-digest");
        match said.and_then(|d| d.to_str().ok()).map(str::parse::<Digest>) {
            Some(Ok(said)) if said != digest => Err(Error::Digest {
                what: ask.what,
                expected: digest,
                found: said,
            }),
            _ => Ok(digest),
        }
    }

    /// Deletes a manifest by its digest.
    pub(crate) async fn delete_manifest(&self, digest: &Digest) -> Result<Deleted, Error> {
        let scopes = Scopes::of(self.path.as_str(), "pull,delete");
        let ask = self.manifest(Method::DELETE, digest.as_str(), scopes)?;
        let response = self.endpoint.send(&ask, self.deadline).await?;
        match response.status().as_u16() {
            200 | 202 | 204 => Ok(Deleted::Now),
            404 | 410 => Ok(Deleted::Before),
            405 => Err(Error::DeleteDisabled(self.endpoint.registry.clone())),
            _ => Err(into_error(&self.endpoint, response, &ask.what).await),
        }
    }

    /// All tags; none when the repository is not there.
    pub(crate) async fn tags(&self) -> Result<Vec<Tag>, Error> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let mut found = BTreeSet::new();
        let mut next = self
            .endpoint
            .at(&format!("{}/tags/list?n=1000", self.path))?;
        for _ in 0..PAGES {
            let what = format!("the list of tags of {}", self.path);
            let ask = Ask::new(what, Method::GET, next.clone(), self.pull());
            let response = self
                .endpoint
                .expect(&ask, self.deadline, &[StatusCode::OK])
                .await;
            let mut response = match response {
                Err(e) if e.is_not_found() => return Ok(Vec::new()),
                response => response?,
            };
            let link = response.headers().get(LINK).and_then(|l| l.to_str().ok());
            let link = link
                .and_then(next_page)
                .map(|page| self.endpoint.upload_location(page));
            let link = link.transpose()?;
            let bytes = read_all(&self.endpoint, &mut response, PAGE_LIMIT, &ask.what).await?;
            no_page(&self.endpoint, &bytes, &ask.what)?;
            let page: Page = serde_json::from_slice(&bytes)
                .map_err(|_| self.endpoint.refuse("its list of tags is damaged"))?;
            // A tag that is none by the specification cannot be asked for either.
            found.extend(
                page.tags
                    .into_iter()
                    .flatten()
                    .filter_map(|t| t.parse().ok()),
            );
            match link {
                Some(link) if found.len() <= TAGS => next = link,
                Some(_) => break,
                None => return Ok(found.into_iter().collect()),
            }
        }
        Err(self
            .endpoint
            .refuse(format!("{} has too many tags", self.path)))
    }
}

/// The address in `<…>; rel="next"` (RFC 8288).
fn next_page(link: &str) -> Option<&str> {
    let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then_some(address)
}
