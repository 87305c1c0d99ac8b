//! Edits of a user's configuration of the program `docker`: what `docker system prune` and its kin
//! leave alone (docker-config-json(5), `pruneFilters`).

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::json::{Unfit, set};

const KEY: &str = "pruneFilters";
/// Whatever has the drivers' label: a powered-off VM is a stopped container.
const FILTER: &str = "label!=org.opennebula.driver";

/// The edited text, and what was changed. An empty text counts as an empty object.
pub fn edit(text: &str) -> Result<(String, Vec<String>), Unfit> {
    let mut text = match text.trim() {
        "" => "{}\n".to_owned(),
        _ => text.to_owned(),
    };
    let top: BTreeMap<String, &RawValue> = serde_json::from_str(&text)?;
    let mut filters: Vec<String> = match top.get(KEY) {
        Some(raw) => serde_json::from_str(raw.get()).map_err(|_| Unfit::Kind(KEY))?,
        None => Vec::new(),
    };
    if filters.iter().any(|filter| filter == FILTER) {
        return Ok((text, Vec::new()));
    }
    filters.push(FILTER.to_owned());
    let filters = serde_json::Value::from(filters).to_string();
    set(&mut text, None, KEY, &filters)?;
    Ok((text, vec![format!("{KEY}: {FILTER}")]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_stands_beside_what_is_there_and_once() {
        for (text, edited) in [
            (
                "",
                "{\n    \"pruneFilters\": [\"label!=org.opennebula.driver\"]\n}\n",
            ),
            (
                "{\"auths\": {}, \"pruneFilters\": [\"until=24h\"]}",
                "{\"auths\": {}, \"pruneFilters\": [\"until=24h\",\"label!=org.opennebula.driver\"]}",
            ),
        ] {
            let (once, changes) = edit(text).unwrap();
            assert_eq!((once.as_str(), changes.len()), (edited, 1));
            assert_eq!(edit(&once).unwrap(), (once, Vec::new()));
        }
        for bad in ["[]", "x", "{\"pruneFilters\": \"label\"}"] {
            assert!(edit(bad).is_err(), "{bad}");
        }
    }
}
