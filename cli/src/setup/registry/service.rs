//! The running registry: a systemd unit where systemd runs, else a process of its own.

use std::fs::{self, File, OpenOptions};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{RegistrySetup, USER, accounts, answer};
use crate::error::{Error, Result};
use crate::file_step::PutFile;
use crate::owner::Owner;
use crate::setup::distribution::{REGISTRY_NAMES, REGISTRY_UNITS};
use crate::step::{State, Steps, action};
use onedock_common::process::{Command, Stat, find_local};
use onedock_common::wait;

const UNIT: &str = include_str!("../../../../packaging/onedock-registry.service");
const UNIT_NAME: &str = "onedock-registry.service";

/// How long the registry may take from its start to its first answer.
const READY: Duration = Duration::from_secs(20);

/// The unit and the running process.
pub(super) fn steps(setup: &RegistrySetup) -> Steps {
    let mut steps: Steps = Vec::new();
    if setup.host.has_systemd() {
        let path = setup.host.path("/etc/systemd/system").join(UNIT_NAME);
        let text = || Ok(unit(&program()?).into_bytes());
        steps.push(PutFile::from(path, text, 0o644, Owner::root()));
    }
    if setup.options.start {
        let (a, b) = (setup.clone(), setup.clone());
        steps.push(action(
            format!("the registry at {}", setup.registry),
            move || {
                let what = match running(&a) {
                    None => "start it",
                    Some(pid) if is_stale(&a, pid) => "restart it with its new configuration",
                    Some(_) if ask(&a) != Ok(200) => "restart it, because it does not answer",
                    Some(_) => return Ok(State::Unchanged),
                };
                Ok(State::Needed(what.into()))
            },
            move || start(&b),
        ));
    }
    steps
}

/// The registry's program, whatever the distribution calls it.
fn program() -> Result<PathBuf> {
    let found = REGISTRY_NAMES.iter().find_map(|name| find_local(name));
    found.ok_or_else(|| {
        Error::refused(format!(
            "no registry is installed (the program is called {})",
            REGISTRY_NAMES.join(" or ")
        ))
    })
}

/// The unit with the program in it that is on this machine.
fn unit(program: &Path) -> String {
    UNIT.replace("/usr/bin/docker-registry", &program.display().to_string())
}

fn ask(setup: &RegistrySetup) -> std::result::Result<u16, String> {
    let (user, password) = accounts::front_end(setup).map_err(|e| e.line())?;
    let ca = setup.file("ca.crt");
    answer::status(
        &setup.local_endpoint(),
        &setup.registry,
        &ca,
        &user,
        &password,
    )
}

fn pid_file(setup: &RegistrySetup) -> PathBuf {
    setup.host.path("/run/onedock-registry.pid")
}

/// The registry's process, if it runs.
fn running(setup: &RegistrySetup) -> Option<i32> {
    let text = if setup.host.has_systemd() {
        let show = ["show", "--property=MainPID", "--value", UNIT_NAME];
        Command::local("systemctl")
            .args(show)
            .checked()
            .ok()?
            .stdout
    } else {
        fs::read_to_string(pid_file(setup)).ok()?
    };
    let pid: i32 = text.trim().parse().ok().filter(|pid| *pid > 1)?;
    // A number outlives its process: it must be a registry with our configuration.
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let ours = setup.file("config.yml").display().to_string();
    line.split(|b| *b == 0)
        .any(|word| word == ours.as_bytes())
        .then_some(pid)
}

/// Whether a file that the registry reads at its start is younger than the process.
fn is_stale(setup: &RegistrySetup, pid: i32) -> bool {
    let Some(started) = started(pid) else {
        return true;
    };
    ["config.yml", "tls.crt", "tls.key", "htpasswd"]
        .iter()
        .any(|name| {
            fs::metadata(setup.file(name))
                .and_then(|meta| meta.modified())
                .map_or(true, |changed| changed > started + Duration::from_secs(1))
        })
}

/// When a process began.
fn started(pid: i32) -> Option<SystemTime> {
    let began = Stat::of(pid).ok()?.since_boot();
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let uptime = Duration::try_from_secs_f64(uptime).ok()?;
    SystemTime::now().checked_sub(uptime.saturating_sub(began))
}

/// Whether another program listens there. An endpoint is an address and never a name.
fn port_is_taken(endpoint: &str) -> bool {
    let address: Option<SocketAddr> = endpoint.parse().ok();
    address.is_some_and(|to| TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok())
}

fn start(setup: &RegistrySetup) -> Result<()> {
    if setup.host.has_systemd() {
        // The package's own unit may have started with it, and takes the same port.
        for unit in REGISTRY_UNITS {
            let _ = Command::local("systemctl")
                .args(["disable", "--now", unit])
                .run();
        }
        Command::local("systemctl")
            .args(["daemon-reload"])
            .checked()?;
        Command::local("systemctl")
            .args(["enable", UNIT_NAME])
            .checked()?;
        Command::local("systemctl")
            .args(["restart", UNIT_NAME])
            .checked()?;
    } else {
        stop(setup)?;
        if port_is_taken(&setup.local_endpoint()) {
            return Err(Error::refused(format!(
                "port {} is taken by another program; choose another with --port",
                setup.options.port
            )));
        }
        spawn(setup)?;
    }
    let mut last = String::new();
    wait::until(READY, || match ask(setup) {
        Ok(200) => Some(()),
        Ok(code) => {
            last = format!("it answers with status {code}");
            None
        }
        Err(why) => {
            last = why;
            None
        }
    })
    .ok_or_else(|| {
        Error::refused(format!(
            "the registry was started and does not answer: {last}; its log is {}",
            log_place(setup)
        ))
    })
}

fn stop(setup: &RegistrySetup) -> Result<()> {
    let Some(pid) = running(setup) else {
        return Ok(());
    };
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    // A process that ends has no command line any more while its port is still open.
    let is_free = || !port_is_taken(&setup.local_endpoint());
    wait::until(Duration::from_secs(10), || {
        (running(setup).is_none() && is_free()).then_some(())
    })
    .ok_or_else(|| Error::refused(format!("the registry, process {pid}, does not end")))
}

fn log_file(setup: &RegistrySetup) -> PathBuf {
    setup.host.path("/var/log/onedock-registry.log")
}

fn log_place(setup: &RegistrySetup) -> String {
    if setup.host.has_systemd() {
        format!("journalctl -u {UNIT_NAME}")
    } else {
        log_file(setup).display().to_string()
    }
}

/// A session of its own (`setsid`), as the package's user (`setpriv`); both become the registry
/// without a fork, so the number is the registry's.
fn spawn(setup: &RegistrySetup) -> Result<()> {
    let tool = |name: &str| {
        find_local(name)
            .ok_or_else(|| Error::refused(format!("the program {name} is not installed")))
    };
    let (log, pid_file) = (log_file(setup), pid_file(setup));
    for path in [&log, &pid_file] {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
        }
    }
    let out = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .map_err(Error::file("open", &log))?;
    let err: File = out.try_clone().map_err(Error::file("open", &log))?;
    let child = Process::new(tool("setsid")?)
        .arg(tool("setpriv")?)
        .args(["--reuid", USER, "--regid", USER, "--init-groups", "--"])
        .arg(program()?)
        .arg("serve")
        .arg(setup.file("config.yml"))
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(Error::file(
            "start",
            Path::new("setsid, setpriv and the registry"),
        ))?;
    onedock_common::state::files::replace(&pid_file, format!("{}\n", child.id()).as_bytes(), 0o644)
        .map_err(Error::file("write", &pid_file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_the_program_that_is_on_the_machine() {
        let text = unit(Path::new("/usr/bin/registry"));
        let line = "ExecStart=/usr/bin/registry serve /etc/onedock/registry/config.yml";
        assert!(text.lines().any(|l| l == line), "{text}");
        assert!(!text.contains("docker-registry serve"));
    }
}
