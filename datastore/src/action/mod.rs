//! The actions of `src/datastore_mad/remotes/fs`, each in a module named like it.

pub(crate) mod clone;
pub(crate) mod cp;
pub(crate) mod export;
pub(crate) mod mkfs;
pub(crate) mod monitor;
pub(crate) mod rm;
pub(crate) mod snapshot;
pub(crate) mod stat;

use anyhow::Context as _;
use onedock_common::opennebula::image::{DatastoreAction, Image};
use onedock_common::state::disk_image::DiskFormat;
use onedock_common::types::reference::Source;
use onedock_registry::Kind;

use crate::path::ImagePath;
use crate::store::Store;

fn image(request: &DatastoreAction) -> anyhow::Result<&Image> {
    request.image.as_ref().context("the request has no IMAGE")
}

/// SOURCE of the image that the request is about, which must be one of this datastore.
fn own_source(store: &Store, image: &Image) -> anyhow::Result<Source> {
    let source: Source = image
        .source
        .as_deref()
        .context("IMAGE/SOURCE is missing in the XML")?
        .parse()
        .context("IMAGE/SOURCE")?;
    store.own(&source)?;
    Ok(source)
}

fn path(image: &Image) -> anyhow::Result<ImagePath> {
    Ok(image
        .path
        .as_deref()
        .context("IMAGE/PATH is missing in the XML")?
        .parse()?)
}

/// The word that DISK/FORMAT and DISK/DRIVER get. OpenNebula stores it unchecked, and its own
/// tools know only `raw` and `qcow2`; a container image is `raw` to them, and so is a CD.
fn answer_word(kind: &Kind) -> &'static str {
    match kind {
        Kind::Disk(meta) if meta.format == DiskFormat::Qcow2 => "qcow2",
        _ => "raw",
    }
}
