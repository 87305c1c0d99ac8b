//! The actions of `src/datastore_mad/remotes/fs`, each in a module named like it.

pub(crate) mod cp;
pub(crate) mod monitor;
pub(crate) mod rm;
pub(crate) mod stat;

use anyhow::Context as _;
use onedock_common::image::{DatastoreAction, Image};

use crate::path::ImagePath;

fn image(request: &DatastoreAction) -> anyhow::Result<&Image> {
    request.image.as_ref().context("the request has no IMAGE")
}

fn path(image: &Image) -> anyhow::Result<ImagePath> {
    Ok(image
        .path
        .as_deref()
        .context("IMAGE/PATH is missing in the XML")?
        .parse()?)
}
