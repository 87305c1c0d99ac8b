//! Installing what lacks, by the distribution's package manager. It is asked for a program and
//! never for a package whose program is there: a machine that has Docker from docker.com keeps it.
//! Nothing is ever removed for it (docs/decisions/0022-packages.md).

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::setup::distribution::{Distribution, ENGINE, Family, PROGRAMS, Program, Role, programs};
use crate::step::{State, Step, action, optional};
use onedock_common::process::{Command, Output, find_local};

/// A package may be large and the line slow, but an installation that stands still must end.
const INSTALL: Duration = Duration::from_secs(1200);
/// A package manager says at the end of all that it writes why it failed.
const OUTPUT: usize = 16 << 20;

/// What is asked of a machine.
trait Machine {
    /// Whether a program is there.
    fn has(&self, program: &str) -> bool;
    /// Runs a program of the package manager.
    fn call(&self, program: &'static str, arguments: &[&str]) -> Result<Output>;
    /// The text of os-release.
    fn os_release(&self) -> String;
}

/// This machine, with an engine that may answer although no `dockerd` is where programs lie.
struct ThisMachine {
    engine_answers: Box<dyn Fn() -> bool>,
}

impl Machine for ThisMachine {
    fn has(&self, program: &str) -> bool {
        find_local(program).is_some() || (program == ENGINE && (self.engine_answers)())
    }

    fn call(&self, program: &'static str, arguments: &[&str]) -> Result<Output> {
        Ok(Command::local(program)
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .within(INSTALL)
            .keeping(OUTPUT)
            .keeping(OUTPUT)
            .run()?)
    }

    fn os_release(&self) -> String {
        ["/etc/os-release", "/usr/lib/os-release"]
            .iter()
            .find_map(|path| fs::read_to_string(path).ok())
            .unwrap_or_default()
    }
}

/// Installs what a machine of this role cannot do without. `engine_answers`: whether a Docker
/// engine answers, wherever its program lies.
pub fn required_step(
    role: Role,
    engine_answers: impl Fn() -> bool + Clone + 'static,
) -> Box<dyn Step> {
    step("programs", role, true, engine_answers)
}

/// Installs what else a machine of this role can use, as far as its repositories have it and can be
/// reached. What is missing afterwards is noted by [`missing_notes`].
pub fn useful_step(
    role: Role,
    engine_answers: impl Fn() -> bool + Clone + 'static,
) -> Box<dyn Step> {
    optional(step("further programs", role, false, engine_answers))
}

/// What this machine does not serve for want of a program.
pub fn missing_notes(role: Role) -> Vec<String> {
    programs(role, false)
        .filter(|program| !program.names.iter().any(|name| find_local(name).is_some()))
        .filter_map(|program| Some((program.name(), program.without?)))
        .map(|(name, without)| format!("WARNING: {name} is not installed: {without}."))
        .collect()
}

fn step(
    subject: &'static str,
    role: Role,
    required: bool,
    engine_answers: impl Fn() -> bool + Clone + 'static,
) -> Box<dyn Step> {
    let machine = move || ThisMachine {
        engine_answers: Box::new(engine_answers.clone()),
    };
    let again = machine.clone();
    action(
        subject,
        move || Installation::on(&machine(), role, required).check(),
        move || Installation::on(&again(), role, required).apply(),
    )
}

/// Programs that are to be on a machine.
struct Installation<'a> {
    machine: &'a dyn Machine,
    distribution: Distribution,
    role: Role,
    required: bool,
}

/// The packages that come next, each with the program for which it is asked.
type Round = Vec<(&'static Program, &'static str)>;

impl<'a> Installation<'a> {
    fn on(machine: &'a dyn Machine, role: Role, required: bool) -> Self {
        Self {
            machine,
            distribution: Distribution::parse(&machine.os_release()),
            role,
            required,
        }
    }

    fn check(&self) -> Result<State> {
        let missing = self.missing();
        if missing.is_empty() {
            return Ok(State::Unchanged);
        }
        let Some(family) = self.distribution.family else {
            return self.cannot_install(&missing).map(|()| State::Unchanged);
        };
        let manager = Manager::of(family, self.machine);
        let round = self.round(&manager, &BTreeSet::new());
        // Lists of packages that are not there yet say nothing about what exists.
        if manager.has_lists() {
            self.all_found(&missing, &round)?;
        }
        if round.is_empty() {
            return Ok(State::Unchanged);
        }
        self.objection(&manager, &round)?;
        Ok(State::Needed(format!(
            "install {}",
            packages(&round).join(", ")
        )))
    }

    fn apply(&self) -> Result<()> {
        let Some(family) = self.distribution.family else {
            return self.cannot_install(&self.missing());
        };
        let manager = Manager::of(family, self.machine);
        let mut updated = !manager.has_lists();
        if updated {
            manager.update()?;
        }
        let mut tried = BTreeSet::new();
        loop {
            let missing = self.missing();
            let round = self.round(&manager, &tried);
            if tried.is_empty() {
                self.all_found(&missing, &round)?;
            }
            if round.is_empty() {
                return self.all_there(&missing, &tried);
            }
            self.objection(&manager, &round)?;
            let packages = packages(&round);
            let mut answer = manager.install(&packages)?;
            if !answer.succeeded() && !updated {
                updated = true;
                manager.update()?;
                answer = manager.install(&packages)?;
            }
            if !answer.succeeded() {
                return Err(self.failed(&manager, &round, &answer));
            }
            tried.extend(packages);
        }
    }

    fn missing(&self) -> Vec<&'static Program> {
        programs(self.role, self.required)
            .filter(|program| !program.names.iter().any(|name| self.machine.has(name)))
            .collect()
    }

    /// For each missing program the next package that the repositories know.
    fn round(&self, manager: &Manager<'_>, tried: &BTreeSet<&'static str>) -> Round {
        let known = manager.has_lists();
        let engine: &[&str] = if self.machine.has(ENGINE) {
            PROGRAMS
                .iter()
                .find(|program| program.name() == ENGINE)
                .map_or(&[], |program| program.packages(manager.family))
        } else {
            &[]
        };
        let next = |program: &&'static Program| {
            program
                .packages(manager.family)
                .iter()
                .copied()
                .filter(|package| !tried.contains(package) && !engine.contains(package))
                // One that is installed and has not brought the program will not do so now.
                .filter(|package| !manager.has(package))
                .find(|package| !known || manager.knows(package))
        };
        self.missing()
            .into_iter()
            .filter_map(|program| Some((program, next(&program)?)))
            .collect()
    }

    /// An unknown distribution: only what is required matters, and its name is all one can say.
    fn cannot_install(&self, missing: &[&'static Program]) -> Result<()> {
        if !self.required || missing.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = missing.iter().map(|program| program.name()).collect();
        Err(Error::refused(format!(
            "these programs are missing: {}; the names of their packages on {} are not known \
             here: install them with the system's package manager and call this again",
            names.join(", "),
            self.distribution
        )))
    }

    /// Whether there is a package for every program that is required.
    fn all_found(&self, missing: &[&'static Program], round: &Round) -> Result<()> {
        let nowhere = missing.iter().find(|program| {
            !round
                .iter()
                .any(|(other, _)| other.name() == program.name())
        });
        match nowhere {
            Some(program) if self.required => {
                let tried = program.packages(self.distribution.family.unwrap_or(Family::Debian));
                let tried = match tried {
                    [] => String::new(),
                    names => format!(" ({})", names.join(", ")),
                };
                Err(Error::refused(format!(
                    "{} is missing, and the repositories of this machine ({}) have no \
                     further package for it{tried}{}",
                    program.name(),
                    self.distribution,
                    self.advice(program)
                )))
            }
            _ => Ok(()),
        }
    }

    fn all_there(
        &self,
        missing: &[&'static Program],
        tried: &BTreeSet<&'static str>,
    ) -> Result<()> {
        match missing.first() {
            Some(program) if self.required => Err(Error::refused(format!(
                "{} is still missing after the installation of {}{}",
                program.name(),
                tried.iter().copied().collect::<Vec<_>>().join(", "),
                self.advice(program)
            ))),
            _ => Ok(()),
        }
    }

    /// Refuses what would take packages away.
    fn objection(&self, manager: &Manager<'_>, round: &Round) -> Result<()> {
        let removed = manager.would_remove(&packages(round))?;
        if removed.is_empty() {
            return Ok(());
        }
        let wanted: Vec<_> = round
            .iter()
            .map(|(program, package)| format!("{} (package {package})", program.name()))
            .collect();
        Err(Error::refused(format!(
            "{} would be removed by the installation of {}: nothing was installed; bring these \
             programs here in another way, or remove those packages yourself, and call this again",
            removed.join(", "),
            wanted.join(", ")
        )))
    }

    fn failed(&self, manager: &Manager<'_>, round: &Round, answer: &Output) -> Error {
        let advice = round
            .iter()
            .map(|(program, _)| self.advice(program))
            .find(|advice| !advice.is_empty())
            .unwrap_or_default();
        Error::Program {
            program: manager.program().to_owned(),
            what: format!(
                "could not install {}: {}{advice}",
                packages(round).join(", "),
                answer.last_line()
            ),
        }
    }

    fn advice(&self, program: &Program) -> String {
        self.distribution
            .advice(program)
            .map_or_else(String::new, |advice| format!("; {advice}"))
    }
}

/// Each package once, in the order in which the programs stand.
fn packages(round: &Round) -> Vec<&'static str> {
    let mut all = Vec::new();
    for (_, package) in round {
        if !all.contains(package) {
            all.push(*package);
        }
    }
    all
}

/// The one place where package managers are called.
struct Manager<'a> {
    family: Family,
    machine: &'a dyn Machine,
}

impl<'a> Manager<'a> {
    fn of(family: Family, machine: &'a dyn Machine) -> Self {
        Self { family, machine }
    }

    fn program(&self) -> &'static str {
        match self.family {
            Family::Debian => "apt-get",
            Family::RedHat => "dnf",
            Family::Suse => "zypper",
        }
    }

    /// Whether the lists of packages are on the machine. `dnf` and `zypper` fetch them when they
    /// need them.
    fn has_lists(&self) -> bool {
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

    fn update(&self) -> Result<()> {
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
    fn has(&self, package: &str) -> bool {
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
    fn knows(&self, package: &str) -> bool {
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
    fn install(&self, packages: &[&str]) -> Result<Output> {
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
    fn would_remove(&self, packages: &[&str]) -> Result<Vec<String>> {
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
fn removed(said: &str) -> Vec<String> {
    said.lines()
        .skip_while(|line| !line.contains("will be REMOVED"))
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        .flat_map(str::split_whitespace)
        // Behind the name of one that is purged stands a star.
        .map(|name| name.trim_end_matches('*').to_owned())
        .collect()
}

#[cfg(test)]
#[path = "packages/tests.rs"]
mod tests;
