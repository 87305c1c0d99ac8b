//! `cp`: the image into the private registry, from another registry or from a file: an archive of
//! a container image, or a disk (raw, qcow2, ISO 9660) for a DATABLOCK or CDROM. Layers go from
//! registry to registry; the front-end needs no engine. Answers `SOURCE FORMAT`.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use onedock_common::Digest;
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::image::{DatastoreAction, Image};
use onedock_common::types::reference::{Repository, Source, Tag};
use onedock_registry::{Attributes, Error, Kind, Platform};

use super::{answer_word, image, path};
use crate::content::{Content, as_image};
use crate::hosts;
use crate::imports::Import;
use crate::local_file::LocalFile;
use crate::path::ImagePath;
use crate::store::Store;

pub(crate) async fn run(store: &Store, request: &DatastoreAction) -> anyhow::Result<Answer> {
    let image = image(request)?;
    let repository = store.repository(image.id.context("IMAGE/ID is missing in the XML")?)?;
    let (digest, kind) = match path(image)? {
        ImagePath::Registry {
            reference,
            platform,
            ..
        } => {
            let reference = store.complete(&reference).await?;
            let platforms = hosts::wanted(platform, &store.config).await?;
            let _import = match &request.datastore.base_path {
                Some(folder) => Some(Import::begin(Path::new(folder), store.config.imports).await?),
                None => None,
            };
            let copied = store
                .client()
                .copy(&reference, &repository, &Tag::latest(), &platforms)
                .await
                .map_err(with_choice)?;
            (copied, Kind::Image)
        }
        ImagePath::File { path, platform } => {
            let file = LocalFile::open(&path, &request.datastore)?;
            from_file(store, &file, platform, &repository, image).await?
        }
    };
    let source = Source::new(repository, digest);
    let attributes = Attributes {
        dockerrun: image.dockerrun.clone(),
    };
    store.images.register(&source, &attributes).await?;
    Ok(Answer::line(format!("{source} {}", answer_word(&kind))))
}

async fn from_file(
    store: &Store,
    file: &LocalFile,
    platform: Option<Platform>,
    repository: &Repository,
    image: &Image,
) -> anyhow::Result<(Digest, Kind)> {
    let (client, tag) = (store.client(), Tag::latest());
    match Content::of(file)? {
        Content::Archive => {
            let platforms = hosts::wanted(platform, &store.config).await?;
            let path = file.path();
            let pushed = client.push_archive(&path, repository, &tag, &platforms);
            Ok((file.said(pushed.await)?, Kind::Image))
        }
        Content::Disk(meta) => {
            let meta = as_image(meta, image.kind, &file.name().display().to_string())?;
            let pushed = client.put_disk(&file.path(), repository, &tag, &meta).await;
            Ok((file.said(pushed)?, Kind::Disk(meta)))
        }
    }
}

/// An image that is built for none of the hosts, with what the user can do about it.
pub(super) fn with_choice(error: Error) -> anyhow::Error {
    match error {
        Error::Platform { .. } => {
            anyhow!("{error}; if one of these is meant, say so behind PATH with ?platform=")
        }
        other => other.into(),
    }
}
