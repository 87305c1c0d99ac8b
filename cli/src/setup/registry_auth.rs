//! `/etc/onedock/registry-auth.json`: the accounts of registries, in the form of Docker's own
//! `auth.json`. One entry is ours, others are the administrator's.

use std::fs;
use std::io;
use std::path::PathBuf;

use onedock_common::opennebula::config::AUTH_FILE;
use onedock_common::types::reference::RegistryName;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::file_step::PutFile;
use crate::host::Host;
use crate::owner::Owner;
use crate::secret::{Secret, basic};
use crate::step::Step;

/// A step that gives the file this account of this registry.
pub fn step(
    host: &Host,
    registry: RegistryName,
    account: impl Fn() -> Result<(String, Secret)> + 'static,
    owner: Owner,
) -> Box<dyn Step> {
    let path = host.path(AUTH_FILE);
    let at = path.clone();
    let text = move || {
        let (user, password) = account()?;
        with_account(&read(&at)?, &registry, &basic(&user, &password))
            .map(String::into_bytes)
            .map_err(|why| Error::refused(format!("{} {why}", at.display())))
    };
    PutFile::from(path, text, 0o640, owner)
}

fn read(path: &PathBuf) -> Result<String> {
    match fs::read_to_string(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(Error::file("read", path)),
    }
}

fn with_account(
    text: &str,
    registry: &RegistryName,
    auth: &Secret,
) -> std::result::Result<String, String> {
    let mut whole: Map<String, Value> = if text.trim().is_empty() {
        Map::new()
    } else {
        serde_json::from_str(text).map_err(|e| format!("is no valid JSON object: {e}"))?
    };
    let auths = whole.entry("auths").or_insert_with(|| json!({}));
    let Value::Object(auths) = auths else {
        return Err("has \"auths\" that are no JSON object".into());
    };
    let entry = json!({ "auth": auth.reveal() });
    if auths.get(registry.as_str()) == Some(&entry) {
        return Ok(text.to_owned());
    }
    auths.insert(registry.as_str().to_owned(), entry);
    serde_json::to_string_pretty(&whole)
        .map(|t| t + "\n")
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_account_stands_beside_the_others_and_is_written_once() {
        let name: RegistryName = "frontend:5000".parse().unwrap();
        let auth = basic("onedock", &Secret::new("p"));
        let text = "{\"auths\":{\"x:1\":{\"auth\":\"eA==\"}},\"credHelpers\":{}}";
        let once = with_account(text, &name, &auth).unwrap();
        let value: Value = serde_json::from_str(&once).unwrap();
        assert_eq!(value["auths"]["x:1"]["auth"], "eA==");
        assert_eq!(value["auths"]["frontend:5000"]["auth"], "b25lZG9jazpw");
        assert_eq!(with_account(&once, &name, &auth).unwrap(), once);
        assert!(with_account("{\"auths\":1}", &name, &auth).is_err());
    }
}
