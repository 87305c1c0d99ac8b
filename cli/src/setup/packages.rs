//! Installing missing programs, by the distribution's package manager. It is asked for a program and
//! never for a package whose program is there: a machine that has Docker from docker.com keeps it.
//! Nothing is ever removed for it (docs/decisions/0022-packages.md).

#[path = "packages/manager.rs"]
mod manager;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::setup::distribution::{Distribution, ENGINE, Family, PROGRAMS, Program, Role, programs};
use crate::step::{State, Step, action, optional};
use onedock_common::process::{Command, Output, find_local};

use manager::Manager;

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

/// Remarks about what this machine cannot do for lack of a program.
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

#[cfg(test)]
#[path = "packages/tests.rs"]
mod tests;
