//! `onedock run`: plays a VM template on this machine through the drivers, with the calls that
//! `oned` makes and in its order, to try a node without an OpenNebula.

mod document;
mod drivers;
mod play;
mod state;
mod table;
mod template;

use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};
use onedock::error::{Error, Result};
use onedock::host::Host;
use onedock::owner::Owner;
use onedock::setup::ONEADMIN;
use onedock::setup::frontend::tree;
use onedock::setup::join::{self, Join};
use onedock::step;
use onedock_common::VmId;
use onedock_common::types::reference::RegistryName;

use drivers::Drivers;
use play::Player;
use state::Store;
use template::Template;

/// The drivers of an OpenNebula's front-end.
const REMOTES: &str = "/var/lib/one/remotes";
/// The drivers where there is none.
const OWN_REMOTES: &str = "/var/lib/onedock/remotes";

/// What the administrator says.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The VM template
    #[arg(required_unless_present_any = ["list", "stop"], conflicts_with_all = ["list", "stop"])]
    template: Option<PathBuf>,
    /// Show the VMs that were played here
    #[arg(long, conflicts_with = "stop")]
    list: bool,
    /// End a VM and take away all that was made for it
    #[arg(long, value_name = "ID", value_parser = vm_id)]
    stop: Option<VmId>,
    /// With --stop: remove its images from the registry, too
    #[arg(long, requires = "stop")]
    remove_image: bool,
    /// The drivers (without it: those of the OpenNebula here, else a set of their own)
    #[arg(long, value_name = "DIR")]
    remotes: Option<PathBuf>,
    /// Where the drivers' binaries are, for a set of their own (without it: where this program is)
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// The private registry (without it: that of `setup registry` or of the node's join file)
    #[arg(long, value_name = "HOST:PORT")]
    registry: Option<RegistryName>,
    /// The folder of the VMs that were played
    #[arg(long, value_name = "DIR", default_value = "/var/lib/onedock/run")]
    state: PathBuf,
    /// The user that the drivers run as, when root calls
    #[arg(long, hide = true, default_value = ONEADMIN)]
    oneadmin: String,
}

fn vm_id(text: &str) -> std::result::Result<VmId, String> {
    text.parse().map_err(|e| format!("{e}"))
}

/// Plays, shows or ends.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list && !Store::exists(&options.state) {
        return show(&[], options);
    }
    if options.list {
        return show(
            &Store::open(&options.state, &options.oneadmin)?.vms()?,
            options,
        );
    }
    if let Some(id) = options.stop {
        return stop(options, id);
    }
    let Some(path) = &options.template else {
        return Err(Error::refused("name a VM template"));
    };
    let template = Template::read(path)?;
    let store = Store::open(&options.state, &options.oneadmin)?;
    let drivers = Drivers::at(&remotes(options)?, &options.oneadmin);
    say(&format!(
        "playing {} with the drivers in {}",
        path.display(),
        drivers.remotes().display()
    ))?;
    let player = Player { store, drivers };
    let vm = player.start(&template)?;
    show(std::slice::from_ref(&vm), options)
}

fn stop(options: &Options, id: VmId) -> Result<()> {
    let store = Store::open(&options.state, &options.oneadmin)?;
    let vm = store.vm(id)?;
    let drivers = Drivers::at(
        options.remotes.as_ref().unwrap_or(&vm.remotes),
        &options.oneadmin,
    );
    let player = Player { store, drivers };
    let images = player.stop(id)?;
    if options.remove_image {
        for image in images {
            player.remove_image(image)?;
        }
    }
    say(&format!("VM {id} ({}) is gone", vm.name))
}

fn show(vms: &[state::Vm], options: &Options) -> Result<()> {
    table::lines(vms, &options.oneadmin)
        .iter()
        .try_for_each(|line| say(line))
}

/// The drivers that are named; else those of the OpenNebula that is installed here with them;
/// else a set that this program lays out and keeps up to date.
fn remotes(options: &Options) -> Result<PathBuf> {
    if let Some(named) = &options.remotes {
        return Ok(named.clone());
    }
    let installed = Path::new(REMOTES);
    if installed.join("tm/onedock/clone").is_file() {
        return Ok(installed.to_owned());
    }
    let own = PathBuf::from(OWN_REMOTES);
    if !Uid::effective().is_root() {
        return Err(Error::refused(format!(
            "only root can lay out the drivers in {OWN_REMOTES}; call this with sudo or name them with --remotes"
        )));
    }
    let registry = options.registry.clone().or_else(|| {
        let join = Join::read(&Host::this().path(join::PATH)).ok()?;
        Some(join.registry)
    });
    let from = crate::folder(options.from.clone())?;
    let steps = tree::steps(
        &own,
        &from,
        registry,
        &Owner::Ids(Uid::from_raw(0), Gid::from_raw(0)),
    )?;
    // A line for each of a hundred shims would hide what matters.
    step::run(&steps, step::Mode::Apply, &mut io::sink())?;
    Ok(own)
}

/// One line to the administrator.
fn say(line: &str) -> Result<()> {
    step::say(&mut io::stdout(), line)
}
