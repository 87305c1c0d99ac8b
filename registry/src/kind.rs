//! What a SOURCE is: a container image, a disk, or a place that was reserved for either.

use onedock_common::disk_image::DiskMeta;
use onedock_common::reference::Source;

use crate::client::Client;
use crate::error::Error;

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
        let _ = source;
        Err(Error::Stopped)
    }
}
