//! Calling the driver executables as `oned` does: the files in the remotes folder, as oneadmin
//! with its groups, values as arguments, never a shell.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Uid;
use onedock::error::{Error, Result};
use onedock_common::process::{Command, Output};

/// Layers may be many and the line slow.
const LONG: Duration = Duration::from_secs(4000);
/// A shutdown waits for the VM; everything else is quick.
const SHORT: Duration = Duration::from_secs(300);

/// The drivers in a remotes folder.
#[derive(Debug, Clone)]
pub(crate) struct Drivers {
    remotes: PathBuf,
    user: String,
}

impl Drivers {
    /// The drivers of `remotes`, run as `user` when root calls.
    pub(crate) fn at(remotes: &Path, user: &str) -> Self {
        Self {
            remotes: remotes.to_owned(),
            user: user.to_owned(),
        }
    }

    /// The folder.
    pub(crate) fn remotes(&self) -> &Path {
        &self.remotes
    }

    /// An action of the datastore.
    pub(crate) fn datastore(&self, action: &str, id: &str, request: String) -> Result<Output> {
        let deadline = if action == "cp" { LONG } else { SHORT };
        self.call(
            &format!("datastore/onedock/{action}"),
            [id],
            request,
            deadline,
        )
    }

    /// A script of the transfer manager.
    pub(crate) fn tm<S: AsRef<OsStr>>(
        &self,
        script: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Output> {
        self.call(
            &format!("tm/onedock/{script}"),
            arguments,
            String::new(),
            LONG,
        )
    }

    /// An action of the hypervisor.
    pub(crate) fn vmm<S: AsRef<OsStr>>(
        &self,
        action: &str,
        arguments: impl IntoIterator<Item = S>,
        document: String,
    ) -> Result<Output> {
        self.call(&format!("vmm/onedock/{action}"), arguments, document, SHORT)
    }

    /// A script of a network driver; nothing where OpenNebula's scripts are not installed.
    pub(crate) fn vnm<S: AsRef<OsStr>>(
        &self,
        driver: &str,
        script: &str,
        arguments: impl IntoIterator<Item = S>,
        document: String,
    ) -> Result<Option<Output>> {
        let name = format!("vnm/{driver}/{script}");
        if !self.remotes.join(&name).is_file() {
            return Ok(None);
        }
        self.call(&name, arguments, document, SHORT).map(Some)
    }

    /// A probe of the monitor, by its own program: it is called once and not left running.
    pub(crate) fn probe(&self, probe: &str) -> Result<String> {
        let arch = std::env::consts::ARCH;
        let name = format!("onedock/{arch}/onedock-im");
        self.call(&name, ["probe", probe], String::new(), SHORT)
            .map(|answer| answer.stdout)
    }

    /// The error of a driver is its own line, as it is, behind the name of the call.
    fn call<S: AsRef<OsStr>>(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = S>,
        input: String,
        deadline: Duration,
    ) -> Result<Output> {
        let path = self.remotes.join(name);
        let said = || name.replace("/onedock/", " ").replace('/', " ");
        if !path.is_file() {
            return Err(Error::refused(format!(
                "the drivers are not whole: there is no {}",
                path.display()
            )));
        }
        let command = if Uid::effective().is_root() {
            Command::local("setpriv")
                .args([
                    "--reuid",
                    &self.user,
                    "--regid",
                    &self.user,
                    "--init-groups",
                    "--",
                ])
                .args([&path])
                .env("HOME", "/var/lib/one")
        } else {
            Command::local(&path)
        };
        let answer = command
            .args(arguments)
            .input(input)
            .within(deadline)
            .run()?;
        if answer.succeeded() {
            return Ok(answer);
        }
        Err(Error::Program {
            program: said(),
            what: reason(&answer),
        })
    }
}

/// What a driver says of its failure: all lines but those for the log.
fn reason(answer: &Output) -> String {
    let lines: Vec<&str> = answer
        .stderr
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !is_note(l))
        .collect();
    match (lines.is_empty(), answer.code) {
        (false, _) => lines.join(" "),
        (true, Some(code)) => format!("failed with exit code {code} and said nothing"),
        (true, None) => "was ended by a signal".to_owned(),
    }
}

/// A line for the VM's log (`get_info_from_execution` of 7.x).
fn is_note(line: &str) -> bool {
    ["INFO: ", "WARN: ", "DEBUG: "]
        .iter()
        .any(|mark| line.starts_with(mark))
}

/// The lines for the VM's log.
pub(crate) fn notes(answer: &Output) -> Vec<String> {
    answer
        .stderr
        .lines()
        .map(str::trim)
        .filter(|l| is_note(l))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_in_the_driver_s_own_words() {
        let answer = |code, stderr: &str| Output {
            code,
            stdout: String::new(),
            stderr: stderr.into(),
        };
        let said = reason(&answer(
            Some(1),
            "INFO: begun\nbridge br9 does not exist.\n",
        ));
        assert_eq!(said, "bridge br9 does not exist.");
        assert!(reason(&answer(Some(3), "")).contains("exit code 3"));
        assert_eq!(notes(&answer(Some(0), "INFO: a\nb\n")), ["INFO: a"]);
    }

    #[test]
    fn drivers_that_are_not_there_are_named() {
        let error = Drivers::at(Path::new("/none"), "root")
            .tm("clone", ["x"])
            .unwrap_err();
        assert!(error.line().contains("/none/tm/onedock/clone"), "{error}");
        assert!(
            Drivers::at(Path::new("/none"), "root")
                .vnm("bridge", "pre", ["x"], String::new())
                .unwrap()
                .is_none()
        );
    }
}
