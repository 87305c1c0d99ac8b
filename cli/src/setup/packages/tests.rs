use std::cell::RefCell;

use super::manager::removed;
use super::*;

const DEBIAN_12: &str =
    "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n";
const ROCKY_9: &str =
    "PRETTY_NAME=\"Rocky Linux 9.4\"\nID=\"rocky\"\nID_LIKE=\"rhel\"\nVERSION_ID=\"9.4\"\n";
const SLES_15: &str =
    "PRETTY_NAME=\"SUSE Linux Enterprise Server 15 SP6\"\nID=\"sles\"\nVERSION_ID=\"15.6\"\n";

/// What apt of Debian 12 answers to `install --simulate --no-remove sudo-ldap` where sudo is.
const SIMULATED: &str = "Reading package lists...\nBuilding dependency tree...\n\
    Reading state information...\nThe following additional packages will be installed:\n  \
    libnss-sudo\nThe following packages will be REMOVED:\n  sudo\nThe following NEW packages will \
    be installed:\n  libnss-sudo sudo-ldap\n0 upgraded, 2 newly installed, 1 to remove and 133 not \
    upgraded.\n";

/// A machine whose package manager installs what its repositories know.
struct Fake {
    os_release: &'static str,
    programs: RefCell<BTreeSet<String>>,
    /// Packages by name, with the programs that they bring.
    repositories: Vec<(&'static str, &'static [&'static str])>,
    installed: RefCell<BTreeSet<String>>,
    lists: RefCell<bool>,
    simulated: &'static str,
    calls: RefCell<Vec<String>>,
}

impl Fake {
    /// A machine that has every program but these.
    fn without(os_release: &'static str, missing: &[&str]) -> Self {
        let there = PROGRAMS
            .iter()
            .map(Program::name)
            .filter(|name| !missing.contains(name))
            .map(str::to_owned);
        Self {
            os_release,
            programs: RefCell::new(there.collect()),
            repositories: Vec::new(),
            installed: RefCell::default(),
            lists: RefCell::new(true),
            simulated: "",
            calls: RefCell::default(),
        }
    }

    fn knowing(mut self, repositories: &[(&'static str, &'static [&'static str])]) -> Self {
        self.repositories = repositories.to_vec();
        self
    }

    fn installation(&self, role: Role, required: bool) -> Installation<'_> {
        Installation::on(self, role, required)
    }

    /// The packages of each installation that was really made.
    fn installations(&self) -> Vec<String> {
        self.calls
            .borrow()
            .iter()
            .filter(|call| call.contains(" install ") && !call.contains("--simulate"))
            .map(|call| call.split(" -- ").nth(1).unwrap().to_owned())
            .collect()
    }
}

fn answer(succeeds: bool, stdout: &str) -> Output {
    Output {
        code: Some(if succeeds { 0 } else { 100 }),
        stdout: stdout.to_owned(),
        stderr: if succeeds { "" } else { "E: it did not work\n" }.to_owned(),
    }
}

impl Machine for Fake {
    fn has(&self, program: &str) -> bool {
        self.programs.borrow().contains(program)
    }

    fn call(&self, program: &'static str, arguments: &[&str]) -> Result<Output> {
        let line = format!("{program} {}", arguments.join(" "));
        self.calls.borrow_mut().push(line.clone());
        let names: Vec<_> = arguments
            .iter()
            .skip_while(|a| **a != "--")
            .skip(1)
            .collect();
        let known = |name: &str| {
            *self.lists.borrow() && self.repositories.iter().any(|(other, _)| *other == name)
        };
        Ok(match program {
            "dpkg-query" | "rpm" => answer(self.installed.borrow().contains(*names[0]), ""),
            "apt-cache" => answer(known(names[0]), ""),
            _ if line.contains("indextargets") => answer(
                true,
                if *self.lists.borrow() {
                    "/var/lib/apt/lists/x\n"
                } else {
                    ""
                },
            ),
            _ if line.contains("update") || line.contains("refresh") => {
                *self.lists.borrow_mut() = true;
                answer(true, "")
            }
            _ if line.contains("--simulate") => answer(self.simulated.is_empty(), self.simulated),
            "dnf" | "zypper" if !line.contains(" install ") => answer(known(names[0]), ""),
            _ => {
                let all = names.iter().all(|name| known(name));
                for name in names.iter().filter(|_| all) {
                    self.installed.borrow_mut().insert((**name).to_owned());
                    let brought = self.repositories.iter().filter(|(other, _)| other == *name);
                    self.programs
                        .borrow_mut()
                        .extend(brought.flat_map(|(_, p)| p.iter().map(|p| (*p).to_owned())));
                }
                answer(all, "")
            }
        })
    }

    fn os_release(&self) -> String {
        self.os_release.to_owned()
    }
}

#[test]
fn a_machine_that_has_every_program_is_asked_nothing() {
    let machine = Fake::without("", &[]);
    for required in [true, false] {
        let installation = machine.installation(Role::Node, required);
        assert_eq!(installation.check().unwrap(), State::Unchanged);
    }
    assert!(machine.calls.borrow().is_empty());
}

#[test]
fn only_what_lacks_is_installed_and_nothing_is_removed_for_it() {
    let machine = Fake::without(DEBIAN_12, &["ip", "bridge", "ruby"])
        .knowing(&[("iproute2", &["ip", "bridge"]), ("ruby", &["ruby"])]);
    let installation = machine.installation(Role::Node, true);
    assert_eq!(
        installation.check().unwrap(),
        State::Needed("install ruby, iproute2".into())
    );
    assert!(
        machine.installations().is_empty(),
        "a check installs nothing"
    );
    installation.apply().unwrap();
    assert_eq!(machine.installations(), ["ruby iproute2"]);
    assert_eq!(installation.check().unwrap(), State::Unchanged);
    for call in machine
        .calls
        .borrow()
        .iter()
        .filter(|c| c.contains(" install "))
    {
        assert!(call.contains(" --no-remove "), "{call}");
    }
}

/// docker-ce, containerd.io: the program is there, and Debian's package would take it away.
#[test]
fn docker_of_another_repository_stays_and_debian_s_is_not_asked_for() {
    let machine = Fake::without(DEBIAN_12, &["docker", "ruby"])
        .knowing(&[("docker.io", &["dockerd", "docker"]), ("ruby", &["ruby"])]);
    machine.installation(Role::Node, true).apply().unwrap();
    machine.installation(Role::Node, false).apply().unwrap();
    assert_eq!(machine.installations(), ["ruby"]);
    let suse = Fake::without(SLES_15, &["docker"]).knowing(&[("docker", &["docker"])]);
    suse.installation(Role::Node, false).apply().unwrap();
    assert!(
        suse.installations().is_empty(),
        "the package is the engine's"
    );
}

#[test]
fn what_would_take_packages_away_is_refused_with_their_names_and_the_reason() {
    let mut machine =
        Fake::without(DEBIAN_12, &["visudo"]).knowing(&[("sudo", &["sudo", "visudo"])]);
    machine.simulated = SIMULATED;
    let installation = machine.installation(Role::Node, true);
    for refused in [
        installation.check().unwrap_err(),
        installation.apply().unwrap_err(),
    ] {
        assert!(
            refused.line().starts_with(
                "sudo would be removed by the installation of visudo (package sudo): nothing was \
                 installed; "
            ),
            "{refused}"
        );
    }
    assert!(machine.installations().is_empty());
}

#[test]
fn the_removed_packages_end_where_the_next_heading_begins() {
    assert_eq!(removed(SIMULATED), ["sudo"]);
    assert!(removed("0 upgraded, 0 newly installed, 0 to remove.\n").is_empty());
    let two = "The following packages will be REMOVED:\n  containerd.io* docker-ce\n  runc\nx y\n";
    assert_eq!(removed(two), ["containerd.io", "docker-ce", "runc"]);
}

#[test]
fn lists_that_are_not_there_are_fetched_before_a_name_is_given_up() {
    let machine = Fake::without(DEBIAN_12, &["ruby"]).knowing(&[("ruby", &["ruby"])]);
    *machine.lists.borrow_mut() = false;
    let installation = machine.installation(Role::Node, true);
    assert_eq!(
        installation.check().unwrap(),
        State::Needed("install ruby".into())
    );
    installation.apply().unwrap();
    assert_eq!(machine.installations(), ["ruby"]);
}

/// Debian 12 has `qemu-storage-daemon` in qemu-system-common, Debian 13 in qemu-utils.
#[test]
fn the_next_package_is_taken_when_the_first_one_does_not_bring_the_program() {
    let machine = Fake::without(DEBIAN_12, &["qemu-img", "qemu-storage-daemon"]).knowing(&[
        ("qemu-utils", &["qemu-img"]),
        ("qemu-system-common", &["qemu-storage-daemon"]),
    ]);
    let installation = machine.installation(Role::Node, false);
    installation.apply().unwrap();
    assert_eq!(
        machine.installations(),
        ["qemu-utils", "qemu-system-common"]
    );
    // A newer one, and one whose packages have it nowhere: that is found out once.
    let machine = Fake::without(DEBIAN_12, &["qemu-img", "qemu-storage-daemon"])
        .knowing(&[("qemu-utils", &["qemu-img"]), ("qemu-system-common", &[])]);
    let installation = machine.installation(Role::Node, false);
    installation.apply().unwrap();
    assert_eq!(installation.check().unwrap(), State::Unchanged);
}

#[test]
fn a_program_that_no_repository_has_is_named_with_what_to_do() {
    let machine = Fake::without(ROCKY_9, &["dockerd"]);
    let line = machine
        .installation(Role::Node, true)
        .check()
        .unwrap_err()
        .line();
    assert!(
        line.starts_with(
            "dockerd is missing, and the repositories of this machine (Rocky Linux 9.4) have no \
             further package for it (docker-ce); add Docker's repository: dnf config-manager"
        ),
        "{line}"
    );
    let line = Fake::without(ROCKY_9, &["docker-registry"])
        .installation(Role::Registry, true)
        .check()
        .unwrap_err()
        .line();
    assert!(line.starts_with("docker-registry is missing"), "{line}");
    // What is only useful is left out.
    let machine = Fake::without(ROCKY_9, &["mkfs.btrfs", "crun"]).knowing(&[("crun", &["crun"])]);
    machine.installation(Role::Node, false).apply().unwrap();
    assert_eq!(machine.installations(), ["crun"]);
}

#[test]
fn an_installation_that_brings_no_program_or_fails_is_an_error() {
    let machine = Fake::without(DEBIAN_12, &["ruby"]).knowing(&[("ruby", &[])]);
    let line = machine
        .installation(Role::Node, true)
        .apply()
        .unwrap_err()
        .line();
    assert_eq!(line, "ruby is still missing after the installation of ruby");
    let machine = Fake::without(ROCKY_9, &["dockerd", "ruby"])
        .knowing(&[("ruby", &["ruby"]), ("docker-ce", &["dockerd"])]);
    let installation = machine.installation(Role::Node, true);
    let round = installation.round(&Manager::of(Family::RedHat, &machine), &BTreeSet::new());
    let line = installation
        .failed(
            &Manager::of(Family::RedHat, &machine),
            &round,
            &answer(false, ""),
        )
        .line();
    assert!(
        line.starts_with("dnf: could not install docker-ce, ruby: E: it did not work; add Docker"),
        "{line}"
    );
}

#[test]
fn an_unknown_distribution_is_told_the_missing_programs_in_one_line() {
    let machine = Fake::without(
        "ID=alpine\nPRETTY_NAME=\"Alpine Linux v3.20\"\n",
        &["sudo", "ip"],
    );
    let line = machine
        .installation(Role::Node, true)
        .check()
        .unwrap_err()
        .line();
    assert_eq!(
        line,
        "these programs are missing: ip, sudo; the names of their packages on Alpine Linux v3.20 \
         are not known here: install them with the system's package manager and call this again"
    );
    let machine = Fake::without("ID=alpine\n", &["crun"]);
    let useful = machine.installation(Role::Node, false);
    assert_eq!(useful.check().unwrap(), State::Unchanged);
    assert!(machine.calls.borrow().is_empty());
}

#[test]
fn each_family_is_asked_in_the_words_of_its_package_manager() {
    for (os_release, package, expected) in [
        (
            ROCKY_9,
            "iptables-nft",
            "dnf install -y -q --setopt=install_weak_deps=False -- iptables-nft",
        ),
        (
            SLES_15,
            "iptables",
            "zypper --non-interactive install --no-recommends --no-force-resolution -- iptables",
        ),
        (
            DEBIAN_12,
            "iptables",
            "apt-get install -y -q --no-remove --no-install-recommends -- iptables",
        ),
    ] {
        let machine = Fake::without(os_release, &["iptables"]).knowing(&[(package, &["iptables"])]);
        machine.installation(Role::Node, true).apply().unwrap();
        assert!(
            machine.calls.borrow().iter().any(|call| call == expected),
            "{:?}",
            machine.calls.borrow()
        );
    }
}
