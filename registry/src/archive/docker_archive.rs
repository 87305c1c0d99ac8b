//! The engine's form: `manifest.json` with the names of the configuration and the layers, whatever
//! they are. podman and skopeo (`docker-archive:`), crane, ko, kaniko and bazel write it as well.

use serde::Deserialize;

use super::plain_image::{PlainConfig, PlainImage};
use super::select::{self, Candidate};
use super::table::Table;
use crate::error::{Error, one_line};
use crate::oci::config::Config;
use crate::oci::platform::Platform;

pub(super) const NAME: &str = "manifest.json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    layers: Option<Vec<String>>,
    repo_tags: Option<Vec<Option<String>>>,
}

/// Reads the form; `None` when the archive has another.
pub(super) fn read(table: &Table, platforms: &[Platform]) -> Result<Option<PlainImage>, Error> {
    if !table.has(NAME) {
        return Ok(None);
    }
    let images: Option<Vec<Image>> = serde_json::from_slice(&table.text(NAME)?)
        .map_err(|e| table.refuse(format!("its {NAME} is damaged ({e})")))?;
    let mut candidates: Vec<Candidate<PlainImage>> = Vec::new();
    for image in images.unwrap_or_default() {
        let found = candidate(table, image, platforms)?;
        // One image under two names may be listed twice.
        match candidates.iter_mut().find(|c| c.image == found.image) {
            Some(same) => same.names.extend(found.names),
            None => candidates.push(found),
        }
    }
    if candidates.is_empty() {
        return Err(table.refuse(format!("it holds no image (its {NAME} names none)")));
    }
    let image = select::one(candidates, platforms).map_err(|reason| table.refuse(reason))?;
    Ok(Some(image))
}

fn candidate(
    table: &Table,
    image: Image,
    platforms: &[Platform],
) -> Result<Candidate<PlainImage>, Error> {
    let bytes = table.text(&image.config)?;
    let config = Config::parse(&bytes).map_err(|reason| table.refuse(reason))?;
    let names = image.layers.unwrap_or_default();
    config
        .check(names.len(), NAME)
        .map_err(|reason| table.refuse(reason))?;
    let layers = names.iter().map(|name| {
        let found = table
            .find(name)
            .map(|(own, member)| (own.to_owned(), member.clone()));
        found.ok_or_else(|| table.refuse(format!("layer {} is missing in it", one_line(name))))
    });
    let tags = image.repo_tags.unwrap_or_default();
    Ok(Candidate {
        names: tags.into_iter().flatten().collect(),
        built_for: vec![config.platform_text()],
        runs: config.runs(platforms),
        image: PlainImage {
            layers: layers.collect::<Result<_, _>>()?,
            config: PlainConfig::Stored(bytes, config.diff_ids),
        },
    })
}
