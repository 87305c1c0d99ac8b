//! `cp`: the image into the private registry, from another registry or from an archive. Layers go
//! from registry to registry; the front-end needs no engine. Answers `SOURCE FORMAT`.

use anyhow::Context as _;
use onedock_common::answer::Answer;
use onedock_common::image::{DatastoreAction, Image};
use onedock_common::kept::{Attributes, state_tag};
use onedock_common::reference::{Repository, Source, Tag};

use super::{image, path};
use crate::hosts;
use crate::local_file::LocalFile;
use crate::path::ImagePath;
use crate::store::Store;

/// The word that DISK/FORMAT and DISK/DRIVER get. OpenNebula stores it unchecked, and its own
/// tools know only `raw` and `qcow2`.
const FORMAT: &str = "raw";

pub(crate) async fn run(store: &Store, request: &DatastoreAction) -> anyhow::Result<Answer> {
    let image = image(request)?;
    let repository = store.repository(image.id.context("IMAGE/ID is missing in the XML")?)?;
    let digest = match path(image)? {
        ImagePath::Registry { reference, .. } => {
            let reference = store.complete(&reference)?;
            let platforms = hosts::platforms(&store.config).await?;
            store
                .client
                .copy(&reference, &repository, &Tag::latest(), &platforms)
                .await?
        }
        ImagePath::Archive(file) => {
            let file = LocalFile::open(&file, &request.datastore)?;
            let pushed = store
                .client
                .push_archive(&file.path(), &repository, &Tag::latest())
                .await;
            file.said(pushed)?
        }
    };
    let source = Source::new(repository, digest);
    if let Err(error) = complete(store, &source, image).await {
        // `oned` knows no SOURCE of a `cp` that failed, so nobody would ever remove what is there.
        if let Err(also) = store.client.delete_repository(source.repository()).await {
            tracing::warn!("{also}");
        }
        return Err(error);
    }
    Ok(Answer::line(format!("{source} {FORMAT}")))
}

/// What lies beside the image: the tag of its present state, and its attributes.
async fn complete(store: &Store, source: &Source, image: &Image) -> anyhow::Result<()> {
    let repository = source.repository();
    store
        .client
        .tag(repository, source.digest(), &state_tag(source)?)
        .await?;
    keep_attributes(store, repository, image).await
}

/// DOCKERRUN is kept with the image, so that it is there where INHERIT_IMAGE_ATTR is not set.
async fn keep_attributes(
    store: &Store,
    repository: &Repository,
    image: &Image,
) -> anyhow::Result<()> {
    let Some(dockerrun) = &image.dockerrun else {
        return Ok(());
    };
    let json = serde_json::to_vec(&Attributes {
        dockerrun: Some(dockerrun.clone()),
    })?;
    store
        .client
        .put_artifact(
            repository,
            &Attributes::tag()?,
            Attributes::MEDIA_TYPE,
            &json,
        )
        .await
        .context("DOCKERRUN cannot be kept with the image")?;
    Ok(())
}
