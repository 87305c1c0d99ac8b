//! `clone SOURCE host:…/disk.N vm datastore` and `ln` alike: have the image on the host and write
//! the disk's descriptor. The layers go from the registry to the host's engine; nothing passes
//! through the front-end.

use anyhow::{Context as _, bail};
use onedock_common::answer::Answer;
use onedock_common::config::Config;
use onedock_common::kept::Attributes;
use onedock_common::reference::Source;

use super::target;
use crate::image;
use crate::message::Task;
use crate::remote::{self, Payload};

/// Why an image is staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The VM's changes are its own.
    Copy,
    /// The VM's changes go back to the image (`mvds`).
    Persistent,
}

pub(crate) async fn run(
    arguments: &[String],
    config: &Config,
    kind: Kind,
) -> anyhow::Result<Answer> {
    let [source, disk, vm, ..] = arguments else {
        bail!(
            "clone and ln need <SOURCE> <host:disk> <vm> <datastore>, got {} arguments",
            arguments.len()
        );
    };
    let source: Source = source.parse().context("the image's SOURCE")?;
    let target = target(disk, vm)?;
    let client = image::client(config)?;
    let (image, attributes) = match tokio::try_join!(
        image::current(&client, &source),
        image::attributes(&client, &source)
    ) {
        Ok(found) => found,
        // A copy of an image that the host has already needs no registry (fault 21). A
        // persistent image must be the newest, so it waits for the registry to be back.
        Err(e) if kind == Kind::Copy && is_away(&e) => {
            tracing::warn!("{e:#}; trying with what the host has");
            (source.clone(), Attributes::default())
        }
        Err(e) => return Err(e),
    };
    let task = Task::Stage {
        disk: target.place,
        image,
        dockerrun: attributes.dockerrun,
        persistent: kind == Kind::Persistent,
        source,
    };
    remote::call(&target.location.host, task, Payload::Nothing).await?;
    Ok(Answer::done())
}

/// Whether the registry did not answer at all, as opposed to having said no.
fn is_away(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|e| e.downcast_ref::<onedock_registry::Error>())
        .any(onedock_registry::Error::is_transient)
}
