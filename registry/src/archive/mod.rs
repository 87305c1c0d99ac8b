//! `docker save` archives: read as a table of members, never unpacked; names inside are keys
//! of that table and never paths of this machine.
//!
//! Three forms hold the one image: OCI's (`index.json`), the engine's (`manifest.json`) and
//! the engine's oldest (`repositories`). OCI's is pushed as it is when its layers are packed;
//! otherwise the layers are packed with gzip on the way, as the engine's own push does. Layers
//! that are packed in another way than with gzip are packed anew
//! (`docs/decisions/0020-what-every-engine-takes.md`).

mod choice;
mod layer;
mod member;
mod oci;
mod oldest;
mod saved;
mod sparse;
mod table;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use onedock_common::Digest;
use onedock_common::types::reference::Tag;
use serde_json::json;

use crate::client::Size;
use crate::error::{Error, one_line};
use crate::image::copy::share;
use crate::oci::manifest::{DOCKER_CONFIG, DOCKER_MANIFEST, Descriptor, LAYER_LIMIT};
use crate::oci::platform::Platform;
use crate::repository::remote::Remote;
use layer::{Packed, PackedLayer, StoredLayer};
use member::{Member, Reader};
use table::Table;

/// How long an archive may be read for its table alone.
const TABLE_LIMIT: Duration = Duration::from_secs(60 * 60);
/// How long packed layers are unpacked at most to learn their size; the rest is estimated. `oned`
/// waits 90 s for the size of an image.
const MEASURE: Duration = Duration::from_secs(40);

/// What an archive holds.
#[derive(Debug)]
enum Content {
    /// An OCI image or index, pushed with its own digests.
    Oci(oci::Layout),
    /// Configuration and layers without digests of their own.
    Plain(PlainImage),
}

/// An image whose layers are members of the archive, base first.
#[derive(Debug, PartialEq)]
struct PlainImage {
    config: PlainConfig,
    layers: Vec<(String, Member)>,
}

/// The configuration of a [`PlainImage`].
#[derive(Debug, PartialEq)]
enum PlainConfig {
    /// As it stands in the archive, with the digests that its layers must have.
    Kept(Bytes, Vec<Digest>),
    /// To be made when the layers' digests are known.
    Made(oldest::History),
}

/// An archive that was read once.
struct Archive {
    path: PathBuf,
    content: Content,
    reader: Arc<Mutex<Reader>>,
    limit: u64,
}

impl Archive {
    async fn open(path: &Path, limit: u64, platforms: &[Platform]) -> Result<Self, Error> {
        let (path, platforms) = (path.to_owned(), platforms.to_vec());
        let until = Instant::now() + TABLE_LIMIT;
        let name = path.clone();
        let read = tokio::task::spawn_blocking(move || {
            let table = Table::read(&path, limit, until)?;
            let content = content(&table, limit, &platforms)?;
            let reader = Arc::new(Mutex::new(table.into_reader()));
            Ok(Self {
                path,
                content,
                reader,
                limit,
            })
        });
        match read.await {
            Ok(archive) => archive,
            Err(e) => Err(Error::File {
                path: name,
                source: io::Error::other(e),
            }),
        }
    }
}

fn content(table: &Table, limit: u64, platforms: &[Platform]) -> Result<Content, Error> {
    let oci = oci::read(table, limit, platforms)?;
    if let Some(layout) = oci
        && (layout.is_packed() || !table.has(saved::NAME))
    {
        return Ok(Content::Oci(layout));
    }
    let image = match saved::read(table, platforms)? {
        Some(image) => image,
        None => oldest::read(table)?.ok_or_else(|| {
            table.refuse(
                "it holds no image (manifest.json, index.json and repositories are missing)",
            )
        })?,
    };
    if image.layers.len() > LAYER_LIMIT {
        return Err(table.refuse(format!(
            "its image has {} layers and the engine takes at most {LAYER_LIMIT}",
            image.layers.len()
        )));
    }
    Ok(Content::Plain(image))
}

/// The unpacked size of the archive's image for one of `platforms`, of any when none is named.
pub(crate) async fn size(path: &Path, limit: u64, platforms: &[Platform]) -> Result<Size, Error> {
    let archive = Archive::open(path, limit, platforms).await?;
    match &archive.content {
        Content::Oci(layout) => layout.size(&archive).await,
        Content::Plain(image) => {
            let members = image.layers.iter().map(|(_, member)| member);
            archive.size_of(members).await
        }
    }
}

/// Pushes the archive's image under `tag`.
pub(crate) async fn push(
    path: &Path,
    target: &Remote,
    pool: Option<&Remote>,
    tag: &Tag,
    limit: u64,
    platforms: &[Platform],
) -> Result<Digest, Error> {
    let archive = Archive::open(path, limit, platforms).await?;
    match &archive.content {
        Content::Oci(layout) => layout.push(&archive, target, pool, tag).await,
        Content::Plain(image) => archive.push_plain(image, target, pool, tag).await,
    }
}

impl Archive {
    /// The sum of layers' unpacked sizes.
    async fn size_of(&self, layers: impl Iterator<Item = &Member>) -> Result<Size, Error> {
        let until = Instant::now() + MEASURE;
        let mut sum = Size::EMPTY;
        for member in layers {
            let size = layer::size(&self.path, &self.reader, member, self.limit, until);
            sum = sum.plus(size.await?);
        }
        Ok(sum)
    }

    /// A layer must be what its image's configuration says.
    fn check_diff(
        &self,
        name: &str,
        packed: &Packed,
        wanted: Option<&Digest>,
    ) -> Result<(), Error> {
        match wanted.filter(|wanted| **wanted != packed.diff) {
            None => Ok(()),
            Some(wanted) => Err(Error::Digest {
                what: format!("{} in archive {}", one_line(name), self.path.display()),
                expected: wanted.clone(),
                found: packed.diff.clone(),
            }),
        }
    }

    async fn push_plain(
        &self,
        image: &PlainImage,
        target: &Remote,
        pool: Option<&Remote>,
        tag: &Tag,
    ) -> Result<Digest, Error> {
        let expected = match &image.config {
            PlainConfig::Kept(_, diffs) => Some(diffs),
            PlainConfig::Made(_) => None,
        };
        // In the archive's order: a packed archive is then read once. An archive may name one
        // member as several layers.
        let mut order: Vec<usize> = (0..image.layers.len()).collect();
        order.sort_by_key(|at| image.layers.get(*at).map(|(_, member)| member.offset()));
        let mut pushed: HashMap<&str, Packed> = HashMap::new();
        for at in order {
            let Some((name, member)) = image.layers.get(at) else {
                continue;
            };
            if !pushed.contains_key(name.as_str()) {
                let packed = self.push_layer(name, member, target, pool).await?;
                pushed.insert(name, packed);
            }
            if let Some(packed) = pushed.get(name.as_str()) {
                self.check_diff(name, packed, expected.and_then(|diffs| diffs.get(at)))?;
            }
        }
        let packed: Vec<&Packed> = image
            .layers
            .iter()
            .filter_map(|(name, _)| pushed.get(name.as_str()))
            .collect();
        let config = match &image.config {
            PlainConfig::Kept(bytes, _) => bytes.clone(),
            PlainConfig::Made(history) => {
                let diffs: Vec<&Digest> = packed.iter().map(|p| &p.diff).collect();
                history.config(&diffs)
            }
        };
        let config = target.put_small(DOCKER_CONFIG, config).await?;
        let layers: Vec<&Descriptor> = packed.iter().map(|p| &p.blob).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": config,
            "layers": layers,
        });
        let bytes = Bytes::from(manifest.to_string());
        target.put_manifest(Some(tag), DOCKER_MANIFEST, bytes).await
    }

    async fn push_layer(
        &self,
        name: &str,
        member: &Member,
        target: &Remote,
        pool: Option<&Remote>,
    ) -> Result<Packed, Error> {
        let reader = || Arc::clone(&self.reader);
        let open = || PackedLayer::open(&self.path, reader(), name, member, self.limit);
        let packed = target
            .put_unknown(open, |layer| {
                let packed = layer.finished()?;
                Ok((packed.blob.digest.clone(), packed))
            })
            .await?;
        share(pool, target, &packed.blob).await;
        Ok(packed)
    }

    /// Pushes a member that has a digest of its own, unless it is there.
    async fn push_blob(
        &self,
        blob: &Descriptor,
        member: &Member,
        target: &Remote,
    ) -> Result<(), Error> {
        if target.has_blob(&blob.digest).await? {
            return Ok(());
        }
        let open = || StoredLayer::open(&self.path, Arc::clone(&self.reader), blob, member);
        target.put_blob(blob, open).await
    }
}
