//! What a node needs of the registry: its name, its certificate authority, an account.

use onedock_common::config::AUTH_FILE;
use onedock_common::reference::RegistryName;

use crate::error::Error;
use crate::host::Host;
use crate::owner::Owner;
use crate::place::{Folder, PutFile};
use crate::setup::join::Join;
use crate::setup::registry::{self, answer, name};
use crate::setup::{ONEADMIN, registry_auth};
use crate::step::{State, Step, Steps, act};

/// The registry's name must mean something here, before anything is done.
pub(super) fn name_step(join: &Join) -> Box<dyn Step> {
    let host = join.registry.host().to_owned();
    act(
        format!("the name {host}"),
        move || {
            if name::addresses_of(&host).is_empty() {
                return Err(Error::refused(format!(
                    "the registry's name {host} cannot be resolved here; add it to the DNS or \
                     to /etc/hosts and call this again"
                )));
            }
            Ok(State::AlreadySo)
        },
        || Ok(()),
    )
}

/// The authority where the engine and the drivers look for it, and the account.
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

/// Whether the registry answers this node.
pub(super) fn registry_answers(join: &Join) -> String {
    let registry = &join.registry;
    let ca = Host::this()
        .path("/etc/docker/certs.d")
        .join(registry.as_str())
        .join("ca.crt");
    if !ca.exists() {
        return format!("Whether {registry} answers is found out when its certificate is here.");
    }
    match answer::status(registry.as_str(), registry, &ca, &join.user, &join.password) {
        Ok(200) => format!("The registry {registry} answers this node."),
        Ok(401) => format!(
            "WARNING: the registry {registry} does not take this node's account; make a new join \
             file there with `onedock setup registry`."
        ),
        Ok(code) => format!("WARNING: the registry {registry} answers with status {code}."),
        Err(why) => format!("WARNING: the registry {registry} cannot be reached from here: {why}"),
    }
}
