//! What the machine's distribution calls things: the package of each program that is called here,
//! the units of the services. It is the one file to extend for another distribution.
//!
//! `/etc/os-release` decides (`os-release(5)`): ID, else the nearest of ID_LIKE. Where a name
//! changed between releases the table has both; the first one that the machine's repositories know
//! is taken, and the next one when the program is not there after that.
//!
//! Tried: Debian 12 and 13. The names of the other columns were not tried.

use std::fmt;

/// Distributions that share a package manager and the names of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Debian 12 and 13, Ubuntu 22.04, 24.04 and 26.04.
    Debian,
    /// RHEL, AlmaLinux and Rocky Linux 9 and 10.
    RedHat,
    /// SLES 15 and 16, openSUSE.
    Suse,
}

/// The IDs of os-release by family.
const IDS: &[(&str, Family)] = &[
    ("debian", Family::Debian),
    ("ubuntu", Family::Debian),
    ("rhel", Family::RedHat),
    ("almalinux", Family::RedHat),
    ("rocky", Family::RedHat),
    ("centos", Family::RedHat),
    ("ol", Family::RedHat),
    ("fedora", Family::RedHat),
    ("sles", Family::Suse),
    ("sled", Family::Suse),
    ("suse", Family::Suse),
    ("opensuse", Family::Suse),
    ("opensuse-leap", Family::Suse),
    ("opensuse-tumbleweed", Family::Suse),
];

/// What a machine is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs VMs.
    Node,
    /// Runs OpenNebula.
    FrontEnd,
    /// Runs the private registry.
    Registry,
}

/// One program and the packages that bring it.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// What it is called; any one of these will do.
    pub names: &'static [&'static str],
    /// Which machines need it.
    pub roles: &'static [Role],
    /// What a machine without it cannot do; none: it cannot do its part at all.
    pub without: Option<&'static str>,
    debian: &'static [&'static str],
    red_hat: &'static [&'static str],
    suse: &'static [&'static str],
}

impl Program {
    /// The name by which it is spoken of.
    pub fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    /// The packages that bring it, in the order in which they are tried.
    pub fn packages(&self, family: Family) -> &'static [&'static str] {
        match family {
            Family::Debian => self.debian,
            Family::RedHat => self.red_hat,
            Family::Suse => self.suse,
        }
    }
}

/// The Docker engine.
pub const ENGINE: &str = "dockerd";
/// The registry, as Debian calls its program and as everybody else does.
pub const REGISTRY_NAMES: &[&str] = &["docker-registry", "registry"];

const NODE: &[Role] = &[Role::Node];
const REGISTRY: &[Role] = &[Role::Registry];
const NODE_AND_FRONT_END: &[Role] = &[Role::Node, Role::FrontEnd];
const NODE_AND_REGISTRY: &[Role] = &[Role::Node, Role::Registry];

type Names = &'static [&'static str];

/// A program that its machines cannot do without.
const fn required(
    names: Names,
    roles: &'static [Role],
    debian: Names,
    red_hat: Names,
    suse: Names,
) -> Program {
    Program {
        names,
        roles,
        without: None,
        debian,
        red_hat,
        suse,
    }
}

/// A program without which a machine does less.
const fn useful(
    names: Names,
    roles: &'static [Role],
    without: &'static str,
    debian: Names,
    red_hat: Names,
    suse: Names,
) -> Program {
    Program {
        names,
        roles,
        without: Some(without),
        debian,
        red_hat,
        suse,
    }
}

/// Every program that is called on some machine:
/// name, machines, (what is not served without it,) Debian and Ubuntu, RHEL and its kin, SUSE.
#[rustfmt::skip]
pub const PROGRAMS: &[Program] = &[
    // The engine. RHEL and its kin have none; Docker's own repository has.
    required(&[ENGINE], NODE, &["docker.io"], &["docker-ce"], &["docker"]),
    // From Debian 13 on the client is a package of its own, which docker.io only recommends.
    useful(&["docker"], NODE, "containers cannot be inspected by hand",
        &["docker-cli"], &["docker-ce-cli"], &["docker"]),
    useful(&["crun"], NODE, "VMs start by runc, which takes longer", &["crun"], &["crun"], &["crun"]),

    // OpenNebula's network drivers.
    required(&["ruby"], NODE, &["ruby"], &["ruby"], &["ruby"]),
    required(&["iptables"], NODE, &["iptables"], &["iptables-nft", "iptables"], &["iptables"]),
    required(&["ipset"], NODE, &["ipset"], &["ipset"], &["ipset"]),
    required(&["ip"], NODE, &["iproute2"], &["iproute"], &["iproute2"]),
    required(&["bridge"], NODE, &["iproute2"], &["iproute"], &["iproute2"]),

    // oneadmin: its account, its rights, and how OpenNebula reaches it.
    required(&["bash"], NODE, &["bash"], &["bash"], &["bash"]),
    required(&["useradd"], NODE_AND_REGISTRY, &["passwd"], &["shadow-utils"], &["shadow"]),
    required(&["groupadd"], NODE_AND_REGISTRY, &["passwd"], &["shadow-utils"], &["shadow"]),
    required(&["usermod"], NODE, &["passwd"], &["shadow-utils"], &["shadow"]),
    required(&["getent"], &[Role::Node, Role::FrontEnd, Role::Registry],
        &["libc-bin"], &["glibc-common"], &["glibc"]),
    required(&["sudo"], NODE, &["sudo"], &["sudo"], &["sudo"]),
    required(&["visudo"], NODE, &["sudo"], &["sudo"], &["sudo"]),
    required(&["sshd"], NODE, &["openssh-server"], &["openssh-server"], &["openssh-server", "openssh"]),
    // Newer releases of openssh-server do not bring the client.
    required(&["ssh"], NODE_AND_FRONT_END,
        &["openssh-client"], &["openssh-clients"], &["openssh-clients", "openssh"]),
    required(&["rsync"], NODE_AND_FRONT_END, &["rsync"], &["rsync"], &["rsync"]),
    required(&["setsid"], NODE_AND_REGISTRY, &["util-linux"], &["util-linux"], &["util-linux"]),
    required(&["ps"], NODE, &["procps"], &["procps-ng"], &["procps"]),
    required(&["openssl"], NODE_AND_REGISTRY, &["openssl"], &["openssl"], &["openssl", "openssl-3"]),

    // The registry: RHEL and its kin have none.
    required(REGISTRY_NAMES, REGISTRY,
        &["docker-registry"], &[], &["distribution-registry", "docker-distribution-registry"]),
    required(&["haproxy"], REGISTRY, &["haproxy"], &["haproxy"], &["haproxy"]),
    required(&["hostname"], REGISTRY, &["hostname"], &["hostname"], &["hostname"]),
    required(&["setpriv"], REGISTRY, &["util-linux"], &["util-linux"], &["util-linux"]),

    // Disks beside the root disk. The kernels of RHEL and its kin have no btrfs.
    useful(&["mkfs.ext4"], NODE_AND_FRONT_END, "disks with ext2, ext3 and ext4 are neither made nor grown",
        &["e2fsprogs"], &["e2fsprogs"], &["e2fsprogs"]),
    useful(&["mkfs.xfs"], NODE_AND_FRONT_END, "disks with xfs are neither made nor grown",
        &["xfsprogs"], &["xfsprogs"], &["xfsprogs"]),
    useful(&["mkfs.btrfs"], NODE_AND_FRONT_END, "disks with btrfs are neither made nor grown",
        &["btrfs-progs"], &[], &["btrfsprogs"]),
    useful(&["qemu-img"], NODE_AND_FRONT_END, "disks in qcow2 are refused",
        &["qemu-utils"], &["qemu-img"], &["qemu-img", "qemu-tools"]),
    // Shows a qcow2 as a device on kernels with and without NBD. In Debian 12 it is with the common
    // files of the emulators.
    useful(&["qemu-storage-daemon"], NODE, "disks in qcow2 are refused",
        &["qemu-utils", "qemu-system-common"], &["qemu-img", "qemu-kvm-core"], &["qemu-tools"]),
    useful(&["sfdisk"], NODE, "partition tables of disks cannot be checked",
        &["fdisk"], &["util-linux"], &["util-linux"]),
    useful(&["blkid"], NODE_AND_FRONT_END, "the file systems of disks are not known",
        &["util-linux"], &["util-linux"], &["util-linux"]),
    useful(&["modprobe"], NODE, "modules of the kernel are not loaded", &["kmod"], &["kmod"], &["kmod"]),
];

/// The programs of a machine: those that it cannot do without, or the others.
pub fn programs(role: Role, required: bool) -> impl Iterator<Item = &'static Program> {
    PROGRAMS
        .iter()
        .filter(move |p| p.roles.contains(&role) && p.without.is_none() == required)
}

/// The distribution of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// None: the table above does not know it.
    pub family: Option<Family>,
    /// What it calls itself: "Debian GNU/Linux 12 (bookworm)".
    pub name: String,
    /// The first number of VERSION_ID.
    pub major: String,
}

impl Distribution {
    /// Reads os-release. A machine without one has an unknown distribution.
    pub fn parse(os_release: &str) -> Self {
        let value = |key: &str| {
            os_release
                .lines()
                .filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))
                .map(|value| value.trim().trim_matches(['"', '\'']))
                .next_back()
                .unwrap_or_default()
        };
        let (id, like) = (value("ID"), value("ID_LIKE"));
        let family = std::iter::once(id)
            .chain(like.split_whitespace())
            .find_map(|id| IDS.iter().find(|(known, _)| *known == id))
            .map(|(_, family)| *family);
        let name = [value("PRETTY_NAME"), value("NAME"), id]
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or("an unknown distribution");
        let major = value("VERSION_ID").split('.').next().unwrap_or_default();
        Self {
            family,
            name: name.to_owned(),
            major: major.to_owned(),
        }
    }

    /// What an administrator can do when the machine's repositories do not have a program.
    pub fn advice(&self, program: &Program) -> Option<String> {
        let advice = match (self.family?, program.name()) {
            (Family::RedHat, "dockerd" | "docker") => {
                "add Docker's repository: dnf config-manager \
                --add-repo https://download.docker.com/linux/rhel/docker-ce.repo"
                    .to_owned()
            }
            (Family::RedHat, "docker-registry") => {
                "no repository of this distribution has a registry: run `onedock setup registry` \
                 on a Debian or SUSE, or name another registry to `onedock setup frontend`"
                    .to_owned()
            }
            (Family::RedHat, _) => format!(
                "EPEL may have it: dnf install \
                 https://dl.fedoraproject.org/pub/epel/epel-release-latest-{}.noarch.rpm",
                self.major
            ),
            (Family::Suse, "dockerd" | "docker" | "docker-registry" | "crun") => {
                "on SLES it is in the Containers Module, which SUSEConnect adds".to_owned()
            }
            (Family::Debian | Family::Suse, _) => return None,
        };
        Some(advice)
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The units of the SSH server: Debian and Ubuntu's, everybody else's.
pub const SSH_UNITS: [&str; 2] = ["ssh", "sshd"];

/// The units that packages of a registry bring. They start it without accounts and on the same
/// port as ours.
pub const REGISTRY_UNITS: [&str; 3] = ["docker-registry", "docker-distribution", "registry"];

#[cfg(test)]
mod tests {
    use super::*;

    fn family(text: &str) -> Option<Family> {
        Distribution::parse(text).family
    }

    #[test]
    fn os_release_names_the_family_by_its_id_or_by_what_it_is_like() {
        for (text, expected) in [
            ("ID=debian\nVERSION_ID=\"12\"\n", Some(Family::Debian)),
            ("ID=ubuntu\nID_LIKE=debian\n", Some(Family::Debian)),
            (
                "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
                Some(Family::Debian),
            ),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                Some(Family::RedHat),
            ),
            (
                "ID=eurolinux\nID_LIKE=\"rhel fedora\"\n",
                Some(Family::RedHat),
            ),
            ("ID='sles'\n", Some(Family::Suse)),
            (
                "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n",
                Some(Family::Suse),
            ),
            ("ID=alpine\n", None),
            ("ID=arch\nID_LIKE=\"\"\n", None),
            ("", None),
        ] {
            assert_eq!(family(text), expected, "{text}");
        }
    }

    #[test]
    fn the_name_and_the_release_are_what_the_distribution_says() {
        let debian = Distribution::parse(
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\n\
             VERSION_ID=\"12\"\nID=debian\n",
        );
        assert_eq!(debian.to_string(), "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(debian.major, "12");
        assert_eq!(Distribution::parse("VERSION_ID=9.4\n").major, "9");
        assert_eq!(
            Distribution::parse("").to_string(),
            "an unknown distribution"
        );
    }

    #[test]
    fn every_program_stands_once_and_has_a_package_or_an_advice_everywhere() {
        let mut seen = std::collections::BTreeSet::new();
        for program in PROGRAMS {
            assert!(seen.insert(program.name()), "{} twice", program.name());
            assert!(!program.roles.is_empty());
            for (family, id) in [
                (Family::Debian, "debian"),
                (Family::RedHat, "rocky"),
                (Family::Suse, "sles"),
            ] {
                let here = Distribution::parse(&format!("ID={id}\n"));
                assert_eq!(here.family, Some(family));
                assert!(
                    !program.packages(family).is_empty() || here.advice(program).is_some(),
                    "{} on {id}",
                    program.name()
                );
            }
        }
    }

    #[test]
    fn a_machine_of_red_hat_s_family_is_told_of_the_repositories_it_lacks() {
        let rocky = Distribution::parse("ID=rocky\nVERSION_ID=\"9.4\"\n");
        let of = |name: &str| PROGRAMS.iter().find(|p| p.name() == name).unwrap();
        let text = |name| rocky.advice(of(name)).unwrap();
        assert!(text("dockerd").contains("docker-ce.repo"));
        assert!(text("docker-registry").contains("setup registry"));
        assert!(text("ipset").ends_with("epel-release-latest-9.noarch.rpm"));
        let debian = Distribution::parse("ID=debian\n");
        assert_eq!(debian.advice(of("dockerd")), None);
    }
}
