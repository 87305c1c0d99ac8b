//! oneadmin's ssh on a node: whom it trusts, the front-end's key among them, and whom it knows. Lines are
//! added to lists that are there; a key that is there stays.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::file_step::{Folder, put};
use crate::host::Host;
use crate::owner::Owner;
use crate::secret::Secret;
use crate::setup::ONEADMIN;
use crate::setup::join::{self, Join, ssh_files};
use crate::step::{State, Step, Steps, action};

const FOLDER: &str = "/var/lib/one/.ssh";

/// The folder and each file of the join file.
pub(super) fn steps(join: &Join) -> Steps {
    let folder = PathBuf::from(FOLDER);
    let owner = Owner::names(ONEADMIN, ONEADMIN);
    let mut steps: Steps = vec![Folder::new(folder.clone(), 0o700, owner.clone())];
    for (name, content) in &join.ssh {
        steps.push(file_step(
            folder.join(name),
            name,
            content.clone(),
            owner.clone(),
        ));
    }
    steps
}

/// Whether the front-end may log in here.
pub(super) fn trusts_a_key(host: &Host) -> bool {
    join::trusts_a_key(&ssh_files(&host.path(FOLDER)))
}

fn file_step(path: PathBuf, name: &str, given: Secret, owner: Owner) -> Box<dyn Step> {
    let is_list = matches!(name, "authorized_keys" | "known_hosts");
    let mode = if name.ends_with(".pub") { 0o644 } else { 0o600 };
    let (a, b, content) = (path.clone(), path.clone(), given.clone());
    action(
        path.display().to_string(),
        move || {
            Ok(match merged(&read(&a)?, given.reveal(), is_list) {
                Some(_) => State::Needed("write what the front-end has".into()),
                None => State::Unchanged,
            })
        },
        move || match merged(&read(&b)?, content.reveal(), is_list) {
            Some(text) => put(&b, text.as_bytes(), mode, &owner),
            None => Ok(()),
        },
    )
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::file("read", path)(e)),
    }
}

/// What has to be written, if anything.
fn merged(found: &Option<String>, given: &str, is_list: bool) -> Option<String> {
    let Some(found) = found else {
        return Some(given.to_owned());
    };
    if !is_list {
        return None;
    }
    let mut text = found.clone();
    for line in given.lines().filter(|l| !l.trim().is_empty()) {
        if !found.lines().any(|l| l == line) {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(line);
            text.push('\n');
        }
    }
    (text != *found).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn nobody_but_its_owner_can_read_a_private_key() {
        let dir = tempfile::tempdir().unwrap();
        let owner = Owner::of(dir.path()).unwrap();
        for (name, mode) in [
            ("id_ed25519", 0o600),
            ("id_ed25519.pub", 0o644),
            ("authorized_keys", 0o600),
            ("config", 0o600),
        ] {
            let path = dir.path().join(name);
            let step = file_step(path.clone(), name, Secret::new("k\n"), owner.clone());
            step.apply().unwrap();
            let found = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(found & 0o777, mode, "{name}");
        }
    }

    #[test]
    fn lists_grow_keys_stay_and_nothing_is_written_twice() {
        let there = |text: &str| Some(text.to_owned());
        assert_eq!(merged(&None, "k\n", false), there("k\n"));
        assert_eq!(merged(&there("mine\n"), "k\n", false), None);
        assert_eq!(merged(&there("a"), "a\nb\n", true), there("a\nb\n"));
        assert_eq!(merged(&there("a\nb\n"), "b\na\n", true), None);
    }
}
