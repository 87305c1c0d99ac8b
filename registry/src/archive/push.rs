//! The front of this layer: an archive pushed or measured, whatever its form.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use onedock_common::Digest;
use onedock_common::types::reference::{Repository, Tag};

use super::docker_archive;
use super::legacy;
use super::oci_layout::{self, Layout};
use super::plain_image::PlainImage;
use super::table::Table;
use super::upload::Archive;
use crate::blocking::blocking;
use crate::client::Client;
use crate::error::{Error, cannot_read};
use crate::layer::size::Size;
use crate::oci::manifest::check_layers;
use crate::oci::platform::Platform;
use crate::options::Options;

/// How long an archive may be read for its table.
const TABLE_LIMIT: Duration = Duration::from_secs(60 * 60);

impl Client {
    /// Pushes the one image of a `docker save` archive and tags it; returns its digest. All
    /// layouts are read (OCI's index.json, manifest.json, and the engine's oldest form), with
    /// gzip, zstd, xz or bzip2 around them as well. Names and tags inside the archive are
    /// ignored. Of several images the one for `platforms` is pushed, which must be one; a single
    /// image must be built for one of them. Any will do when none is named.
    pub async fn push_archive(
        &self,
        path: &Path,
        target: &Repository,
        tag: &Tag,
        platforms: &[Platform],
    ) -> Result<Digest, Error> {
        let what = format!("the push of {}", path.display());
        self.at(target, &what, async |target| {
            match open(path, &self.options, platforms).await? {
                (archive, Content::Oci(layout)) => layout.push(&archive, &target, tag).await,
                (archive, Content::Plain(image)) => image.push(&archive, &target, tag).await,
            }
        })
        .await
    }
}

/// The unpacked size of the one image of a `docker save` archive, chosen as
/// [`Client::push_archive`] does. Its layers are unpacked for it; where that takes too long the
/// size is estimated.
pub async fn archive_size(
    path: &Path,
    platforms: &[Platform],
    options: &Options,
) -> Result<Size, Error> {
    match open(path, options, platforms).await? {
        (archive, Content::Oci(layout)) => layout.size(&archive).await,
        (archive, Content::Plain(image)) => {
            let members = image.layers.iter().map(|(_, member)| member);
            archive.size_of(members).await
        }
    }
}

/// The image of an archive.
#[derive(Debug)]
enum Content {
    /// An OCI image or index, pushed with its own digests.
    Oci(Layout),
    /// Configuration and layers without digests of their own.
    Plain(PlainImage),
}

async fn open(
    path: &Path,
    options: &Options,
    platforms: &[Platform],
) -> Result<(Archive, Content), Error> {
    let (limit, unpacked_limit) = (options.image_limit, options.unpacked_limit);
    let (archive, platforms) = (path.to_owned(), platforms.to_vec());
    let until = Instant::now() + TABLE_LIMIT;
    let read = blocking(move || {
        Ok(Table::read(&archive, limit, until).and_then(|table| {
            let content = content(&table, limit, &platforms)?;
            let reader = Arc::new(Mutex::new(table.into_reader()));
            let archive = Archive {
                path: archive,
                reader,
                limit,
                unpacked_limit,
            };
            Ok((archive, content))
        }))
    });
    read.await.map_err(cannot_read(path))?
}

fn content(table: &Table, limit: u64, platforms: &[Platform]) -> Result<Content, Error> {
    let oci = oci_layout::read(table, limit, platforms)?;
    if let Some(layout) = oci
        && (layout.is_compressed() || !table.has(docker_archive::NAME))
    {
        return Ok(Content::Oci(layout));
    }
    let image = match docker_archive::read(table, platforms)? {
        Some(image) => image,
        None => legacy::read(table)?.ok_or_else(|| {
            table.refuse(
                "it holds no image (manifest.json, index.json and repositories are missing)",
            )
        })?,
    };
    check_layers(image.layers.len()).map_err(|reason| table.refuse(reason))?;
    Ok(Content::Plain(image))
}
