//! `docker system prune` and `docker container prune` remove stopped containers, and a powered-off VM is
//! one. Where Docker can, the drivers' containers are kept from them: for root and for oneadmin, by the
//! configuration of the program `docker`. Who asks the engine by another program is not kept from it.

use std::fs;
use std::path::Path;

use crate::edit::docker_config;
use crate::error::{Error, Result};
use crate::file_step::{EditFile, Edited, PutFile};
use crate::host::Host;
use crate::owner::Owner;
use crate::setup::ONEADMIN;
use crate::setup::run_folders::missing_folder;
use crate::step::Steps;

/// The homes of those who administer a node.
pub(super) fn steps(host: &Host) -> Steps {
    let mut steps = Steps::new();
    for (home, owner) in [
        ("/root", Owner::root()),
        ("/var/lib/one", Owner::names(ONEADMIN, ONEADMIN)),
    ] {
        let folder = host.path(home).join(".docker");
        let path = folder.join("config.json");
        steps.push(missing_folder(folder, 0o700, owner.clone()));
        if fs::symlink_metadata(&path).is_ok() {
            let named = path.clone();
            steps.push(EditFile::new(path, move |text: &str| edit(text, &named)));
        } else {
            let named = path.clone();
            let text = move || Ok(edit("", &named)?.text.into_bytes());
            steps.push(PutFile::from(path, text, 0o600, owner));
        }
    }
    steps
}

fn edit(text: &str, path: &Path) -> Result<Edited> {
    let (text, changes) = docker_config::edit(text)
        .map_err(|why| Error::refused(format!("{} {why}; it was left as it is", path.display())))?;
    Ok(Edited { text, changes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_homes_have_the_filter_and_a_configuration_that_is_there_is_edited() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let folder = host.path("/root/.docker");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("config.json");
        fs::write(&path, "{\"psFormat\": \"x\"}").unwrap();
        let steps = steps(&host);
        assert_eq!(steps.len(), 4);
        steps[1].apply().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\"psFormat\": \"x\","), "{text}");
        assert!(text.contains("label!=org.opennebula.driver"), "{text}");
        let other = host.path("/var/lib/one/.docker/config.json");
        assert_eq!(steps[3].subject(), other.display().to_string());
    }
}
