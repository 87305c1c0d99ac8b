//! `clone`: an image as it is now becomes another one, which stands alone; its snapshots stay with
//! the original. Within a registry no byte moves. Answers `SOURCE FORMAT`.

use anyhow::{Context as _, bail, ensure};
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::image::DatastoreAction;
use onedock_common::types::reference::{Source, Tag};
use onedock_registry::{Attributes, Kind};

use super::{answer_word, image};
use crate::store::Store;

pub(crate) async fn run(store: &Store, request: &DatastoreAction) -> anyhow::Result<Answer> {
    let image = image(request)?;
    let repository = store.repository(image.id.context("IMAGE/ID is missing in the XML")?)?;
    // `oned` hands the original's SOURCE over as PATH (`ImageManager::clone_image`).
    let original = image
        .path
        .as_deref()
        .context("IMAGE/PATH is missing in the XML")?;
    let original: Source = original.parse().context("IMAGE/PATH")?;
    ensure!(
        Store::is_image(original.repository()),
        "IMAGE/PATH {original} is not an image of this driver"
    );
    let present = store.images.current(&original).await?;
    let kind = store.client().kind(&present).await?;
    if kind == Kind::Reserved {
        bail!("image {original} has no content yet; wait until the disk has been saved as it");
    }
    let digest = store
        .client()
        .duplicate(&present, &repository, &Tag::latest())
        .await?;
    let attributes = store.images.attributes(&original).await?;
    let attributes = Attributes {
        dockerrun: image.dockerrun.clone().or(attributes.dockerrun),
    };
    let source = Source::new(repository, digest);
    store.images.register(&source, &attributes).await?;
    Ok(Answer::line(format!("{source} {}", answer_word(&kind))))
}
