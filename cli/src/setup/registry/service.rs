//! The running registry and the proxy before it: systemd units where systemd runs, else processes.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{RegistrySetup, USER, accounts, answer, proxy};
use crate::error::{Error, Result};
use crate::file_step::{Folder, PutFile};
use crate::owner::Owner;
use crate::setup::distribution::{REGISTRY_NAMES, REGISTRY_UNITS};
use crate::step::{State, Step as _, Steps, action};
use onedock_common::process::{Command, Stat, find_local};
use onedock_common::wait;

/// How long both may take from the start to the first answer.
const READY: Duration = Duration::from_secs(20);

/// One of the two processes.
struct Service {
    /// Its unit without the suffix, and its name in `/run` and `/var/log`.
    name: &'static str,
    unit: &'static str,
    /// Its configuration, by which its process is known.
    config: &'static str,
    /// What it reads at its start.
    files: &'static [&'static str],
}

/// The registry itself, and what stands before it, in the order of their start.
const SERVICES: [Service; 2] = [
    Service {
        name: "onedock-registry",
        unit: include_str!("../../../../packaging/onedock-registry.service"),
        config: "config.yml",
        files: &["config.yml", "htpasswd"],
    },
    Service {
        name: "onedock-registry-proxy",
        unit: include_str!("../../../../packaging/onedock-registry-proxy.service"),
        config: proxy::CONFIG,
        files: &[proxy::CONFIG, "tls.crt", "tls.key"],
    },
];

/// The units and the running processes.
pub(super) fn steps(setup: &RegistrySetup) -> Steps {
    let mut steps: Steps = Vec::new();
    if setup.host.has_systemd() {
        let folder = setup.host.path("/etc/systemd/system");
        for service in &SERVICES {
            let path = folder.join(format!("{}.service", service.name));
            let text = || Ok(service.text_of_unit(&service.program()?).into_bytes());
            steps.push(PutFile::from(path, text, 0o644, Owner::root()));
        }
    }
    if setup.options.start {
        let (a, b) = (setup.clone(), setup.clone());
        steps.push(action(
            format!("the registry at {}", setup.registry),
            move || {
                let running = SERVICES.iter().map(|service| service.running(&a));
                let running: Vec<_> = running.collect();
                let mut of_each = SERVICES.iter().zip(&running);
                let what = match running.iter().any(Option::is_none) {
                    true => "start it",
                    false
                        if of_each.any(|(service, pid)| {
                            pid.is_some_and(|pid| service.is_stale(&a, pid))
                        }) =>
                    {
                        "restart it with its new configuration"
                    }
                    false if ask(&a) != Ok(200) => "restart it, because it does not answer",
                    false => return Ok(State::Unchanged),
                };
                Ok(State::Needed(what.into()))
            },
            move || start(&b),
        ));
    }
    steps
}

impl Service {
    /// The program, whatever the distribution calls it.
    fn program(&self) -> Result<PathBuf> {
        let names = match self.config {
            proxy::CONFIG => &["haproxy"],
            _ => REGISTRY_NAMES,
        };
        let found = names.iter().find_map(|name| find_local(name));
        found.ok_or_else(|| {
            let names = names.join(" or ");
            Error::refused(format!("no program {names} is installed"))
        })
    }

    /// The unit with the program in it that is on this machine.
    fn text_of_unit(&self, program: &Path) -> String {
        let program = program.display().to_string();
        self.unit
            .replace("/usr/bin/docker-registry", &program)
            .replace("/usr/sbin/haproxy", &program)
    }

    fn pid_file(&self, setup: &RegistrySetup) -> PathBuf {
        setup.host.path(format!("/run/{}.pid", self.name))
    }

    fn log_file(&self, setup: &RegistrySetup) -> PathBuf {
        setup.host.path(format!("/var/log/{}.log", self.name))
    }

    /// Its process, if it runs.
    fn running(&self, setup: &RegistrySetup) -> Option<i32> {
        let text = if setup.host.has_systemd() {
            let show = ["show", "--property=MainPID", "--value", self.name];
            Command::local("systemctl")
                .args(show)
                .checked()
                .ok()?
                .stdout
        } else {
            fs::read_to_string(self.pid_file(setup)).ok()?
        };
        let pid: i32 = text.trim().parse().ok().filter(|pid| *pid > 1)?;
        // A number outlives its process: it must be one with our configuration.
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let ours = setup.file(self.config).display().to_string();
        line.split(|b| *b == 0)
            .any(|word| word == ours.as_bytes())
            .then_some(pid)
    }

    /// Whether a file that it reads at its start is younger than the process.
    fn is_stale(&self, setup: &RegistrySetup, pid: i32) -> bool {
        let Some(started) = started(pid) else {
            return true;
        };
        self.files.iter().any(|name| {
            fs::metadata(setup.file(name))
                .and_then(|meta| meta.modified())
                .map_or(true, |changed| changed > started + Duration::from_secs(1))
        })
    }

    fn arguments(&self, setup: &RegistrySetup) -> Vec<OsString> {
        let config = setup.file(self.config).into();
        match self.config {
            // In the foreground, without a master.
            proxy::CONFIG => vec!["-db".into(), "-f".into(), config],
            _ => vec!["serve".into(), config],
        }
    }
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
        let [registry, proxy] = SERVICES.map(|service| service.name);
        for words in [
            &["daemon-reload"][..],
            // An earlier version listened on the proxy's port itself.
            &["stop", proxy, registry],
            &["enable", registry, proxy],
            &["restart", registry, proxy],
        ] {
            Command::local("systemctl").args(words).checked()?;
        }
    } else {
        stop(setup)?;
        if port_is_taken(&setup.local_endpoint()) {
            return Err(Error::refused(format!(
                "port {} is taken by another program; choose another with --port",
                setup.options.port
            )));
        }
        socket_folder(setup)?;
        for service in &SERVICES {
            spawn(setup, service)?;
        }
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
    let is_free = || !port_is_taken(&setup.local_endpoint());
    for service in SERVICES.iter().rev() {
        let Some(pid) = service.running(setup) else {
            continue;
        };
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        // A process that ends has no command line any more while its port is still open.
        wait::until(Duration::from_secs(10), || {
            (service.running(setup).is_none() && is_free()).then_some(())
        })
        .ok_or_else(|| {
            let name = service.name;
            Error::refused(format!("{name}, process {pid}, does not end"))
        })?;
    }
    Ok(())
}

fn log_place(setup: &RegistrySetup) -> String {
    let places = SERVICES
        .each_ref()
        .map(|service| match setup.host.has_systemd() {
            true => format!("journalctl -u {}", service.name),
            false => service.log_file(setup).display().to_string(),
        });
    places.join(" and ")
}

/// The folder of the socket between both, which systemd makes by itself.
fn socket_folder(setup: &RegistrySetup) -> Result<()> {
    let socket = setup.host.path(proxy::SOCKET);
    if let Some(folder) = socket.parent() {
        fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
        Folder::new(folder.to_owned(), 0o750, setup.service_owner()).apply()?;
    }
    // Of a registry that was killed.
    onedock_common::state::files::remove(&socket).map_err(Error::file("remove", &socket))
}

/// A session of its own (`setsid`), as the package's user (`setpriv`); both become the registry
/// without a fork, so the number is the registry's.
fn spawn(setup: &RegistrySetup, service: &Service) -> Result<()> {
    let tool = |name: &str| {
        find_local(name)
            .ok_or_else(|| Error::refused(format!("the program {name} is not installed")))
    };
    let (log, pid_file) = (service.log_file(setup), service.pid_file(setup));
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
        .arg(service.program()?)
        .args(service.arguments(setup))
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
    fn the_units_start_the_programs_that_are_on_the_machine() {
        let [registry, proxy] = &SERVICES;
        for (service, program, line) in [
            (
                registry,
                "/usr/bin/registry",
                "/usr/bin/registry serve /etc/onedock/registry/config.yml",
            ),
            (
                proxy,
                "/opt/haproxy",
                "/opt/haproxy -db -f /etc/onedock/registry/haproxy.cfg",
            ),
        ] {
            let text = service.text_of_unit(Path::new(program));
            let line = format!("ExecStart={line}");
            assert!(text.lines().any(|l| l == line), "{text}");
        }
    }
}
