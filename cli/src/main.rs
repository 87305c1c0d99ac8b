//! `onedock`: the administrator's program.

mod inside;
mod policy;
mod run;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use nix::unistd::Uid;
use onedock::error::{Error, Result};
use onedock::host::Host;
use onedock::setup::{ONEADMIN, Plan, frontend, node, registry};
use onedock::step::{self, Mode, say};
use onedock_common::types::reference::RegistryName;

/// Docker containers as VMs of OpenNebula: setting it up
#[derive(Debug, Parser)]
#[command(name = "onedock", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make this machine part of a cloud; can be called again at any time
    #[command(subcommand)]
    Setup(Setup),
    /// What users may ask of Docker
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Show what a VM's first process wrote
    Logs(inside::Logs),
    /// Run a program in a VM, or a shell
    Exec(inside::Exec),
    /// Be at the terminal of a VM's first process; Ctrl-P Ctrl-Q leaves it
    Attach(inside::Attach),
    /// Play a VM template on this machine, as OpenNebula would, without an OpenNebula
    Run(run::Options),
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Say what a VM of a template would be told, before it is made
    Check(policy::Options),
}

#[derive(Debug, Subcommand)]
enum Setup {
    /// Install the drivers into the OpenNebula of this machine and name them in its configuration
    Frontend(Frontend),
    /// Make this machine a node: engine, runtime, oneadmin, the registry's certificate and account
    Node(Node),
    /// Run the private registry of the cloud here, with TLS and accounts
    Registry(Registry),
}

#[derive(Debug, Args)]
struct Common {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// The root folder of the machine, when it is prepared elsewhere
    #[arg(long, hide = true, default_value = "/")]
    root: PathBuf,
}

#[derive(Debug, Args)]
struct Frontend {
    /// The folder of a self-contained OpenNebula (without it: /etc/one and /var/lib/one)
    #[arg(long, value_name = "DIR", env = "ONE_LOCATION")]
    one_location: Option<PathBuf>,
    /// The private registry, when `setup registry` did not run on this machine
    #[arg(long, value_name = "HOST:PORT")]
    registry: Option<RegistryName>,
    /// Where the drivers' binaries are (without it: where this program is)
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Node {
    /// The file join.json of `setup registry` (without it: /etc/onedock/join.json, if there)
    #[arg(long, value_name = "FILE")]
    join: Option<PathBuf>,
    /// The engine's socket
    #[arg(long, value_name = "FILE", default_value = "/var/run/docker.sock")]
    docker_socket: PathBuf,
    /// Where ONEDock's programs are (without it: where this program is)
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Do not start an engine that does not run
    #[arg(long)]
    no_start: bool,
    /// Show disks as devices although the kernel's loop driver has no bound (docs/disks.md)
    #[arg(long)]
    allow_unbounded_loops: bool,
    /// Hold VMs on this bridge to their own addresses, * for all; can be repeated (docs/networking.md)
    #[arg(long, value_name = "BRIDGE")]
    guard_bridge: Vec<node::GuardedBridge>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct Registry {
    /// The name by which every host finds this machine (without it: its full name or an address)
    #[arg(long, value_name = "HOST")]
    name: Option<String>,
    /// The port
    #[arg(long, default_value_t = 5000)]
    port: u16,
    /// The address to listen on (without it: all)
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<std::net::IpAddr>,
    /// The front-end's account; the nodes' is the same with -node
    #[arg(long, default_value = "onedock", value_parser = user_name)]
    user: String,
    /// The folder of the images
    #[arg(long, value_name = "DIR", default_value = "/var/lib/onedock-registry")]
    storage: PathBuf,
    /// The folder of a self-contained OpenNebula
    #[arg(long, value_name = "DIR", env = "ONE_LOCATION")]
    one_location: Option<PathBuf>,
    /// Write everything, start nothing
    #[arg(long)]
    no_start: bool,
    /// Give nodes oneadmin's private key, for stock datastores without OpenNebula's ssh agent
    #[arg(long)]
    with_private_key: bool,
    /// The user that OpenNebula runs as
    #[arg(long, hide = true, default_value = ONEADMIN)]
    oneadmin: String,
    #[command(flatten)]
    common: Common,
}

/// An account's name stands before a colon, in a file and in a header.
fn user_name(text: &str) -> std::result::Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if text.is_empty() || text.len() > 64 || !text.chars().all(fits) {
        return Err("letters, digits, dots, dashes and underscores make a user's name".into());
    }
    Ok(text.to_owned())
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let line = format!("onedock: {}", error.line());
            // A standard error that is closed leaves nothing to say it to.
            let _ = say(&mut io::stderr(), &line);
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Run(options) => run::run(&options),
        Command::Logs(options) => inside::logs(&options),
        Command::Exec(options) => inside::exec(&options),
        Command::Attach(options) => inside::attach(&options),
        Command::Policy(PolicyCommand::Check(options)) => policy::run(&options),
        Command::Setup(Setup::Frontend(args)) => {
            let options = frontend::Options {
                one_location: args.one_location,
                registry: args.registry,
                from: folder(args.from)?,
            };
            let host = Host::at(args.common.root);
            carry_out(args.common.dry_run, || frontend::plan(&host, &options))
        }
        Command::Setup(Setup::Node(args)) => {
            let options = node::Options {
                join: args.join,
                socket: args.docker_socket,
                from: folder(args.from)?,
                start: !args.no_start,
                allow_unbounded_loops: args.allow_unbounded_loops,
                guard_bridges: args.guard_bridge,
            };
            carry_out(args.dry_run, || node::plan(&options))
        }
        Command::Setup(Setup::Registry(args)) => {
            let options = registry::Options {
                name: args.name,
                port: args.port,
                listen: args.listen.map(|a| match a {
                    std::net::IpAddr::V4(a) => a.to_string(),
                    std::net::IpAddr::V6(a) => format!("[{a}]"),
                }),
                user: args.user,
                storage: args.storage,
                one_location: args.one_location,
                start: !args.no_start,
                with_private_key: args.with_private_key,
                oneadmin: args.oneadmin,
            };
            let host = Host::at(args.common.root);
            carry_out(args.common.dry_run, || registry::plan(&host, &options))
        }
    }
}

fn carry_out(dry_run: bool, plan: impl Fn() -> Result<Plan>) -> Result<()> {
    let mode = if dry_run { Mode::DryRun } else { Mode::Apply };
    if mode == Mode::Apply && !Uid::effective().is_root() {
        return Err(Error::refused(
            "setting up a machine needs root: call it with sudo",
        ));
    }
    let plan = plan()?;
    let out = &mut io::stdout();
    let summary = step::run(&plan.steps, mode, out)?;
    for note in plan.notes(&summary) {
        say(out, &note)?;
    }
    Ok(())
}

/// The folder that is given, else the one this program lies in.
fn folder(given: Option<PathBuf>) -> Result<PathBuf> {
    let own = || {
        let program = std::env::current_exe()
            .and_then(std::fs::canonicalize)
            .ok()?;
        program.parent().map(PathBuf::from)
    };
    given
        .or_else(own)
        .ok_or_else(|| Error::refused("this program's own folder is not known; give --from DIR"))
}
