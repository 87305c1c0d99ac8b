//! The engine's oldest form (before 1.10): `repositories` names the top layer, each layer has
//! a folder with `json` (its parent and configuration) and `layer.tar`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::plain_image::{History, PlainConfig, PlainImage};
use super::select::not_one;
use super::table::Table;
use crate::error::Error;
use crate::oci::manifest::LAYER_LIMIT;

const NAME: &str = "repositories";

/// Reads the form; `None` when the archive has another.
pub(super) fn read(table: &Table) -> Result<Option<PlainImage>, Error> {
    if !table.has(NAME) {
        return Ok(None);
    }
    let names: BTreeMap<String, Option<BTreeMap<String, String>>> =
        serde_json::from_slice(&table.text(NAME)?)
            .map_err(|e| table.refuse(format!("its {NAME} file is damaged ({e})")))?;
    let tops: BTreeSet<&String> = names
        .values()
        .flatten()
        .flat_map(BTreeMap::values)
        .collect();
    let mut tops = tops.into_iter();
    let (Some(top), None) = (tops.next(), tops.next()) else {
        let names = names.iter().flat_map(|(name, tags)| {
            let tags = tags.iter().flat_map(BTreeMap::keys);
            tags.map(move |tag| format!("{name}:{tag}"))
        });
        return Err(table.refuse(not_one(names)));
    };
    let mut next = Some(top.clone());
    let (mut layers, mut history) = (Vec::new(), Vec::new());
    while let Some(id) = next {
        if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(table.refuse("its layers have no ids"));
        }
        if layers.len() > LAYER_LIMIT {
            return Err(table.refuse("its layers are endless"));
        }
        let json: Map<String, Value> = serde_json::from_slice(&table.text(&format!("{id}/json"))?)
            .map_err(|e| table.refuse(format!("its {id}/json is damaged ({e})")))?;
        let tar = format!("{id}/layer.tar");
        let (own, member) = table
            .find(&tar)
            .ok_or_else(|| table.refuse(format!("layer {tar} is missing in it")))?;
        layers.push((own.to_owned(), member.clone()));
        let parent = json.get("parent").and_then(Value::as_str);
        next = parent.filter(|p| !p.is_empty()).map(str::to_owned);
        history.push(json);
    }
    layers.reverse();
    history.reverse();
    Ok(Some(PlainImage {
        layers,
        config: PlainConfig::FromHistory(History(history)),
    }))
}
