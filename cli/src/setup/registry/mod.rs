//! `onedock setup registry`: the private registry of the cloud. Debian's `docker-registry`
//! with a certificate of an own authority, two accounts, and a name that every host resolves; before it
//! HAProxy, which says what each account may do.

mod accounts;
pub(super) mod answer;
mod certificate;
mod configuration;
mod join_step;
pub(super) mod name;
mod proxy;
mod service;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use onedock_common::types::reference::RegistryName;

use crate::error::{Error, Result};
use crate::file_step::{Folder, PutFile};
use crate::host::Host;
use crate::owner::Owner;
use crate::secret::Secret;
use crate::setup::distribution::Role;
use crate::setup::frontend::Layout;
use crate::setup::frontend::configuration::{Facts, steps as configuration_steps};
use crate::setup::join::{self, Join};
use crate::setup::{Plan, packages, registry_auth};
use crate::step::{State, Step, Steps, action};
use onedock_common::process::Command;

/// What the administrator says.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name by which every host finds this machine; found out when it is not given.
    pub name: Option<String>,
    pub port: u16,
    /// The address to listen on; every one of this machine when it is not given.
    pub listen: Option<String>,
    /// The front-end's account; the nodes' is called the same with `-node`.
    pub user: String,
    /// The folder of the images.
    pub storage: PathBuf,
    /// The folder of a self-contained OpenNebula.
    pub one_location: Option<PathBuf>,
    /// Whether the registry is started.
    pub start: bool,
    /// OpenNebula's user.
    pub oneadmin: String,
    /// Whether nodes get oneadmin's private key.
    pub with_private_key: bool,
}

/// Where the registry's own files lie.
pub(crate) const FOLDER: &str = "/etc/onedock/registry";

/// The user of Debian's package; where the package makes none of this name, we do.
const USER: &str = "docker-registry";

/// What the parts of the set-up share.
#[derive(Debug, Clone)]
pub(super) struct RegistrySetup {
    host: Host,
    registry: RegistryName,
    options: Options,
}

impl RegistrySetup {
    fn file(&self, name: &str) -> PathBuf {
        self.host.path(FOLDER).join(name)
    }

    fn storage(&self) -> PathBuf {
        self.host.path(&self.options.storage)
    }

    fn service_owner(&self) -> Owner {
        Owner::names(USER, USER)
    }

    fn readable_by_service(&self) -> Owner {
        Owner::names("root", USER)
    }

    fn readable_by_oneadmin(&self) -> Owner {
        Owner::names("root", &self.options.oneadmin)
    }

    /// The address and port at which this machine itself reaches the registry.
    fn local_endpoint(&self) -> String {
        let address = self.options.listen.as_deref().filter(|a| *a != "0.0.0.0");
        format!("{}:{}", address.unwrap_or("127.0.0.1"), self.options.port)
    }
}

/// The accounts and keys are for oneadmin, so it must be there before anything is written.
fn oneadmin_step(name: &str) -> Box<dyn Step> {
    let name = name.to_owned();
    action(
        format!("user {name}"),
        move || match Owner::names(&name, &name).resolve() {
            Ok(_) => Ok(State::Unchanged),
            Err(why) => Err(Error::refused(format!(
                "{why}; install OpenNebula first, or make this machine a node: onedock setup node"
            ))),
        },
        || Ok(()),
    )
}

/// The account of the service. Nothing of it can log in.
fn service_user_step() -> Box<dyn Step> {
    action(
        format!("user {USER}"),
        || {
            let missing = Owner::names(USER, USER).resolve().is_err();
            Ok(State::needed_if(missing, "make it"))
        },
        || {
            let options = ["--system", "--user-group", "--no-create-home"];
            Ok(Command::local("useradd")
                .args(options)
                .args(["--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"])
                .args(["--", USER])
                .checked()
                .map(drop)?)
        },
    )
}

/// The steps, and the remarks for when they are done.
pub fn plan(host: &Host, options: &Options) -> Result<Plan> {
    let mut steps: Steps = Vec::new();
    if host.is_running() {
        steps.push(packages::required_step(Role::Registry, || false));
    }
    steps.push(oneadmin_step(&options.oneadmin));
    if host.is_running() {
        steps.push(service_user_step());
    }
    let registry = name::choose(host, options)?;
    let setup = RegistrySetup {
        host: host.clone(),
        registry: registry.clone(),
        options: options.clone(),
    };
    let front_end = Layout::find(host, options.one_location.as_deref()).ok();

    steps.push(Folder::new(host.path("/etc/onedock"), 0o755, Owner::root()));
    steps.push(Folder::new(
        host.path(FOLDER),
        0o750,
        setup.readable_by_service(),
    ));
    steps.push(Folder::new(setup.storage(), 0o750, setup.service_owner()));
    steps.extend(certificate::steps(&setup));
    steps.extend(accounts::steps(&setup));
    steps.push(configuration::step(&setup));
    steps.push(proxy::step(&setup));

    let certs = host.path("/etc/docker/certs.d").join(registry.as_str());
    steps.push(Folder::new(certs.clone(), 0o755, Owner::root()));
    let ca = setup.file("ca.crt");
    let read_ca = move || certificate::read(&ca);
    steps.push(PutFile::from(
        certs.join("ca.crt"),
        read_ca,
        0o644,
        Owner::root(),
    ));
    let account = setup.clone();
    steps.push(registry_auth::step(
        host,
        registry.clone(),
        move || accounts::front_end(&account),
        setup.readable_by_oneadmin(),
    ));
    if let Some(layout) = &front_end {
        let facts = Facts {
            registry: Some(registry.clone()),
            data: Some(setup.storage()),
        };
        steps.extend(configuration_steps(
            &layout.remotes(),
            facts,
            &layout.owner()?,
        ));
    }
    steps.extend(service::steps(&setup));
    steps.push(join_step::step(&setup, front_end.as_ref()));

    let file = host.path(join::PATH);
    let mut notes = vec![format!(
        "The registry is {registry}. Every host must resolve and reach that name."
    )];
    if front_end.is_none() {
        notes.push("No OpenNebula is installed here, so the registry is in no onedock.conf: on the front-end run onedock setup frontend --registry NAME.".into());
    }
    Ok(Plan::with(steps, move |_| {
        let ssh = Join::read(&file).map(|join| join.ssh).ok();
        notes.push(give_note(&file, ssh.as_ref()));
        notes
    }))
}

/// What is to be done with the join file that has these ssh files.
fn give_note(file: &Path, ssh: Option<&BTreeMap<String, Secret>>) -> String {
    let file = file.display();
    let how = "There: onedock setup node --join join.json";
    if ssh.is_none_or(join::trusts_a_key) {
        let secrets = match ssh.is_some_and(join::has_private_key) {
            true => "oneadmin's private key and a password",
            false => "a password",
        };
        return format!(
            "Give {file} to each new node over a trusted way: it holds {secrets}. {how}"
        );
    }
    format!(
        "WARNING: oneadmin has no ssh key here, so {file} names none and the front-end could not \
         reach a node: as oneadmin run ssh-keygen and add the public key to \
         ~/.ssh/authorized_keys, call this again, then give the file to each new node. {how}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_join_file_is_described_by_what_it_holds() {
        let text = |ssh: &[(&str, &str)]| {
            let files = ssh.iter();
            let files = files.map(|(name, text)| ((*name).to_owned(), Secret::new(*text)));
            give_note(Path::new("/etc/onedock/join.json"), Some(&files.collect()))
        };
        let trusted = ("authorized_keys", "ssh-rsa X\n");
        assert!(text(&[trusted]).contains("it holds a password."));
        let both = text(&[trusted, ("id_rsa", "PRIVATE\n")]);
        assert!(both.contains("it holds oneadmin's private key and a password."));
        let warning = text(&[("known_hosts", "")]);
        assert!(
            warning.starts_with("WARNING") && warning.contains("ssh-keygen"),
            "{warning}"
        );
    }
}
