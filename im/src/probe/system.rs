//! SYSTEM_HOST: what the host is.

use std::fs;
use std::io;
use std::path::Path;

use nix::sys::utsname::uname;

use super::Proc;
use super::host::Capacity;
use crate::cgroup::Mounts;
use crate::datastores;
use crate::engine::Engine;
use crate::template::line;

/// Gives the records. `remotes` is the synchronised tree whose VERSION tells `onehost sync`
/// what this host has; `stores` are the records of its datastores.
///
/// An engine that does not answer is reported in `ONEDOCK_ENGINE` and is no failure of the host:
/// a failure would turn its running VMs to UNKNOWN, while a restart of the engine touches none.
pub fn probe(proc: &Proc, engine: &Engine, remotes: &Path, stores: &str) -> io::Result<String> {
    let capacity = Capacity::read(proc)?;
    let uname = uname()?;
    let cpuinfo = proc.read("cpuinfo").unwrap_or_default();
    let mounts = Mounts::parse(&proc.read("self/mountinfo")?);
    let mut out = line("ARCH", uname.machine().to_string_lossy());
    if let Some(model) = first(&cpuinfo, &["model name", "cpu"]) {
        out += &line("MODELNAME", model);
    }
    out += "HYPERVISOR=docker\n";
    out += &format!("TOTALCPU={}\n", capacity.cpu);
    let speed = first(&cpuinfo, &["cpu MHz"]).and_then(|mhz| {
        let whole = mhz.split('.').next()?;
        onedock_common::types::decimal::parse_whole(whole).ok()
    });
    if let Some(speed) = speed {
        out += &format!("CPUSPEED={speed}\n");
    }
    out += &format!("TOTALMEMORY={}\n", capacity.memory);
    if let Some(version) = mounts.version() {
        out += &format!("CGROUPS_VERSION={version}\n");
    }
    out += stores;
    out += &line("HOSTNAME", uname.nodename().to_string_lossy());
    out += &engine_facts(engine);
    out += &line("ONEDOCK_VERSION", env!("CARGO_PKG_VERSION"));
    if let Some(version) = version(remotes) {
        out += &line("VERSION", version);
    }
    Ok(out)
}

fn engine_facts(engine: &Engine) -> String {
    let facts = match engine.facts() {
        Ok(facts) => facts,
        Err(error) => return line("ONEDOCK_ENGINE", error),
    };
    let mut runtimes: Vec<&str> = facts.runtimes.keys().map(String::as_str).collect();
    runtimes.sort_unstable();
    let security: Vec<&str> = facts
        .security_options
        .iter()
        .filter_map(|o| o.strip_prefix("name=")?.split(',').next())
        .collect();
    let switch = if facts.live_restore_enabled {
        "YES"
    } else {
        "NO"
    };
    [
        line("ONEDOCK_ENGINE", "answers"),
        line("DOCKER_VERSION", facts.server_version),
        line("DOCKER_STORAGE", facts.driver),
        line("DOCKER_CGROUP_DRIVER", facts.cgroup_driver),
        line("DOCKER_LIVE_RESTORE", switch),
        line("DOCKER_RUNTIMES", runtimes.join(" ")),
        line("DOCKER_SECURITY", security.join(" ")),
    ]
    .concat()
}

/// The value of the first of `names` that has one.
fn first<'a>(cpuinfo: &'a str, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| {
        cpuinfo.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim_end() == *name && !value.trim().is_empty()).then(|| value.trim())
        })
    })
}

/// The last line of VERSION, as `version.sh` reads it.
fn version(remotes: &Path) -> Option<String> {
    let text = fs::read_to_string(remotes.join("VERSION")).ok()?;
    text.lines()
        .last()
        .map(|l| l.trim().to_owned())
        .filter(|l| !l.is_empty())
}

/// The records of the datastores below `location`, for [`probe`].
pub fn stores(location: &Path) -> String {
    datastores::probe(location)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Socket;

    #[test]
    fn faults_38_and_40_a_host_whose_engine_is_silent_still_has_its_facts_and_says_why() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("VERSION"), "# comment\n7.4.0\n").unwrap();
        let engine = Engine::at(Socket::at(dir.path().join("none.sock")));
        let out = probe(
            &Proc::system(),
            &engine,
            dir.path(),
            "DS_LOCATION_FREE_MB=1\n",
        )
        .unwrap();
        let has =
            |start: &str| assert!(out.lines().any(|l| l.starts_with(start)), "{start}: {out}");
        for start in [
            "HYPERVISOR=docker",
            "TOTALCPU=",
            "TOTALMEMORY=",
            "ARCH=\"",
            "HOSTNAME=\"",
            "VERSION=\"7.4.0\"",
            "DS_LOCATION_FREE_MB=1",
            "ONEDOCK_ENGINE=\"the Docker Engine does not run: there is no socket ",
        ] {
            has(start);
        }
    }

    #[test]
    fn the_model_is_found_on_x86_and_power() {
        let x86 = "processor\t: 0\nmodel name\t: AMD EPYC\ncpu MHz\t\t: 2445.4\n";
        assert_eq!(first(x86, &["model name", "cpu"]), Some("AMD EPYC"));
        assert_eq!(
            first("cpu\t\t: POWER9\n", &["model name", "cpu"]),
            Some("POWER9")
        );
        assert_eq!(first("Processor: x\n", &["model name", "cpu"]), None);
    }
}
