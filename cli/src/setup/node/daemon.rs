//! The engine's process and its settings: `daemon.json` is edited beside what is there, and
//! applied by a reload. A restart would be felt by every container until live-restore is on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::engine::{Engine, Info};
use super::programs::RUNTIME;
use crate::edit::daemon_json::{self, Wanted};
use crate::error::{Error, Result};
use crate::file_step::{EditFile, Edited, put};
use crate::host::Host;
use crate::owner::Owner;
use crate::step::{State, Step, Steps, action};
use onedock_common::process::{Command, find_local};
use onedock_common::wait;

const CONFIGURATION: &str = "/etc/docker/daemon.json";
const PID_FILE: &str = "/var/run/docker.pid";
const LOG: &str = "/var/log/onedock-dockerd.log";

/// From the start of the engine to its first answer; a large store takes its time.
const READY: Duration = Duration::from_secs(60);
/// From the reload to the settings.
const RELOADED: Duration = Duration::from_secs(15);

/// The engine runs, and is one that can run VMs.
pub(super) fn running_step(engine: &Engine, start: bool) -> Box<dyn Step> {
    let (a, b) = (engine.clone(), engine.clone());
    action(
        "the Docker engine",
        move || match a.info() {
            Ok(_) => a.check().map(|()| State::Unchanged),
            Err(why) if !start => Err(why),
            Err(_) => Ok(State::Needed("start it".into())),
        },
        move || {
            if Host::this().has_systemd() {
                Command::local("systemctl")
                    .args(["enable", "--now", "docker"])
                    .within(READY)
                    .checked()?;
            } else if process().is_none() {
                spawn()?;
            }
            wait::until(READY, || b.info().ok()).ok_or_else(|| {
                Error::refused(format!(
                    "the Docker engine was started and does not answer; see {LOG}"
                ))
            })?;
            b.check()
        },
    )
}

/// The settings, and that the engine has them.
pub(super) fn settings_steps(engine: &Engine) -> Steps {
    let (a, b) = (engine.clone(), engine.clone());
    vec![
        configuration_step(),
        action(
            "the engine's settings",
            move || match a.info() {
                Ok(info) => Ok(State::needed_if(!has_settings(&info), "reload them")),
                // Only a dry run comes here without an engine.
                Err(_) => Ok(State::Needed("reload them".into())),
            },
            move || {
                let (pid, _) = process().ok_or_else(|| {
                    Error::refused(
                        "the process dockerd was not found; reload the engine and call this again",
                    )
                })?;
                kill(Pid::from_raw(pid), Signal::SIGHUP).map_err(|e| {
                    Error::refused(format!("dockerd, process {pid}, cannot be reloaded: {e}"))
                })?;
                wait::until(RELOADED, || b.info().ok().filter(has_settings))
                    .map(drop)
                    .ok_or_else(|| {
                        Error::refused(format!(
                            "the engine was reloaded and has not taken runtime onedock and live-restore \
                             from {}; its log says why",
                            configuration_path().display()
                        ))
                    })
            },
        ),
    ]
}

fn has_settings(info: &Info) -> bool {
    info.live_restore_enabled && info.runtime("onedock") == Some(RUNTIME)
}

fn configuration_step() -> Box<dyn Step> {
    let path = configuration_path();
    let edit = {
        let path = path.clone();
        move |text: &str| {
            let wanted = Wanted {
                runtime: RUNTIME,
                live_restore: !said_on_command_line("--live-restore"),
            };
            let (text, changes) = daemon_json::edit(text, wanted).map_err(|why| {
                Error::refused(format!("{} {why}; it was left as it is", path.display()))
            })?;
            Ok(Edited { text, changes })
        }
    };
    match fs::symlink_metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let (a, b) = (path.clone(), path.clone());
            action(
                path.display().to_string(),
                move || {
                    Ok(State::needed_if(
                        !a.exists(),
                        "write it: live-restore, runtimes onedock",
                    ))
                },
                move || put(&b, edit("")?.text.as_bytes(), 0o644, &Owner::root()),
            )
        }
        _ => EditFile::new(path, edit),
    }
}

/// The file that the running engine reads.
fn configuration_path() -> PathBuf {
    let words = process().map(|(_, words)| words).unwrap_or_default();
    value_of(&words, "--config-file").map_or_else(|| PathBuf::from(CONFIGURATION), PathBuf::from)
}

fn said_on_command_line(flag: &str) -> bool {
    process().is_some_and(|(_, words)| {
        words
            .iter()
            .any(|w| w == flag || w.strip_prefix(flag).is_some_and(|r| r.starts_with('=')))
    })
}

fn value_of(words: &[String], flag: &str) -> Option<String> {
    words.iter().enumerate().find_map(|(index, word)| {
        if word == flag {
            return words.get(index + 1).cloned();
        }
        word.strip_prefix(flag)?
            .strip_prefix('=')
            .map(str::to_owned)
    })
}

/// The engine's process and its command line: by its pid file, else the only dockerd that has
/// this machine's view of the files (another may run in a container or for a test).
fn process() -> Option<(i32, Vec<String>)> {
    let named = fs::read_to_string(PID_FILE)
        .ok()
        .and_then(|t| t.trim().parse().ok());
    if let Some(found) = named.and_then(dockerd) {
        return Some(found);
    }
    let mut all = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| dockerd(entry.file_name().to_str()?.parse().ok()?));
    let first = all.next()?;
    all.next().is_none().then_some(first)
}

fn dockerd(pid: i32) -> Option<(i32, Vec<String>)> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let ours = fs::read_link("/proc/self/ns/mnt").ok()?;
    let name = fs::read_to_string(proc.join("comm")).ok()?;
    if name.trim() != "dockerd" || fs::read_link(proc.join("ns/mnt")).ok()? != ours {
        return None;
    }
    let line = fs::read(proc.join("cmdline")).ok()?;
    let words = line.split(|b| *b == 0).filter(|w| !w.is_empty());
    Some((
        pid,
        words
            .map(|w| String::from_utf8_lossy(w).into_owned())
            .collect(),
    ))
}

/// Starts the engine where no systemd does: a session of its own, its log in a file.
fn spawn() -> Result<()> {
    let missing = |name: &str| Error::refused(format!("the program {name} is not installed"));
    let setsid = find_local("setsid").ok_or_else(|| missing("setsid"))?;
    let dockerd = find_local("dockerd").ok_or_else(|| missing("dockerd"))?;
    let log = Path::new(LOG);
    let out = fs::OpenOptions::new().create(true).append(true).open(log);
    let out = out.map_err(Error::file("open", log))?;
    let err = out.try_clone().map_err(Error::file("open", log))?;
    Process::new(setsid)
        .arg(&dockerd)
        .args(["--pidfile", PID_FILE])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(Error::file("start", &dockerd))
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_found_in_both_forms() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let find = |text| value_of(&words(text), "--config-file");
        assert_eq!(find("dockerd --config-file /a -D"), Some("/a".into()));
        assert_eq!(find("dockerd --config-file=/a"), Some("/a".into()));
        assert_eq!(find("dockerd --config-files=/a"), None);
    }
}
