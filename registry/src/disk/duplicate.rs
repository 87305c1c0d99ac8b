//! An exact copy of a manifest with all that it names: an image of one or of all platforms, a
//! disk, a reserved SOURCE.

use std::collections::BTreeSet;

use onedock_common::Digest;
use onedock_common::types::reference::{Repository, Source, Tag};

use super::kind::of_manifest;
use super::manifest::PIECES;
use crate::client::Client;
use crate::error::Error;
use crate::image::copy::Copy;
use crate::oci::manifest::{ImageManifest, Manifest, check_total};
use crate::repository::remote::Resolved;

impl Client {
    /// Puts the same manifest under `tag` of `target`, byte for byte: the digest stays. Within a
    /// registry its blobs are mounted, else they are copied. The manifest is written last.
    pub async fn duplicate(
        &self,
        from: &Source,
        target: &Repository,
        tag: &Tag,
    ) -> Result<Digest, Error> {
        let what = format!("the copy of {from}");
        self.within(target.registry(), &what, async |deadline| {
            let source = self.remote(from.repository(), deadline).await?;
            let resolved = source.resolve(&from.reference()).await?;
            of_manifest(&source, &resolved).await?;
            let copy = Copy {
                image: &from.reference(),
                source,
                target: self.remote(target, deadline).await?,
                platforms: &[],
                limit: self.options.image_limit,
                unpacked_limit: u64::MAX,
            };
            copy.exactly(resolved, tag).await
        })
        .await
    }
}

impl Copy<'_> {
    async fn exactly(&self, resolved: Resolved, tag: &Tag) -> Result<Digest, Error> {
        match self.source.parse(&resolved)? {
            Manifest::Image(image) => self.every_blob(&image).await?,
            Manifest::Index(index) => {
                let children: BTreeSet<_> = index.entries.iter().map(|e| &e.digest).collect();
                for digest in children {
                    let child = self.source.manifest_of(digest).await?;
                    let Manifest::Image(image) = self.source.parse(&child)? else {
                        return Err(self
                            .source
                            .refuse("its index names another index".to_owned()));
                    };
                    self.every_blob(&image).await?;
                    self.target
                        .put_manifest(None, &child.media_type, child.bytes)
                        .await?;
                }
            }
        }
        self.target
            .put_manifest(Some(tag), &resolved.media_type, resolved.bytes)
            .await
    }

    async fn every_blob(&self, image: &ImageManifest) -> Result<(), Error> {
        let refuse = |reason: String| self.source.refuse(reason);
        let blobs = image.blobs().map_err(refuse)?;
        if blobs.len() > PIECES + 1 {
            return Err(refuse(format!("it has {} layers", blobs.len())));
        }
        check_total(blobs.iter().map(|blob| blob.size), self.limit).map_err(refuse)?;
        if blobs.iter().any(|blob| !blob.urls.is_empty()) {
            return Err(refuse(
                "it names layers that are stored elsewhere".to_owned(),
            ));
        }
        self.layers(blobs.into_iter().map(|blob| (blob, None)))
            .await
    }
}
