//! The one place where package managers are called.

use super::Machine;
use crate::error::{Error, Result};
use crate::setup::distribution::Family;
use onedock_common::process::Output;

/// A distribution's package manager on a machine.
pub(super) struct Manager<'a> {
    pub(super) family: Family,
    machine: &'a dyn Machine,
}

impl<'a> Manager<'a> {
    pub(super) fn of(family: Family, machine: &'a dyn Machine) -> Self {
        Self { family, machine }
    }

    pub(super) fn program(&self) -> &'static str {
        match self.family {
            Family::Debian => "apt-get",
            Family::RedHat => "dnf",
            Family::Suse => "zypper",
        }
    }

    /// Whether the lists of packages are on the machine. `dnf` and `zypper` fetch them when they
    /// need them.
    pub(super) fn has_lists(&self) -> bool {
        let targets = [
            "indextargets",
            "--format",
            "$(FILENAME)",
            "Created-By: Packages",
        ];
        self.family != Family::Debian
            || self
                .machine
                .call("apt-get", &targets)
                .is_ok_and(|answer| !answer.stdout.trim().is_empty())
    }

    pub(super) fn update(&self) -> Result<()> {
        let arguments: &[&str] = match self.family {
            Family::Debian => &["update", "-q"],
            Family::RedHat => &["makecache", "-q"],
            Family::Suse => &["--non-interactive", "refresh"],
        };
        let answer = self.machine.call(self.program(), arguments)?;
        if answer.succeeded() {
            return Ok(());
        }
        Err(Error::Program {
            program: self.program().to_owned(),
            what: format!(
                "the lists of packages could not be brought up to date: {}",
                answer.last_line()
            ),
        })
    }

    /// Whether a package is installed.
    pub(super) fn has(&self, package: &str) -> bool {
        let (program, arguments): (_, &[&str]) = match self.family {
            Family::Debian => (
                "dpkg-query",
                &["-W", "-f", "${db:Status-Status}", "--", package],
            ),
            Family::RedHat | Family::Suse => ("rpm", &["-q", "--quiet", "--", package]),
        };
        self.machine.call(program, arguments).is_ok_and(|answer| {
            // dpkg-query also knows packages of which only the configuration is left.
            answer.succeeded() && matches!(answer.stdout.trim(), "" | "installed")
        })
    }

    /// Whether the repositories have a package of this name.
    pub(super) fn knows(&self, package: &str) -> bool {
        let (program, arguments): (_, &[&str]) = match self.family {
            Family::Debian => ("apt-cache", &["show", "--no-all-versions", "--", package]),
            Family::RedHat => ("dnf", &["-q", "info", "--", package]),
            Family::Suse => (
                "zypper",
                &[
                    "--non-interactive",
                    "-q",
                    "search",
                    "--match-exact",
                    "--",
                    package,
                ],
            ),
        };
        self.machine
            .call(program, arguments)
            .is_ok_and(|answer| answer.succeeded())
    }

    /// None of the three removes a package for another: apt by its option, dnf without
    /// `--allowerasing`, zypper because it gives up where a solution would have to be chosen.
    pub(super) fn install(&self, packages: &[&str]) -> Result<Output> {
        let options: &[&str] = match self.family {
            Family::Debian => &[
                "install",
                "-y",
                "-q",
                "--no-remove",
                "--no-install-recommends",
            ],
            Family::RedHat => &["install", "-y", "-q", "--setopt=install_weak_deps=False"],
            Family::Suse => &[
                "--non-interactive",
                "install",
                "--no-recommends",
                "--no-force-resolution",
            ],
        };
        let arguments = [options, &["--"], packages].concat();
        self.machine.call(self.program(), &arguments)
    }

    /// What apt would take away for these packages, asked without an effect.
    pub(super) fn would_remove(&self, packages: &[&str]) -> Result<Vec<String>> {
        if self.family != Family::Debian {
            return Ok(Vec::new());
        }
        let options = [
            "install",
            "--simulate",
            "-q",
            "--no-remove",
            "--no-install-recommends",
            "--",
        ];
        let arguments = [&options, packages].concat();
        Ok(removed(&self.machine.call("apt-get", &arguments)?.stdout))
    }
}

/// The packages in apt's list of those that it would remove: indented lines below a heading.
pub(super) fn removed(output: &str) -> Vec<String> {
    output
        .lines()
        .skip_while(|line| !line.contains("will be REMOVED"))
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        .flat_map(str::split_whitespace)
        // Behind the name of one that is purged stands a star.
        .map(|name| name.trim_end_matches('*').to_owned())
        .collect()
}
