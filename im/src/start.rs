//! Start and stop, as `run_monitord_client` and `stop_monitord_client` ask for them, and what
//! the detached process does first.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::unistd::{
    AccessFlags, access, close, dup2_stderr, dup2_stdin, dup2_stdout, geteuid, setsid,
};
use onedock_common::HostId;
use onedock_common::state::paths::Paths;
use thiserror::Error;

use crate::agent::{Agent, AgentError, NodeContext};
use crate::config::{Config, ConfigError};
use crate::engine::Engine;
use crate::instance::{Claim, Instance, InstanceError, Token};
use crate::monitord::unix_time;
use crate::probe::Proc;
use crate::standby::{self, Failures};
use crate::wake;

/// How long the first round of probes may take; `one_im_ssh -w` gives the whole start 90 s.
const DEADLINE: Duration = Duration::from_secs(40);
/// The largest configuration: `monitord` sends 2 KB.
const LIMIT: u64 = 1024 * 1024;
/// Where OpenNebula 7.x keeps what its client leaves on a host, whatever SCRIPTS_REMOTE_DIR is.
const DIR: &str = "/var/tmp/one_db";

/// SCRIPTS_REMOTE_DIR of a stock oned.conf.
const REMOTES: &str = "/var/tmp/one";

/// Why monitoring did not start or stop.
#[derive(Debug, Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Instance(#[from] InstanceError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// Argument and document name different hosts.
    #[error("called for host {argument}, but HOST_ID in MONITOR_CONFIGURATION is {document}")]
    Host { argument: HostId, document: HostId },
    /// The process could not be started or spoken to.
    #[error("the monitor agent cannot be started ({0})")]
    Spawn(io::Error),
    /// It gave no answer in time.
    #[error("the monitor agent did not finish its first probes within {} s", DEADLINE.as_secs())]
    Slow,
    /// It ended without a word.
    #[error("the monitor agent ended without a word; see {0}")]
    Died(PathBuf),
    /// Its own error.
    #[error("{0}")]
    Failed(String),
}

/// Where files go; `ONEDOCK_ONE_DB` moves them, for a second node on one machine.
fn dir() -> PathBuf {
    std::env::var_os("ONEDOCK_ONE_DB").map_or_else(
        || beside(&remotes(), Path::new(DIR), paths().state()),
        PathBuf::from,
    )
}

/// `<SCRIPTS_REMOTE_DIR>_db`, so that two OpenNebulas with folders of their own on one host do not
/// end one another's agents. Where it is not there and cannot be made, it is OpenNebula's own. Both may
/// lie in a folder of everybody's: one that another user has laid there is passed by for one of the
/// drivers' state, so that it does not stop the monitor (attack 45).
fn beside(remotes: &Path, stock: &Path, state: &Path) -> PathBuf {
    let mut name = remotes.as_os_str().to_owned();
    name.push("_db");
    let folders = [PathBuf::from(name), stock.to_owned()];
    let usable = |folder: &&PathBuf| match fs::symlink_metadata(folder) {
        Ok(meta) => meta.is_dir() && meta.uid() == geteuid().as_raw(),
        Err(_) => folder
            .parent()
            .is_some_and(|parent| access(parent, AccessFlags::W_OK).is_ok()),
    };
    let found = folders.iter().find(usable).cloned();
    found.unwrap_or_else(|| state.join("monitor"))
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
        .unwrap_or(Path::new(REMOTES))
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
    let token = instance.keep_request(&String::from_utf8_lossy(&xml))?;
    let program = std::env::current_exe().map_err(StartError::Spawn)?;
    let mut child = Command::new(program)
        .args(["agent", mad, &host.to_string(), token.as_str(), name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(StartError::Spawn)?;
    let said = converse(&mut child, &xml, &instance);
    if said.is_err() {
        let _ = instance.withdraw_request();
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
        Some(("-", error)) => Err(StartError::Failed(error.to_owned())),
        _ => Err(died()),
    }
}

/// The detached process: leaves the session of the ssh that started it, answers on its standard
/// output, lets go of everything that it inherited and monitors until it is ended.
pub fn agent(host: HostId, token: Token) -> Result<(), StartError> {
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
    let (agent, _, claimed) = prepared?;
    answered
        .and_then(|()| let_go())
        .map_err(StartError::Spawn)?;
    tracing::info!(host = host.get(), "monitoring");
    standby::keep(claimed.instance.clone(), token, Failures::NONE);
    agent.run();
    drop(claimed);
    Ok(())
}

/// Sleeps until the agent is gone, and becomes the agent then.
pub fn standby(host: HostId, token: &Token, failures: Failures) -> Result<(), StartError> {
    let instance = Instance::new(dir(), host)?;
    standby::wait(&instance, token, failures).map_err(StartError::Spawn)
}

/// The agent in place of one that is gone, with the same configuration.
pub fn resume(host: HostId, token: Token, failures: Failures) -> Result<(), StartError> {
    standby::name_agent();
    let instance = Instance::new(dir(), host)?;
    let Some(request) = instance.request(&token) else {
        return Ok(());
    };
    let claimed = claim(instance.clone())?;
    let_go().map_err(StartError::Spawn)?;
    tracing::warn!(host = host.get(), "the agent was gone; monitoring again");
    standby::keep(instance, token, failures);
    let (_, config) = read_config(&mut request.configuration.as_bytes())?;
    let mut agent = make(config);
    if let Err(error) = agent.first() {
        tracing::error!(%error, "monitoring ends");
        return Err(error.into());
    }
    agent.resume();
    drop(claimed);
    Ok(())
}

/// What makes this process the one agent of its host.
struct Claimed {
    instance: Instance,
    _claim: Claim,
}

fn prepare(host: HostId) -> Result<(Agent, String, Claimed), StartError> {
    let (xml, config) = read_config(&mut io::stdin())?;
    let claimed = claim(Instance::new(dir(), host)?)?;
    claimed.instance.keep_config(&xml, &config.to_monitord())?;
    let mut agent = make(config);
    let first = agent.first()?.document(unix_time());
    Ok((agent, first, claimed))
}

fn claim(instance: Instance) -> Result<Claimed, StartError> {
    let claim = instance.claim()?;
    // Monitoring without a log is better than none.
    let _ = crate::log::to_file(&instance.log());
    wake::hold_refresh_signal().map_err(|e| StartError::Spawn(e.into()))?;
    Ok(Claimed {
        instance,
        _claim: claim,
    })
}

fn make(config: Config) -> Agent {
    let node = NodeContext {
        engine: Engine::local(),
        paths: paths(),
        proc: Proc::system(),
        remotes: remotes(),
    };
    Agent::new(config, node)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn files_lie_beside_the_folder_of_the_programs_where_that_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let remotes = dir.path().join("one");
        let (stock, state) = (dir.path().join("stock"), dir.path().join("state"));
        let found = |remotes: &Path| beside(remotes, &stock, &state);
        assert_eq!(found(&remotes), dir.path().join("one_db"));
        // Nobody makes a folder in /proc, not even root.
        assert_eq!(found(Path::new("/proc/none/one")), stock);
    }

    #[test]
    fn attack_45_a_folder_that_another_user_has_laid_does_not_stop_the_monitor() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let found = || beside(&at("one"), &at("stock"), &at("state"));
        fs::create_dir(at("one_db")).unwrap();
        assert_eq!(found(), at("one_db"));
        chown(at("one_db"), Some(4711), None).unwrap();
        assert_eq!(found(), at("stock"));
        symlink(dir.path(), at("stock")).unwrap();
        assert_eq!(found(), at("state/monitor"));
    }
}
