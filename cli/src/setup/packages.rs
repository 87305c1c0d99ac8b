//! Programs that have to be there, and the Debian packages that bring them.

use std::path::Path;
use std::time::Duration;

use crate::command::{Command, find};
use crate::error::{Error, Result};
use crate::step::{State, Step, act};

/// A program and the package that brings it on Debian and Ubuntu.
pub type Needed = (&'static str, &'static str);

/// A package may be large and the line slow, but an installation that stands still must end.
const INSTALL: Duration = Duration::from_secs(1200);

/// A step that installs what lacks.
pub fn step(needed: &'static [Needed]) -> Box<dyn Step> {
    act(
        "programs",
        move || {
            let (programs, packages) = missing(needed, &|program| find(program).is_some());
            if packages.is_empty() {
                return Ok(State::AlreadySo);
            }
            if !has_apt() {
                return Err(Error::refused(format!(
                    "these programs are missing: {}; this is no Debian or Ubuntu, so install \
                     them with the system's own package manager and call this again",
                    programs.join(", ")
                )));
            }
            Ok(State::Needed(format!("install {}", packages.join(", "))))
        },
        move || install(&missing(needed, &|program| find(program).is_some()).1),
    )
}

/// Installs packages by apt, with their lists brought up to date when that is what lacks.
pub fn install(packages: &[&str]) -> Result<()> {
    let get = |arguments: &[&str]| {
        Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .within(INSTALL)
    };
    let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends", "--"];
    arguments.extend(packages);
    if get(&arguments).ask()?.succeeded() {
        return Ok(());
    }
    get(&["update", "-q"]).run()?;
    get(&arguments).run().map(drop)
}

/// Whether packages can be installed by apt here.
pub fn has_apt() -> bool {
    Path::new("/etc/debian_version").exists() && find("apt-get").is_some()
}

fn missing(
    needed: &[Needed],
    is_there: &dyn Fn(&str) -> bool,
) -> (Vec<&'static str>, Vec<&'static str>) {
    let lacking = needed.iter().filter(|(program, _)| !is_there(program));
    let (programs, mut packages): (Vec<_>, Vec<_>) = lacking.copied().unzip();
    packages.dedup();
    (programs, packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lacks_is_installed() {
        let needed = [("ip", "iproute2"), ("bridge", "iproute2"), ("sudo", "sudo")];
        let (programs, packages) = missing(&needed, &|p| p == "sudo");
        assert_eq!(
            (programs, packages),
            (vec!["ip", "bridge"], vec!["iproute2"])
        );
        assert_eq!(missing(&needed, &|_| true), (vec![], vec![]));
    }
}
