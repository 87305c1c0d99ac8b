//! `onedock setup node`: makes this machine a node: an engine with our runtime, oneadmin as
//! OpenNebula's own node packages make it, and the registry's certificate and account.

mod account;
mod bridges;
mod daemon;
mod disks;
mod engine;
mod floors;
mod guard;
mod loops;
mod modules;
mod network_drivers;
mod opennebula;
mod programs;
mod prune;
mod remote_scripts;
mod runtime;
mod sessions;
mod ssh;
mod sshd;
mod sudo;
mod trust;
mod vms;

use std::path::{Path, PathBuf};

pub use engine::Engine;

use crate::error::Result;
pub use guard::GuardedBridge;

use crate::file_step::Folder;
use crate::host::Host;
use crate::owner::Owner;
use crate::setup::distribution::Role;
use crate::setup::frontend::Layout;
use crate::setup::join::{self, Join};
use crate::setup::run_folders::{self, missing_folder};
use crate::setup::{ONEADMIN, Plan, packages};
use crate::step::Steps;

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
    /// Whether disks are shown as devices on a host whose loop driver has no bound.
    pub allow_unbounded_loops: bool,
    /// The bridges on which VMs are held to their own addresses; the list stays where none is given.
    pub guard_bridges: Vec<GuardedBridge>,
}

/// The steps, and the remarks for when they are done.
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

    let remarks = runtime::Remarks::default();
    let mut steps: Steps = Vec::new();
    if let Some(join) = &join {
        steps.push(trust::name_step(join));
    }
    let answers = engine.clone();
    let answers = move || answers.info().is_ok();
    steps.push(packages::required_step(Role::Node, answers.clone()));
    steps.push(packages::useful_step(Role::Node, answers));
    steps.push(network_drivers::step());
    steps.extend(loops::steps(&host));
    steps.push(loops::reload_step());
    steps.extend(modules::steps());
    steps.extend(account::steps(join.as_ref()));
    steps.extend(folders(&host, join.as_ref()));
    if let Some(join) = &join {
        steps.extend(ssh::steps(join));
    }
    steps.extend(programs::steps(&host, &programs));
    steps.push(Folder::new(host.path("/etc/onedock"), 0o755, Owner::root()));
    if options.allow_unbounded_loops {
        steps.push(loops::allow_step(&host));
    }
    if !options.guard_bridges.is_empty() {
        steps.push(guard::step(&host, &options.guard_bridges));
    }
    steps.push(daemon::running_step(&engine, options.start));
    steps.extend(account::docker_group_steps());
    steps.extend(prune::steps(&host));
    steps.push(runtime::choice_step(&host, &engine, &remarks));
    steps.extend(daemon::settings_steps(&engine));
    if let Some(join) = &join {
        steps.extend(trust::steps(&host, join));
    }
    steps.extend(sudo::steps(&host));
    steps.push(sshd::step(&host, &remarks));
    steps.push(sessions::step());

    let joined = join.clone();
    Ok(Plan::with(steps, move |_| {
        let mut all = remarks.take();
        all.extend(packages::missing_notes(Role::Node));
        all.extend(modules::notes());
        all.extend(bridges::notes());
        all.extend(guard::notes(&host));
        all.extend(runtime::chosen(&host).as_deref().and_then(floors::notes));
        all.extend(disks::notes(&engine));
        all.extend(vms::notes(&host, &engine));
        all.extend(loops::notes(&host));
        all.extend(notes(&host, joined.as_ref()));
        all
    }))
}

/// The folders of a node. State lies outside `/var/tmp/one`, which each synchronisation empties.
fn folders(host: &Host, join: Option<&Join>) -> Steps {
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
    steps.push(missing_folder(datastores, 0o750, oneadmin()));
    let scripts = remote_scripts_folder(host, join);
    steps.extend(run_folders::steps(host, &scripts));
    let agents = host.path(agent_folder(&scripts));
    // Somebody else's is moved aside.
    steps.push(remote_scripts::step(agents.clone(), oneadmin()));
    steps.push(missing_folder(agents, 0o755, oneadmin()));
    steps.push(remote_scripts::step(scripts, oneadmin()));
    steps
}

/// Where the monitor agent keeps its files: beside the drivers (docs/decisions/0027-killed-agent.md).
/// In `/var/tmp` anybody could make it first; beside drivers elsewhere oneadmin may not, and the agent would
/// go back to the stock folder, which the agent of another OpenNebula uses too.
fn agent_folder(scripts: &Path) -> PathBuf {
    // Without the slash that may end it.
    let scripts = scripts.components().as_path();
    let mut name = scripts.as_os_str().to_owned();
    name.push("_db");
    name.into()
}

/// Where the front-end puts the drivers: as the join file says, else as the OpenNebula of this
/// machine has it.
fn remote_scripts_folder(host: &Host, join: Option<&Join>) -> PathBuf {
    join.and_then(|join| join.remote_scripts.clone())
        .or_else(|| Some(Layout::find(host, None).ok()?.remote_scripts()))
        .unwrap_or_else(|| PathBuf::from(run_folders::REMOTE_SCRIPTS))
}

/// What a node has of its cloud.
#[derive(Debug, Default)]
struct Membership {
    /// Whether it trusts a key of the front-end.
    trusts: bool,
    /// The registry for which it has an account.
    registry: Option<String>,
}

impl Membership {
    /// What an earlier call with `--join` has left here.
    fn found(host: &Host, account: Option<&trust::Account>) -> Self {
        Self {
            trusts: ssh::trusts_a_key(host),
            registry: account.map(|account| account.registry.to_string()),
        }
    }

    /// The remark about it where no join file is given.
    fn describe(&self) -> String {
        const HOW: &str = "make a join file on the front-end with `onedock setup registry`, bring \
                           it here, and call this again with --join";
        let registry = self.registry.as_deref();
        match (self.trusts, registry) {
            (true, Some(registry)) => format!(
                "This node has joined already: it trusts oneadmin's key, and an account of the \
                 registry {registry} is here; both were left as they are."
            ),
            (true, None) => {
                format!("It trusts oneadmin's key, and has no account of the registry: {HOW}.")
            }
            (false, Some(registry)) => format!(
                "An account of the registry {registry} is here, and no key of the front-end is \
                 trusted: {HOW}."
            ),
            (false, None) => format!(
                "Without a join file this node trusts no key of the front-end and has no account \
                 of the registry: {HOW}."
            ),
        }
    }
}

fn notes(host: &Host, join: Option<&Join>) -> Vec<String> {
    let mut notes = Vec::new();
    let account = join
        .map(trust::Account::of_join)
        .or_else(|| trust::Account::of_this_node(host));
    match join {
        None => notes.push(Membership::found(host, account.as_ref()).describe()),
        Some(join) if !join::trusts_a_key(&join.ssh) && !ssh::trusts_a_key(host) => notes.push(
            "WARNING: the join file names no ssh key, so the front-end cannot reach this node: \
             make oneadmin's key on the front-end (ssh-keygen as oneadmin), call `onedock setup \
             registry` there again, and this with the new join file."
                .into(),
        ),
        Some(_) => {}
    }
    notes.extend(account.map(|account| account.answers(host)));
    notes.push(
        "On the front-end, as oneadmin: onehost create THIS-HOST -i onedock -v onedock".into(),
    );
    // The last line, because without it what was set up here does not work.
    match opennebula::notice(host) {
        Ok(notice) => notes.extend(notice),
        Err(why) => notes.push(format!("WARNING: {}", why.line())),
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_has_joined_is_not_told_that_it_has_not() {
        let text = |trusts, registry: Option<&str>| {
            let registry = registry.map(str::to_owned);
            Membership { trusts, registry }.describe()
        };
        let joined = text(true, Some("fe:5000"));
        assert!(joined.contains("has joined already") && !joined.contains("--join"));
        assert!(text(true, None).contains("no account of the registry"));
        assert!(text(false, Some("fe:5000")).contains("no key of the front-end is trusted"));
        let alone = text(false, None);
        assert!(
            alone.contains("trusts no key of the front-end and has no account")
                && alone.contains("--join")
        );
    }

    #[test]
    fn the_agent_has_a_folder_beside_the_drivers() {
        let folder = agent_folder(Path::new("/var/opt/one"));
        assert_eq!(folder, Path::new("/var/opt/one_db"));
        assert_eq!(agent_folder(Path::new("/var/opt/one/")), folder);
        let stock = agent_folder(Path::new("/var/tmp/one"));
        assert_eq!(stock, Path::new("/var/tmp/one_db"));
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        std::fs::create_dir_all(host.path("/etc/one")).unwrap();
        std::fs::create_dir_all(host.path("/var/lib/one/remotes/vmm")).unwrap();
        let settings = "SCRIPTS_REMOTE_DIR=/var/opt/one\n";
        std::fs::write(host.path("/etc/one/oned.conf"), settings).unwrap();
        let beside = host.path("/var/opt/one_db").display().to_string();
        let steps = folders(&host, None);
        assert!(steps.iter().any(|step| step.subject() == beside));
    }

    #[test]
    fn what_an_earlier_call_has_left_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        assert!(!Membership::found(&host, None).trusts);
        let folder = host.path("/var/lib/one/.ssh");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("id_ed25519"), "PRIVATE\n").unwrap();
        assert!(!Membership::found(&host, None).trusts);
        std::fs::write(folder.join("authorized_keys"), "ssh-rsa X\n").unwrap();
        assert!(Membership::found(&host, None).trusts);
    }
}
