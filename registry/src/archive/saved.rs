//! The engine's form: `manifest.json` with the names of the configuration and the layers.

use serde::Deserialize;

use super::table::Table;
use super::{PlainConfig, PlainImage};
use crate::config;
use crate::error::{Error, one_line};

pub(super) const NAME: &str = "manifest.json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    layers: Option<Vec<String>>,
}

/// Reads the form; `None` when the archive has another.
pub(super) fn read(table: &Table) -> Result<Option<PlainImage>, Error> {
    if !table.has(NAME) {
        return Ok(None);
    }
    let images: Vec<Saved> = serde_json::from_slice(&table.document(NAME)?)
        .map_err(|e| table.refuse(format!("its {NAME} is damaged ({e})")))?;
    let [image] = images.as_slice() else {
        return Err(table.refuse(format!(
            "it holds {} images where exactly one is expected; save one image alone",
            images.len()
        )));
    };
    let bytes = table.document(&image.config)?;
    let config = config::parse(&bytes).map_err(|reason| table.refuse(reason))?;
    let names = image.layers.as_deref().unwrap_or_default();
    if config.diff_ids.len() != names.len() {
        return Err(table.refuse(format!(
            "its configuration has {} layers and its {NAME} {}",
            config.diff_ids.len(),
            names.len()
        )));
    }
    let layers = names.iter().map(|name| {
        let found = table
            .find(name)
            .map(|(own, member)| (own.to_owned(), member.clone()));
        found.ok_or_else(|| table.refuse(format!("layer {} is missing in it", one_line(name))))
    });
    Ok(Some(PlainImage {
        layers: layers.collect::<Result<_, _>>()?,
        config: PlainConfig::Kept(bytes, config.diff_ids),
    }))
}
