//! What an image's SOURCE is: a container image, a disk, or reserved for either.

use onedock_common::state::disk_image::DiskMeta;
use onedock_common::types::reference::Source;

use super::manifest::{DISK_CONFIG, DISK_CONFIG_LIMIT, RESERVED_CONFIG, check_meta};
use crate::client::Client;
use crate::error::{Error, one_line};
use crate::oci::manifest::Manifest;
use crate::oci::media_type::is_image_config;
use crate::repository::remote::{RemoteRepository, Resolved};

/// What a manifest holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A container image, or an index of several.
    Image,
    /// A disk: [`Client::put_disk`], [`Client::put_blank_disk`].
    Disk(DiskMeta),
    /// Nothing yet: [`Client::put_reserved`].
    Reserved,
}

impl Client {
    /// What the manifest holds, by the media type of its configuration. Any other is an error.
    pub async fn kind(&self, source: &Source) -> Result<Kind, Error> {
        let what = "to look up the kind of an image";
        self.at(source.repository(), what, async |remote| {
            let resolved = remote.resolve(&source.reference()).await?;
            of_manifest(&remote, &resolved).await
        })
        .await
    }
}

/// What this manifest of the repository holds.
pub(crate) async fn of_manifest(
    remote: &RemoteRepository,
    resolved: &Resolved,
) -> Result<Kind, Error> {
    let Manifest::Image(image) = remote.parse(resolved)? else {
        return Ok(Kind::Image);
    };
    match image.config.media_type.as_str() {
        RESERVED_CONFIG => Ok(Kind::Reserved),
        DISK_CONFIG => {
            let json = remote.small_blob(&image.config, DISK_CONFIG_LIMIT).await?;
            let damaged = |reason: String| remote.refuse(reason);
            let meta: DiskMeta = serde_json::from_slice(&json)
                .map_err(|e| damaged(format!("its configuration of a disk is damaged ({e})")))?;
            check_meta(&meta).map_err(damaged)?;
            Ok(Kind::Disk(meta))
        }
        other if is_image_config(other) => Ok(Kind::Image),
        other => Err(remote.refuse(format!(
            "it is neither a container image nor a disk but {}",
            one_line(other)
        ))),
    }
}
