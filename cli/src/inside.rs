//! `onedock logs`, `exec` and `attach`: a VM's container for its administrator, on the node that it runs on,
//! or from the front-end by ssh. What the engine's own command line does is left to it.

use std::io::{self, IsTerminal as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};

use onedock::error::{Error, Result};
use onedock_common::engine::labels::{DRIVER, ONEDOCK, VM};
use onedock_common::opennebula::nic::DEFAULT_PREFIX;
use onedock_common::opennebula::vm::Vm;
use onedock_common::{ContainerId, VmId};

/// Shells, the better first.
const SHELLS: [&str; 4] = ["/bin/bash", "/bin/ash", "/bin/sh", "/bin/busybox sh"];

/// `onedock logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    place: Place,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES", default_value_t = 100)]
    tail: u32,
}

/// `onedock exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    place: Place,
    /// The user in the VM
    #[arg(short, long, default_value = "0")]
    user: String,
    /// Program and arguments (without them: a shell that the image has)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// `onedock attach`.
#[derive(Debug, clap::Args)]
pub(crate) struct Attach {
    #[command(flatten)]
    place: Place,
}

/// Which VM, and where.
#[derive(Debug, clap::Args)]
struct Place {
    /// The VM's number in OpenNebula
    #[arg(value_name = "VM", value_parser = vm_id)]
    vm: VmId,
    /// The node that it runs on (without it: this machine, else the one that OpenNebula names)
    #[arg(long, value_name = "NODE")]
    host: Option<String>,
}

fn vm_id(text: &str) -> std::result::Result<VmId, String> {
    text.parse().map_err(|e| format!("{e}"))
}

/// Shows what the VM's first process wrote.
pub(crate) fn logs(options: &Logs) -> Result<()> {
    let found = Found::of(&options.place)?;
    let tail = options.tail.to_string();
    let mut words = vec!["logs", "--tail", &tail];
    if options.follow {
        words.push("--follow");
    }
    words.push(found.container.as_str());
    found.become_engine(&words)
}

/// Runs a program in the VM, or a shell.
pub(crate) fn exec(options: &Exec) -> Result<()> {
    let found = Found::of(&options.place)?;
    let shell;
    let command: Vec<&str> = if options.command.is_empty() {
        shell = found.shell()?;
        shell.split(' ').collect()
    } else {
        options.command.iter().map(String::as_str).collect()
    };
    let mut words = vec!["exec", "--interactive", "--user", &options.user];
    if io::stdin().is_terminal() {
        words.push("--tty");
    }
    words.push(found.container.as_str());
    words.extend(command);
    found.become_engine(&words)
}

/// The terminal of the VM's first process; `Ctrl-P Ctrl-Q` leaves it.
pub(crate) fn attach(options: &Attach) -> Result<()> {
    let found = Found::of(&options.place)?;
    // Signals of this terminal are not the VM's: Ctrl-C would end it.
    found.become_engine(&["attach", "--sig-proxy=false", found.container.as_str()])
}

/// A VM's container.
struct Found {
    container: ContainerId,
    /// The node, where it is not this machine.
    host: Option<String>,
}

impl Found {
    fn of(place: &Place) -> Result<Self> {
        if let Some(host) = &place.host {
            return Self::on(place.vm, Some(host.clone()))?.ok_or_else(|| missing(place.vm, host));
        }
        if let Ok(Some(found)) = Self::on(place.vm, None) {
            return Ok(found);
        }
        let host = host_of(place.vm)?;
        Self::on(place.vm, Some(host.clone()))?.ok_or_else(|| missing(place.vm, &host))
    }

    fn on(vm: VmId, host: Option<String>) -> Result<Option<Self>> {
        let (driver, number) = (
            format!("label={DRIVER}={ONEDOCK}"),
            format!("label={VM}={vm}"),
        );
        let words = [
            "ps",
            "--all",
            "--quiet",
            "--no-trunc",
            "--filter",
            &driver,
            "--filter",
            &number,
        ];
        let output = answered(engine(host.as_deref(), &words, false))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let id = text.lines().next().unwrap_or_default();
        Ok(id.parse().ok().map(|container| Self { container, host }))
    }

    /// A shell that the image has.
    fn shell(&self) -> Result<&'static str> {
        for shell in SHELLS {
            let mut words = vec!["exec", self.container.as_str()];
            words.extend(shell.split(' '));
            words.extend(["-c", "exit 0"]);
            let mut command = engine(self.host.as_deref(), &words, false);
            let status = command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if status.map_err(not_run)?.success() {
                return Ok(shell);
            }
        }
        Err(Error::refused(
            "the VM does not run, or its image has no shell; name a program of the image",
        ))
    }

    /// Ends as the engine's command line.
    fn become_engine(&self, words: &[&str]) -> Result<()> {
        let terminal = io::stdin().is_terminal();
        let error = engine(self.host.as_deref(), words, terminal).exec();
        Err(not_run(error))
    }
}

/// The engine's command line, here or on a node. What goes through ssh is quoted for the shell there.
fn engine(host: Option<&str>, words: &[&str], terminal: bool) -> Command {
    match host {
        None => {
            let mut command = Command::new("docker");
            command.args(words);
            command
        }
        Some(host) => {
            let mut command = Command::new("ssh");
            if terminal {
                command.arg("-t");
            }
            let line = shell_words::join([&["docker"], words].concat());
            command.args(["-o", "BatchMode=yes", "--", host, &line]);
            command
        }
    }
}

fn answered(mut command: Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output().map_err(not_run)?;
    if output.status.success() {
        return Ok(output);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(Error::refused(format!(
        "the Docker engine cannot be asked: {}",
        text.lines().next().unwrap_or("no answer")
    )))
}

/// The node that OpenNebula says the VM is on.
fn host_of(vm: VmId) -> Result<String> {
    let mut command = Command::new("onevm");
    command.args(["show", "--xml", &vm.to_string()]);
    let output = command.stdin(Stdio::null()).output();
    let output = output.ok().filter(|output| output.status.success());
    let described =
        output.and_then(|output| Vm::from_deployment(&output.stdout, DEFAULT_PREFIX).ok());
    let host = described
        .and_then(|vm| vm.placement)
        .map(|placement| placement.host);
    host.ok_or_else(|| {
        Error::refused(format!(
            "VM {vm} is not on this machine, and no OpenNebula here says where it is; name its node with --host"
        ))
    })
}

fn not_run(error: io::Error) -> Error {
    Error::refused(format!("the engine's command line cannot be run: {error}"))
}

fn missing(vm: VmId, host: &str) -> Error {
    Error::refused(format!("VM {vm} has no container on {host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &Command) -> Vec<String> {
        let all = std::iter::once(command.get_program()).chain(command.get_args());
        all.map(|word| word.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn what_goes_to_a_node_is_quoted_for_its_shell() {
        let asked = ["exec", "ab", "sh", "-c", "echo $(id); rm -rf /"];
        assert_eq!(words(&engine(None, &asked, true))[1..], asked);
        let remote = words(&engine(Some("node1"), &asked, true));
        assert_eq!(
            remote[..6],
            ["ssh", "-t", "-o", "BatchMode=yes", "--", "node1"]
        );
        assert_eq!(remote[6], "docker exec ab sh -c 'echo $(id); rm -rf /'");
        assert_eq!(
            words(&engine(Some("-oProxyCommand=x"), &["ps"], false))[3],
            "--"
        );
    }
}
