//! Start and stop, as `run_monitord_client` and `stop_monitord_client` ask for them, and what
//! the detached process does first.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::unistd::{close, dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use onedock_common::HostId;
use onedock_common::paths::Paths;
use thiserror::Error;

use crate::agent::{self, Agent, AgentError, Place};
use crate::config::{Config, ConfigError};
use crate::engine::Engine;
use crate::instance::{Claim, Instance, InstanceError};
use crate::monitord::unix_time;
use crate::probe::Proc;

/// How long the first round of probes may take; `one_im_ssh -w` gives the whole start 90 s.
const DEADLINE: Duration = Duration::from_secs(40);
/// The largest configuration: `monitord` sends 2 KB.
const LIMIT: u64 = 1024 * 1024;
/// Where OpenNebula 7.x keeps what its client leaves on a host.
const DIR: &str = "/var/tmp/one_db";

/// Why monitoring did not start or stop.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The earlier agent or the files.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The first round.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// Argument and document name different hosts.
    #[error("called for host {argument}, but HOST_ID in MONITOR_CONFIGURATION is {document}")]
    Host {
        /// The argument.
        argument: HostId,
        /// HOST_ID.
        document: HostId,
    },
    /// The process could not be started or spoken to.
    #[error("the monitor agent cannot be started ({0})")]
    Spawn(io::Error),
    /// It said nothing in time.
    #[error("the monitor agent did not finish its first probes within {} s", DEADLINE.as_secs())]
    Slow,
    /// It ended without a word.
    #[error("the monitor agent ended without a word; see {0}")]
    Died(PathBuf),
    /// What it said itself.
    #[error("{0}")]
    Said(String),
}

/// Where files go; `ONEDOCK_ONE_DB` moves them, for a second node on one machine.
fn dir() -> PathBuf {
    std::env::var_os("ONEDOCK_ONE_DB").map_or_else(|| DIR.into(), PathBuf::from)
}

/// The state folder of the drivers; `ONEDOCK_STATE` moves it, for tests of the agent alone.
pub fn paths() -> Paths {
    std::env::var_os("ONEDOCK_STATE").map_or_else(Paths::system, |d| Paths::at(PathBuf::from(d)))
}

/// The synchronised tree: this program lies in its `onedock/<arch>/`, and the control script
/// runs in its `im/onedock.d/`.
pub fn remotes() -> PathBuf {
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(|p| p.ancestors().nth(3));
    let script = std::env::current_dir().ok();
    let script = script.as_deref().and_then(|p| p.ancestors().nth(2));
    [program, script]
        .into_iter()
        .flatten()
        .find(|dir| dir.join("VERSION").exists())
        .unwrap_or(Path::new("/var/tmp/one"))
        .to_owned()
}

/// DATASTORE_LOCATION of the configuration that the agent was last started with.
pub fn datastores() -> PathBuf {
    let kept = fs::read(dir().join("config")).unwrap_or_default();
    match Config::read(&kept, Some("127.0.0.1")) {
        Ok(config) => config.datastores,
        Err(_) => crate::config::DATASTORES.into(),
    }
}

fn read_config(input: &mut impl Read) -> Result<(Vec<u8>, Config), StartError> {
    let mut xml = Vec::new();
    input
        .take(LIMIT)
        .read_to_end(&mut xml)
        .map_err(StartError::Spawn)?;
    let client = std::env::var("SSH_CLIENT").ok();
    let config = Config::read(&xml, client.as_deref())?;
    Ok((xml, config))
}

/// Ends the agent of `host`; one that is not there is ended.
pub fn stop(host: HostId) -> Result<(), StartError> {
    Ok(Instance::new(dir(), host)?.end_earlier()?)
}

/// Replaces the agent of `host` by a new one and returns its first messages. `name` is passed
/// on so that `ps` shows it.
pub fn start(
    mad: &str,
    host: HostId,
    name: &str,
    input: &mut impl Read,
) -> Result<String, StartError> {
    let (xml, config) = read_config(input)?;
    if config.host != host {
        return Err(StartError::Host {
            argument: host,
            document: config.host,
        });
    }
    let instance = Instance::new(dir(), host)?;
    instance.end_earlier()?;
    let program = std::env::current_exe().map_err(StartError::Spawn)?;
    let mut child = Command::new(program)
        .args(["agent", mad, &host.to_string(), name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(StartError::Spawn)?;
    let said = converse(&mut child, &xml, &instance);
    if said.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    said
}

/// The child answers `+` and its first messages, or `-` and why not, and closes its output.
fn converse(child: &mut Child, xml: &[u8], instance: &Instance) -> Result<String, StartError> {
    let died = || StartError::Died(instance.log());
    if let Some(mut stdin) = child.stdin.take() {
        // A broken pipe means that it has ended; its answer says why.
        let _ = stdin.write_all(xml);
    }
    let mut stdout = child.stdout.take().ok_or_else(died)?;
    let (give, take) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text);
        let _ = give.send(read.map(|_| text));
    });
    let text = take
        .recv_timeout(DEADLINE)
        .map_err(|_| StartError::Slow)?
        .map_err(StartError::Spawn)?;
    match text.split_at_checked(1) {
        Some(("+", document)) => Ok(document.to_owned()),
        Some(("-", error)) => Err(StartError::Said(error.to_owned())),
        _ => Err(died()),
    }
}

/// The detached process: leaves the session of the ssh that started it, answers on its standard
/// output, lets go of everything that it inherited and monitors until it is ended.
pub fn agent(host: HostId) -> Result<(), StartError> {
    // A session of its own gets no SIGHUP when the ssh ends. Fails only for a leader of a group,
    // which a person's shell makes of this process; then the terminal's end may end it.
    let _ = setsid();
    close_inherited();
    let prepared = prepare(host);
    let mut stdout = io::stdout();
    let answer = match &prepared {
        Ok((_, first, _)) => format!("+{first}"),
        Err(error) => format!("-{error}"),
    };
    let answered = stdout
        .write_all(answer.as_bytes())
        .and_then(|()| stdout.flush());
    let (agent, _, claim) = prepared?;
    answered
        .and_then(|()| let_go())
        .map_err(StartError::Spawn)?;
    tracing::info!(host = host.get(), "monitoring");
    agent.run();
    drop(claim);
    Ok(())
}

fn prepare(host: HostId) -> Result<(Agent, String, Claim), StartError> {
    let (xml, config) = read_config(&mut io::stdin())?;
    let instance = Instance::new(dir(), host)?;
    let claim = instance.claim()?;
    // Monitoring without a log is better than none.
    let _ = crate::log::to_file(&instance.log());
    instance.keep_config(&xml, &config.to_monitord())?;
    agent::hold_refresh_signal().map_err(|e| StartError::Spawn(e.into()))?;
    let place = Place {
        engine: Engine::local(),
        paths: paths(),
        proc: Proc::system(),
        remotes: remotes(),
    };
    let mut agent = Agent::new(config, place);
    let first = agent.first()?.document(unix_time());
    Ok((agent, first, claim))
}

/// Whatever the shells and the ssh before left open, which would keep them waiting.
fn close_inherited() {
    let open: Vec<RawFd> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in open {
        // The one that listed them is closed by now.
        let _ = close(fd);
    }
}

fn let_go() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    std::env::set_current_dir("/")
}
