//! Disks in the registry: an artifact whose layers are pieces of the disk's file. A piece of
//! zeros is left out, one that the registry has is not sent again.

use std::path::Path;

use onedock_common::Digest;
use onedock_common::disk_image::DiskMeta;
use onedock_common::reference::{Repository, Source, Tag};

use crate::client::Client;
use crate::error::Error;

impl Client {
    /// Keeps a disk's file under `tag`: 64 MiB pieces, each packed with gzip (level 1), a few at
    /// once. The file must not change meanwhile: one whose length or time changed is refused.
    /// `meta.blank` must be false. The same content and `meta` give the same digest.
    pub async fn put_disk(
        &self,
        file: &Path,
        target: &Repository,
        tag: &Tag,
        meta: &DiskMeta,
    ) -> Result<Digest, Error> {
        let _ = (file, target, tag, meta);
        Err(Error::Stopped)
    }

    /// Keeps a disk without content: whoever stages it makes the file, and `meta.fs` in it.
    /// `meta.blank` must be true. `label` makes the artifact of one image another than that of
    /// the next (a digest is a state's name, and two images' states must not be one).
    pub async fn put_blank_disk(
        &self,
        target: &Repository,
        tag: &Tag,
        meta: &DiskMeta,
        label: &str,
    ) -> Result<Digest, Error> {
        let _ = (target, tag, meta, label);
        Err(Error::Stopped)
    }

    /// Keeps a place for an image whose content comes later. The same label gives the same
    /// digest, another label another one.
    pub async fn put_reserved(
        &self,
        target: &Repository,
        tag: &Tag,
        label: &str,
    ) -> Result<Digest, Error> {
        let _ = (target, tag, label);
        Err(Error::Stopped)
    }

    /// Writes a disk's file to `path`, with holes, every piece verified, synchronised to its
    /// storage. `path` is made anew (an existing file is an error) and removed when it fails:
    /// the caller gives a temporary name beside the final one and renames it. Of a blank disk
    /// no file is made: the caller makes it as the answered [`DiskMeta`] says.
    pub async fn get_disk(&self, source: &Source, path: &Path) -> Result<DiskMeta, Error> {
        let _ = (source, path);
        Err(Error::Stopped)
    }
}
