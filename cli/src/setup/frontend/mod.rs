//! `onedock setup frontend`: the drivers into an OpenNebula installation, and their names into
//! its configuration.

pub mod configuration;
mod drivers;
mod execrc;
mod layout;
mod monitord;
mod oned;
mod shims;
mod ssh_config;
pub mod tree;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

pub use layout::Layout;
use nix::unistd::geteuid;
use onedock_common::types::reference::RegistryName;

use crate::error::Result;
use crate::file_step::{EditFile, Edited};
use crate::host::Host;
use crate::owner::Owner;
use crate::setup::distribution::Role;
use crate::setup::join::{self, Join};
use crate::setup::{Plan, packages, restart, run_folders};
use crate::step::{Step, Steps};

/// What the administrator says.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The folder of a self-contained OpenNebula; without it the system-wide one.
    pub one_location: Option<PathBuf>,
    /// The private registry, when it is not set up by this program.
    pub registry: Option<RegistryName>,
    /// Where the driver binaries are taken from.
    pub from: PathBuf,
}

/// The steps, and the remarks for when they are done.
pub fn plan(host: &Host, options: &Options) -> Result<Plan> {
    let layout = Layout::find(host, options.one_location.as_deref())?;
    let owner = layout.owner()?;
    let remotes = layout.remotes();
    let registry = options.registry.clone().or_else(|| registry_of(host));
    let unnamed = registry.is_none() && !configuration::names_registry(&remotes);
    let mut steps: Steps = Vec::new();
    if host.is_running() {
        steps.push(packages::required_step(Role::FrontEnd, || false));
        steps.push(packages::useful_step(Role::FrontEnd, || false));
    }
    steps.extend(tree::steps(&remotes, &options.from, registry, &owner)?);

    let upgrade = oned::completes(&layout.etc().join("oned.conf"));
    let (oned, kept) = edit_step(layout.etc().join("oned.conf"), oned::edit);
    let (monitord, kept_too) = edit_step(layout.etc().join("monitord.conf"), monitord::edit);
    steps.push(oned);
    steps.push(monitord);
    steps.push(EditFile::new(
        layout.etc().join("vmm_exec/vmm_execrc"),
        execrc::edit,
    ));
    steps.extend(ssh_config::steps(host, &owner)?);
    let scripts = layout.remote_scripts();
    let is_trusted = is_only_ours(host, &layout.etc().join("oned.conf"));
    if is_trusted {
        steps.extend(synchronised_step(host, &scripts, &owner));
    }

    let mut notes = kept;
    if !is_trusted && needs_root(host, &scripts) && !host.path(&scripts).is_dir() {
        notes.push(format!(
            "OpenNebula makes {0} on this machine too and must be able to: mkdir -p {0} && chown {owner} {0}",
            scripts.display()
        ));
    }
    notes.extend(kept_too);
    if unnamed {
        notes.push("No registry is named yet: run `onedock setup registry`, or call this again with --registry HOST:PORT.".into());
    }
    let etc = layout.etc().to_path_buf();
    let has_unit = restart::has_unit(host);
    let is_running = host.is_running();
    Ok(Plan::with(steps, move |summary| {
        if is_running {
            notes.extend(packages::missing_notes(Role::FrontEnd));
        }
        let edited = |name: &str| summary.has_changed(&etc.join(name).display().to_string());
        let restarts = ["oned.conf", "monitord.conf", "vmm_exec/vmm_execrc"]
            .into_iter()
            .any(edited);
        notes.extend(next_commands(
            &layout,
            has_unit,
            restarts,
            summary.has_changed_beneath(&layout.remotes()),
        ));
        if upgrade {
            notes.push(
                "Each datastore with TM_MAD=onedock that is there already takes over the new \
                 settings by an update, as oneadmin, after the restart:"
                    .into(),
            );
            notes.push(
                "  echo 'TM_MAD=\"onedock\"' > again && onedatastore update ID again --append"
                    .into(),
            );
        }
        notes
    }))
}

/// The registry that `setup registry` made on this machine.
fn registry_of(host: &Host) -> Option<RegistryName> {
    let join = Join::read(&host.path(join::PATH)).ok()?;
    Some(join.registry)
}

/// The folder of the drivers on the front-end itself, where SCRIPTS_REMOTE_DIR is not the stock one.
/// OpenNebula 7.4.0 calls `ssh -n HOST exec 2>/dev/null; mkdir -p 'DIR'/` (`HostSyncManager.rb`), so
/// that the `mkdir` runs here, as oneadmin; where it fails no host is ever monitored, and the error
/// has no text. oneadmin can always make the stock folder, in `/var/tmp`.
fn synchronised_step(host: &Host, folder: &Path, owner: &Owner) -> Option<Box<dyn Step>> {
    needs_root(host, folder)
        .then(|| run_folders::missing_folder(host.path(folder), 0o755, owner.clone()))
}

/// Whether only root can make this folder of the drivers.
fn needs_root(host: &Host, folder: &Path) -> bool {
    let parent = host.path(folder.parent().unwrap_or(folder));
    let is_stock = folder == Path::new(run_folders::REMOTE_SCRIPTS);
    !is_stock && is_only_ours(host, &parent)
}

/// Whether nobody but who runs the set-up, root, can say what is at this path: a folder that root
/// makes and gives to oneadmin must not be oneadmin's choice.
fn is_only_ours(host: &Host, path: &Path) -> bool {
    let root = host.path("/");
    path.ancestors()
        .take_while(|above| above.starts_with(&root))
        .all(|above| match std::fs::symlink_metadata(above) {
            Ok(meta) => {
                let is_writable = !meta.is_symlink() && meta.mode() & 0o022 != 0;
                meta.uid() == geteuid().as_raw() && !is_writable
            }
            Err(e) => e.kind() == std::io::ErrorKind::NotFound,
        })
}

/// A configuration edit as a step, and what the administrator has otherwise and keeps.
fn edit_step(
    path: PathBuf,
    edit: impl Fn(&Path, &str) -> Result<(String, Vec<String>, Vec<String>)> + 'static,
) -> (Box<dyn Step>, Vec<String>) {
    let name = path.display().to_string();
    let kept = std::fs::read_to_string(&path)
        .ok()
        .and_then(|text| edit(&path, &text).ok())
        .map(|(_, _, kept)| kept)
        .unwrap_or_default()
        .into_iter()
        .map(|what| format!("Kept in {name}: {what}."))
        .collect();
    let at = path.clone();
    let step = EditFile::new(path, move |text: &str| {
        let (text, changes, _) = edit(&at, text)?;
        Ok(Edited { text, changes })
    });
    (step, kept)
}

fn next_commands(layout: &Layout, has_unit: bool, restarts: bool, sync: bool) -> Vec<String> {
    let mut commands = Vec::new();
    if restarts {
        let location = (!layout.is_system_wide()).then(|| layout.location());
        let command = restart::command(has_unit, location);
        commands.push(format!(
            "Restart OpenNebula, so that it reads its configuration, as root: {command}"
        ));
    }
    if sync {
        commands.push(
            "Hosts that are there already get the drivers, as oneadmin: onehost sync --force"
                .into(),
        );
    }
    commands.extend([
        "Datastores and hosts are made once, as oneadmin:".to_owned(),
        "  printf 'NAME=onedock\\nTYPE=IMAGE_DS\\nDS_MAD=onedock\\nTM_MAD=onedock\\n' > images && onedatastore create images".to_owned(),
        "  printf 'NAME=onedock-system\\nTYPE=SYSTEM_DS\\nTM_MAD=onedock\\n' > system && onedatastore create system".to_owned(),
        "  onehost create NODE -i onedock -v onedock     (a NODE is made by `onedock setup node` on it)".to_owned(),
    ]);
    commands
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::step::State;

    #[test]
    fn the_front_end_has_a_scripts_folder_that_oneadmin_could_not_make() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("opt")).unwrap();
        let host = Host::at(dir.path());
        let owner = Owner::of(dir.path()).unwrap();
        let folder = Path::new("/opt/one-scripts");
        let step = synchronised_step(&host, folder, &owner).unwrap();
        assert!(matches!(step.check().unwrap(), State::Needed(_)));
        step.apply().unwrap();
        assert!(dir.path().join("opt/one-scripts").is_dir());
        assert!(matches!(step.check().unwrap(), State::Unchanged));
        let stock = Path::new(run_folders::REMOTE_SCRIPTS);
        assert!(synchronised_step(&host, stock, &owner).is_none());
    }

    #[test]
    fn no_folder_is_given_to_oneadmin_where_oneadmin_can_say_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let owner = Owner::of(dir.path()).unwrap();
        let (opt, folder) = (host.path("/opt/one"), Path::new("/opt/one/below/scripts"));
        std::fs::create_dir_all(&opt).unwrap();
        let made = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&opt, mode).unwrap();
            synchronised_step(&host, folder, &owner).is_some()
        };
        assert!(made(0o755));
        // oneadmin makes it without root, as in /var/tmp.
        for mode in [0o775, 0o757, 0o1777] {
            assert!(!made(mode), "{mode:o}");
        }
        assert!(made(0o755));
        if geteuid().is_root() {
            std::os::unix::fs::chown(&opt, Some(9869), None).unwrap();
            assert!(!made(0o755));
        }
    }
}
