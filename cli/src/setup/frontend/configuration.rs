//! `remotes/onedock.conf`: what the drivers read, on the front-end and on the nodes.

use std::path::{Path, PathBuf};

use onedock_common::types::reference::RegistryName;

use crate::edit::shell_rc;
use crate::error::Result;
use crate::file_step::{EditFile, Edited, PutFile};
use crate::owner::Owner;
use crate::step::Steps;

/// The file when it is new.
pub const CONFIGURATION: &str = include_str!("../../../../packaging/onedock.conf");

/// What this program writes into the file; everything else in it is the administrator's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The private registry.
    pub registry: Option<RegistryName>,
    /// Where the private registry keeps its data, when it was set up here.
    pub data: Option<PathBuf>,
}

/// Makes the file when it is missing, and writes the facts into it.
pub fn steps(remotes: &Path, facts: Facts, owner: &Owner) -> Steps {
    let path = remotes.join("onedock.conf");
    if !path.exists() {
        let text = with_facts(CONFIGURATION, &facts).text;
        return vec![PutFile::new(path, text, 0o644, owner.clone())];
    }
    vec![EditFile::new(path, move |text: &str| -> Result<Edited> {
        Ok(with_facts(text, &facts))
    })]
}

/// Whether the administrator has named a registry in it.
pub(super) fn names_registry(remotes: &Path) -> bool {
    std::fs::read_to_string(remotes.join("onedock.conf"))
        .is_ok_and(|text| shell_rc::get(&text, "LOCAL_SERVER").is_some_and(|name| !name.is_empty()))
}

fn with_facts(text: &str, facts: &Facts) -> Edited {
    let mut edited = Edited {
        text: text.to_owned(),
        changes: Vec::new(),
    };
    let registry = facts.registry.as_ref().map(|r| r.as_str().to_owned());
    let data = facts.data.as_ref().map(|d| d.display().to_string());
    for (key, value) in [("LOCAL_SERVER", registry), ("DATASTORE_DATA_PATH", data)] {
        let Some(value) = value else { continue };
        if shell_rc::get(&edited.text, key) != Some(&value) {
            edited.text = shell_rc::set(&edited.text, key, &value);
            edited.changes.push(format!("{key} {value}"));
        }
    }
    edited
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_named_below_its_comment_and_only_once() {
        let facts = Facts {
            registry: Some("frontend:5000".parse().unwrap()),
            data: Some("/srv/images".into()),
        };
        let edited = with_facts(CONFIGURATION, &facts);
        assert!(
            edited.text.contains("5000\nLOCAL_SERVER=frontend:5000\n"),
            "{}",
            edited.text
        );
        assert!(
            edited.text.contains("\nDATASTORE_DATA_PATH=/srv/images\n"),
            "{}",
            edited.text
        );
        assert_eq!(with_facts(&edited.text, &facts).changes.len(), 0);
        assert_eq!(
            with_facts(CONFIGURATION, &Facts::default()).text,
            CONFIGURATION
        );
    }

    #[test]
    fn the_drivers_can_read_the_file_that_is_shipped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("onedock.conf");
        std::fs::write(&path, CONFIGURATION).unwrap();
        let config = onedock_common::opennebula::config::Config::read(&path).unwrap();
        assert_eq!(
            config,
            onedock_common::opennebula::config::Config::default()
        );
    }
}
