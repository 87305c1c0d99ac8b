//! `clone SOURCE host:…/disk.N vm datastore` and `ln` alike: have the image on the host and write
//! the disk's descriptor, or, of an image that is a disk, make the disk's file. The content goes
//! from the registry to the host; nothing passes through the front-end.

pub(super) mod fetch;
pub(super) mod stage;

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use onedock_common::Digest;
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::descriptor::Snapshot;
use onedock_common::types::reference::Source;
use onedock_registry::{Attributes, ImageStore, Kind as Content, Resolved};
use serde::Deserialize;

use self::fetch::{DiskSnapshot, Fetch};
use self::stage::Stage;
use super::{FrontEnd, first, target};

/// Why an image is staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The VM's changes are its own.
    Copy,
    /// The VM's changes go back to the image (`mvds`).
    Persistent,
}

pub(super) async fn run(
    arguments: &[String],
    front: &FrontEnd<'_>,
    kind: Kind,
) -> anyhow::Result<Answer> {
    let [source, disk, vm] = first(
        arguments,
        "clone and ln need <SOURCE> <host:disk> <vm> <datastore>",
    )?;
    let source: Source = source.parse().context("the image's SOURCE")?;
    let target = target(disk, vm)?;
    let images = front.images()?;
    let found = match look_up(&images, &source, kind).await {
        Ok(found) => found,
        // A copy of an image that the host has already needs no registry (fault 21). A
        // persistent image must be the newest, so it waits for the registry to be back.
        Err(e) if kind == Kind::Copy && is_unreachable(&e) => {
            tracing::warn!("{e:#}; trying with what the host has");
            CurrentImage {
                image: source.clone(),
                content: Content::Image,
                attributes: Attributes::default(),
                snapshots: Vec::new(),
            }
        }
        Err(e) => return Err(e),
    };
    let (disk, system) = (target.path.clone(), front.system);
    let persistent = kind == Kind::Persistent;
    match found.content {
        Content::Image => {
            let request = Stage {
                disk,
                system,
                image: found.image,
                dockerrun: found.attributes.dockerrun,
                persistent,
                source,
                snapshots: found.snapshots,
            };
            target.call(&request).await?;
        }
        Content::Disk(meta) => {
            let mut snapshots = Vec::new();
            for snapshot in found.snapshots {
                if let Content::Disk(meta) = images.client().kind(&snapshot.image).await? {
                    let Snapshot { id, image, .. } = snapshot;
                    snapshots.push(DiskSnapshot { id, image, meta });
                }
            }
            let request = Fetch {
                disk,
                system,
                image: found.image,
                meta,
                persistent,
                snapshots,
            };
            target.call(&request).await?;
        }
        Content::Reserved => bail!(
            "the image {source} has no content yet: it was reserved for a disk that is still to be saved"
        ),
    }
    Ok(Answer::done())
}

/// The image's current version.
struct CurrentImage {
    image: Source,
    content: Content,
    attributes: Attributes,
    /// Those of a persistent image.
    snapshots: Vec<Snapshot>,
}

async fn look_up(images: &ImageStore, source: &Source, kind: Kind) -> anyhow::Result<CurrentImage> {
    let (image, attributes) = tokio::try_join!(images.current(source), images.attributes(source))?;
    let content = images.client().kind(&image).await?;
    let snapshots = match kind {
        Kind::Copy => Vec::new(),
        Kind::Persistent => snapshots(images, &image).await?,
    };
    Ok(CurrentImage {
        image,
        content,
        attributes,
        snapshots,
    })
}

async fn snapshots(images: &ImageStore, image: &Source) -> anyhow::Result<Vec<Snapshot>> {
    let repository = image.repository();
    let ids = images.snapshots(repository).await?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let current = images.client().resolve(&image.reference()).await?;
    let mut snapshots = Vec::new();
    for id in ids {
        if let Some(found) = images.snapshot(repository, id).await? {
            snapshots.push(Snapshot {
                id,
                bytes: extra_bytes(&found, &current),
                image: Source::new(repository.clone(), found.digest),
            });
        }
    }
    Ok(snapshots)
}

/// Bytes of the layers that one image has and another has not.
fn extra_bytes(image: &Resolved, other: &Resolved) -> u64 {
    #[derive(Deserialize)]
    struct Manifest {
        #[serde(default)]
        layers: Vec<Layer>,
    }
    #[derive(Deserialize)]
    struct Layer {
        digest: Digest,
        size: u64,
    }
    let layers = |resolved: &Resolved| {
        serde_json::from_slice::<Manifest>(&resolved.bytes)
            .map_or_else(|_| Vec::new(), |m| m.layers)
    };
    let known: BTreeSet<Digest> = layers(other).into_iter().map(|l| l.digest).collect();
    let own = layers(image)
        .into_iter()
        .filter(|l| !known.contains(&l.digest));
    own.fold(0, |sum, layer| sum.saturating_add(layer.size))
}

/// Whether the registry did not answer at all, as opposed to having refused.
fn is_unreachable(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|e| e.downcast_ref::<onedock_registry::Error>())
        .any(onedock_registry::Error::is_transient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_as_large_as_what_the_image_does_not_have() {
        let manifest = |layers: &[(&str, u64)]| {
            let layers: Vec<_> = layers
                .iter()
                .map(|(c, size)| serde_json::json!({"digest": format!("sha256:{}", c.repeat(64)), "size": size}))
                .collect();
            Resolved {
                digest: Digest::of(b"x"),
                media_type: String::new(),
                bytes: serde_json::json!({ "layers": layers }).to_string().into(),
            }
        };
        let image = manifest(&[("a", 100), ("b", 10)]);
        let snapshot = manifest(&[("a", 100), ("c", 7)]);
        assert_eq!(extra_bytes(&snapshot, &image), 7);
        assert_eq!(extra_bytes(&image, &image), 0);
    }
}
