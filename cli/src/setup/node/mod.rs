//! `onedock setup node`: makes this machine a node: an engine with our runtime, oneadmin as
//! OpenNebula's own node packages make it, and the registry's certificate and account.

mod account;
mod daemon;
mod disks;
mod engine;
mod kernel;
mod loops;
mod programs;
mod runtime;
mod sessions;
mod ssh;
mod sudo;
mod trust;

use std::path::PathBuf;

pub use engine::Engine;

use crate::error::Result;
use crate::host::Host;
use crate::owner::Owner;
use crate::place::{Folder, PutFile};
use crate::setup::distribution::Role;
use crate::setup::join::{self, Join};
use crate::setup::{ONEADMIN, Plan, packages};
use crate::step::{State, Step, Steps, act};

/// What the administrator says.
#[derive(Debug, Clone)]
pub struct Options {
    /// The join file; `/etc/onedock/join.json`, where it is, when none is given.
    pub join: Option<PathBuf>,
    /// The engine's socket.
    pub socket: PathBuf,
    /// Where our programs are taken from.
    pub from: PathBuf,
    /// Whether an engine that does not run is started.
    pub start: bool,
}

/// What OpenNebula's tmpfiles say for a node, for machines without its packages.
const TMPFILES: &str = include_str!("../../../../packaging/tmpfiles-onedock.conf");

/// The steps, and what has to be said when they are done.
pub fn plan(options: &Options) -> Result<Plan> {
    let host = Host::this();
    let default = host.path(join::PATH);
    let join = match &options.join {
        Some(path) => Some(Join::read(path)?),
        None if default.exists() => Some(Join::read(&default)?),
        None => None,
    };
    let programs = programs::find(&options.from)?;
    let engine = Engine::at(options.socket.clone());

    let mut steps: Steps = Vec::new();
    if let Some(join) = &join {
        steps.push(trust::name_step(join));
    }
    let answers = engine.clone();
    let answers = move || answers.info().is_ok();
    steps.push(packages::required_step(Role::Node, answers.clone()));
    steps.push(packages::useful_step(Role::Node, answers));
    steps.extend(loops::steps(&host));
    steps.extend(disks::steps());
    steps.extend(account::steps(join.as_ref()));
    steps.extend(folders(join.as_ref()));
    if let Some(join) = &join {
        steps.extend(ssh::steps(join));
    }
    steps.extend(programs::steps(&host, &programs));
    steps.push(Folder::new(host.path("/etc/onedock"), 0o755, Owner::root()));
    steps.push(daemon::running_step(&engine, options.start));
    steps.extend(account::docker_group_steps());
    let remarks = runtime::Remarks::default();
    steps.push(runtime::choice_step(&host, &engine, &remarks));
    steps.extend(daemon::settings_steps(&engine));
    if let Some(join) = &join {
        steps.extend(trust::steps(&host, join));
    }
    steps.extend(sudo::steps(&host));
    steps.push(sessions::step());

    let joined = join.clone();
    Ok(Plan::with(steps, move |_| {
        let mut all = remarks.take();
        all.extend(packages::lacking_notes(Role::Node));
        all.extend(disks::notes(&engine));
        all.extend(loops::notes());
        all.extend(notes(joined.as_ref()));
        all
    }))
}

/// The folders of a node. State lies outside `/var/tmp/one`, which each synchronisation empties.
fn folders(join: Option<&Join>) -> Steps {
    let oneadmin = || Owner::names(ONEADMIN, ONEADMIN);
    let state = PathBuf::from("/var/lib/onedock");
    let mut steps: Steps = vec![Folder::new(state.clone(), 0o750, oneadmin())];
    for name in ["boot", "lock", "journal", "context", "extracted"] {
        steps.push(Folder::new(state.join(name), 0o750, oneadmin()));
    }
    let datastores = join.map_or_else(
        || PathBuf::from("/var/lib/one/datastores"),
        |join| join.datastores.clone(),
    );
    steps.push(missing_folder(datastores, 0o750));
    let packaged = [
        "/usr/lib/tmpfiles.d/opennebula-node.conf",
        "/etc/tmpfiles.d/opennebula-node.conf",
    ];
    if !packaged.iter().any(|p| std::path::Path::new(p).exists()) {
        let path = PathBuf::from("/etc/tmpfiles.d/onedock.conf");
        steps.push(PutFile::new(path, TMPFILES, 0o644, Owner::root()));
    }
    for (path, mode) in [
        ("/run/one", 0o750),
        ("/run/one/ssh-socks", 0o700),
        ("/run/lock/one", 0o755),
    ] {
        steps.push(missing_folder(PathBuf::from(path), mode));
    }
    steps
}

/// A folder of oneadmin's that is made when it is missing; one that is there stays as it is.
fn missing_folder(path: PathBuf, mode: u32) -> Box<dyn Step> {
    let place = path.clone();
    let folder = Folder::new(path.clone(), mode, Owner::names(ONEADMIN, ONEADMIN));
    act(
        path.display().to_string(),
        move || Ok(State::needed_if(!place.is_dir(), "make it")),
        move || folder.apply(),
    )
}

fn notes(join: Option<&Join>) -> Vec<String> {
    let mut notes = vec![kernel::bridge_filter()];
    match join {
        Some(join) => notes.push(trust::registry_answers(join)),
        None => notes.push(
            "Without a join file this node has no keys of the front-end and no account of the \
             registry: make one there with `onedock setup registry`, bring it here, and call \
             this again with --join."
                .into(),
        ),
    }
    notes.push(
        "On the front-end, as oneadmin: onehost create THIS-HOST -i onedock -v onedock".into(),
    );
    notes
}
