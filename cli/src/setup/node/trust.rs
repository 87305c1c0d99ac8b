//! What a node needs of the registry: its name, its certificate authority, an account.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onedock_common::opennebula::config::AUTH_FILE;
use onedock_common::types::reference::RegistryName;

use crate::error::Error;
use crate::file_step::{Folder, PutFile};
use crate::host::Host;
use crate::owner::Owner;
use crate::secret::Secret;
use crate::setup::join::Join;
use crate::setup::registry::{self, answer, name};
use crate::setup::{ONEADMIN, registry_auth};
use crate::step::{State, Step, Steps, action};

/// The registry's name must mean something here, before anything is done.
pub(super) fn name_step(join: &Join) -> Box<dyn Step> {
    let host = join.registry.host().to_owned();
    action(
        format!("the name {host}"),
        move || {
            if name::addresses_of(&host).is_empty() {
                return Err(Error::refused(format!(
                    "the registry's name {host} cannot be resolved here; add it to the DNS or \
                     to /etc/hosts and call this again"
                )));
            }
            Ok(State::Unchanged)
        },
        || Ok(()),
    )
}

/// The authority where the engine and the drivers read it, and the account.
pub(super) fn steps(host: &Host, join: &Join) -> Steps {
    let folder = host
        .path("/etc/docker/certs.d")
        .join(join.registry.as_str());
    let mut steps: Steps = vec![
        Folder::new(folder.clone(), 0o755, Owner::root()),
        PutFile::new(folder.join("ca.crt"), join.ca.clone(), 0o644, Owner::root()),
    ];
    if is_keeper(host, &join.registry) {
        // The registry is on this very machine: its own account has the same rights and stays.
        return steps;
    }
    let account = (join.user.clone(), join.password.clone());
    steps.push(registry_auth::step(
        host,
        join.registry.clone(),
        move || Ok(account.clone()),
        Owner::names("root", ONEADMIN),
    ));
    steps
}

fn is_keeper(host: &Host, registry: &RegistryName) -> bool {
    let has_account = || {
        std::fs::read_to_string(host.path(AUTH_FILE))
            .is_ok_and(|text| text.contains(&format!("\"{registry}\"")))
    };
    host.path(registry::FOLDER).join("config.yml").exists() && has_account()
}

/// An account of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) registry: RegistryName,
    user: String,
    password: Secret,
}

impl Account {
    /// The account that comes with a join file.
    pub(super) fn of_join(join: &Join) -> Self {
        Self {
            registry: join.registry.clone(),
            user: join.user.clone(),
            password: join.password.clone(),
        }
    }

    /// The account that an earlier call has left here: the first one of a registry whose
    /// certificate is here, too.
    pub(super) fn of_this_node(host: &Host) -> Option<Self> {
        let text = std::fs::read_to_string(host.path(AUTH_FILE)).ok()?;
        accounts(&text)
            .into_iter()
            .find(|account| certificate(host, &account.registry).exists())
    }

    /// Whether its registry answers this node.
    pub(super) fn answers(&self, host: &Host) -> String {
        let registry = &self.registry;
        let ca = certificate(host, registry);
        if !ca.exists() {
            return format!(
                "Whether {registry} answers is found out when its certificate is here."
            );
        }
        match answer::status(registry.as_str(), registry, &ca, &self.user, &self.password) {
            Ok(200) => format!("The registry {registry} answers this node."),
            Ok(401) => format!(
                "WARNING: the registry {registry} does not take this node's account; make a new \
                 join file there with `onedock setup registry`."
            ),
            Ok(code) => format!("WARNING: the registry {registry} answers with status {code}."),
            Err(why) => {
                format!("WARNING: the registry {registry} cannot be reached from here: {why}")
            }
        }
    }
}

fn certificate(host: &Host, registry: &RegistryName) -> PathBuf {
    host.path("/etc/docker/certs.d")
        .join(registry.as_str())
        .join("ca.crt")
}

/// The accounts in a file of the form of Docker's `auth.json`. What is damaged in it is passed
/// over: only who asks the registry with it has to complain.
fn accounts(text: &str) -> Vec<Account> {
    let file: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let entries = file.get("auths").and_then(|auths| auths.as_object());
    let account = |(name, entry): (&String, &serde_json::Value)| {
        let packed = entry.get("auth")?.as_str()?;
        let plain = String::from_utf8(STANDARD.decode(packed).ok()?).ok()?;
        let (user, password) = plain.split_once(':')?;
        Some(Account {
            registry: name.parse().ok()?,
            user: user.to_owned(),
            password: Secret::new(password),
        })
    };
    entries.into_iter().flatten().filter_map(account).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "{\"auths\":{\"a:1\":{},\"b:2\":{\"auth\":\"eDp5\"},\"c:3\":{\"auth\":\"!\"},\
                        \"d:4\":{\"auth\":\"dXNlcjpwOnc=\"}}}";

    #[test]
    fn accounts_are_read_from_the_drivers_file_and_damaged_ones_passed_over() {
        let found: Vec<_> = accounts(FILE)
            .into_iter()
            .map(|a| {
                (
                    a.registry.to_string(),
                    a.user,
                    a.password.reveal().to_owned(),
                )
            })
            .collect();
        let expected = [("b:2", "x", "y"), ("d:4", "user", "p:w")];
        assert_eq!(
            found,
            expected.map(|(r, u, p)| (r.to_owned(), u.to_owned(), p.to_owned()))
        );
        assert!(accounts("").is_empty() && accounts("{\"auths\":1}").is_empty());
    }

    #[test]
    fn the_account_of_this_node_is_that_of_a_registry_whose_certificate_is_here() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        assert_eq!(Account::of_this_node(&host), None);
        let file = host.path(AUTH_FILE);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, FILE).unwrap();
        assert_eq!(Account::of_this_node(&host), None);
        let ca = certificate(&host, &"d:4".parse().unwrap());
        std::fs::create_dir_all(ca.parent().unwrap()).unwrap();
        std::fs::write(ca, "PEM").unwrap();
        let found = Account::of_this_node(&host).unwrap();
        assert_eq!((found.registry.as_str(), &*found.user), ("d:4", "user"));
    }
}
