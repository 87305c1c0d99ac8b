//! The options, each with all of its names, what it takes, what becomes of it, and who may ask for it when
//! no policy says otherwise: one table.

use std::fmt;

use super::key::{BuiltIn, Effect, Key, Kind, Row};

/// The capabilities that a container has anyway (moby, `oci/caps/defaults.go`).
pub const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Limits of processes that bound the VM alone.
const ULIMITS: &[&str] = &[
    "cpu",
    "data",
    "fsize",
    "locks",
    "msgqueue",
    "nofile",
    "nproc",
    "rss",
    "sigpending",
    "stack",
];

const NO_NEW_PRIVILEGES: &[&str] = &[
    "no-new-privileges",
    "no-new-privileges:true",
    "no-new-privileges=true",
];

const OWN_NETWORK: &str = "the VM has its own address, on which every port is open";
const NICS: &str = "the VM's network is what its NICs say";
const CAPACITY: BuiltIn = BuiltIn::Deny;

const fn row(
    key: Key,
    names: &'static [&'static str],
    kind: Kind,
    effect: Effect,
    rule: BuiltIn,
) -> Row {
    Row {
        key,
        names,
        kind,
        effect,
        rule,
    }
}

/// The table.
pub const TABLE: &[Row] = {
    use BuiltIn::{Allow, Deny, Range, Values};
    use Effect::{Body, Host, Impossible, Noted, Own, Silent};
    &[
        row(Key::Command, &["command", "cmd"], Kind::Words, Own, Allow),
        row(Key::Entrypoint, &["entrypoint"], Kind::Words, Own, Allow),
        row(Key::KeepAlive, &["keepalive"], Kind::Bool, Own, Allow),
        row(Key::Init, &["init"], Kind::Bool, Own, Allow),
        row(Key::Terminal, &["terminal", "tty"], Kind::Bool, Own, Allow),
        row(
            Key::Environment,
            &["environment", "env"],
            Kind::Variables,
            Own,
            Allow,
        ),
        row(Key::Hostname, &["hostname"], Kind::Text, Own, Allow),
        row(Key::DomainName, &["domainname"], Kind::Text, Own, Allow),
        row(Key::Dns, &["dns"], Kind::List, Own, Allow),
        row(Key::DnsSearch, &["dnssearch"], Kind::List, Own, Allow),
        row(
            Key::DnsOptions,
            &["dnsoptions", "dnsopt", "dnsopts", "dnsoption"],
            Kind::List,
            Own,
            Allow,
        ),
        row(
            Key::ExtraHosts,
            &["extrahosts", "addhost"],
            Kind::List,
            Own,
            Allow,
        ),
        // Capacity is OpenNebula's to give and to count.
        row(Key::CpuShares, &["cpushares"], Kind::Integer, Own, CAPACITY),
        row(Key::CpuQuota, &["cpuquota"], Kind::Integer, Own, CAPACITY),
        row(Key::CpuPeriod, &["cpuperiod"], Kind::Integer, Own, CAPACITY),
        row(Key::NanoCpus, &["nanocpus"], Kind::Integer, Own, CAPACITY),
        row(
            Key::Memory,
            &["memory", "memlimit"],
            Kind::Bytes,
            Own,
            CAPACITY,
        ),
        row(
            Key::MemorySwap,
            &["memoryswap", "memswaplimit"],
            Kind::Bytes,
            Own,
            CAPACITY,
        ),
        row(
            Key::PidsLimit,
            &["pidslimit", "pids"],
            Kind::Integer,
            Own,
            Range(1, 4096),
        ),
        row(Key::User, &["user"], Kind::Text, Body("User"), Allow),
        row(
            Key::WorkingDir,
            &["workingdir", "workdir"],
            Kind::Path,
            Body("WorkingDir"),
            Allow,
        ),
        row(
            Key::Labels,
            &["labels", "label"],
            Kind::Mapping,
            Body("Labels"),
            Allow,
        ),
        row(
            Key::StopSignal,
            &["stopsignal"],
            Kind::Text,
            Body("StopSignal"),
            Allow,
        ),
        row(
            Key::CapAdd,
            &["capadd"],
            Kind::List,
            Host("CapAdd"),
            Values(CAPABILITIES),
        ),
        row(
            Key::CapDrop,
            &["capdrop"],
            Kind::List,
            Host("CapDrop"),
            Allow,
        ),
        row(
            Key::SecurityOpt,
            &["securityopt", "securityopts"],
            Kind::List,
            Host("SecurityOpt"),
            Values(NO_NEW_PRIVILEGES),
        ),
        row(
            Key::Privileged,
            &["privileged"],
            Kind::Bool,
            Host("Privileged"),
            Deny,
        ),
        row(
            Key::ReadOnly,
            &["readonlyrootfs", "readonly"],
            Kind::Bool,
            Host("ReadonlyRootfs"),
            Allow,
        ),
        row(Key::Tmpfs, &["tmpfs"], Kind::Tmpfs, Host("Tmpfs"), Allow),
        row(
            Key::Ulimits,
            &["ulimits", "ulimit"],
            Kind::Ulimits,
            Host("Ulimits"),
            Values(ULIMITS),
        ),
        row(
            Key::Sysctls,
            &["sysctls", "sysctl"],
            Kind::Mapping,
            Host("Sysctls"),
            Values(&["net.*"]),
        ),
        row(
            Key::ShmSize,
            &["shmsize"],
            Kind::Bytes,
            Host("ShmSize"),
            Range(0, 1 << 30),
        ),
        row(
            Key::Binds,
            &["binds", "bind", "volumes", "volume", "mounts"],
            Kind::Binds,
            Host("Binds"),
            Values(&[]),
        ),
        row(
            Key::VolumesFrom,
            &["volumesfrom"],
            Kind::List,
            Host("VolumesFrom"),
            Deny,
        ),
        row(
            Key::Devices,
            &["devices", "device"],
            Kind::Devices,
            Host("Devices"),
            Values(&[]),
        ),
        row(
            Key::DeviceCgroupRules,
            &["devicecgrouprules", "devicecgrouprule"],
            Kind::List,
            Host("DeviceCgroupRules"),
            Deny,
        ),
        row(
            Key::DeviceRequests,
            &["devicerequests", "gpus"],
            Kind::Json,
            Host("DeviceRequests"),
            Deny,
        ),
        row(
            Key::GroupAdd,
            &["groupadd"],
            Kind::List,
            Host("GroupAdd"),
            Allow,
        ),
        row(
            Key::IpcMode,
            &["ipcmode", "ipc"],
            Kind::Text,
            Host("IpcMode"),
            Values(&["none", "private"]),
        ),
        row(
            Key::PidMode,
            &["pidmode", "pid"],
            Kind::Text,
            Host("PidMode"),
            Deny,
        ),
        row(
            Key::UtsMode,
            &["utsmode", "uts"],
            Kind::Text,
            Host("UTSMode"),
            Deny,
        ),
        row(
            Key::UsernsMode,
            &["usernsmode", "userns"],
            Kind::Text,
            Host("UsernsMode"),
            Deny,
        ),
        row(
            Key::CgroupnsMode,
            &["cgroupnsmode", "cgroupns"],
            Kind::Text,
            Host("CgroupnsMode"),
            Values(&["private"]),
        ),
        row(
            Key::CgroupParent,
            &["cgroupparent"],
            Kind::Text,
            Host("CgroupParent"),
            Deny,
        ),
        row(
            Key::LogConfig,
            &["logconfig"],
            Kind::Json,
            Host("LogConfig"),
            Deny,
        ),
        row(
            Key::OomScoreAdj,
            &["oomscoreadj"],
            Kind::Integer,
            Host("OomScoreAdj"),
            Range(0, 1000),
        ),
        row(
            Key::OomKillDisable,
            &["oomkilldisable"],
            Kind::Bool,
            Host("OomKillDisable"),
            Deny,
        ),
        row(
            Key::RestartPolicy,
            &["restartpolicy", "restart"],
            Kind::Restart,
            Host("RestartPolicy"),
            Allow,
        ),
        row(
            Key::CpusetCpus,
            &["cpusetcpus", "cpuset"],
            Kind::Text,
            Host("CpusetCpus"),
            CAPACITY,
        ),
        row(
            Key::CpusetMems,
            &["cpusetmems"],
            Kind::Text,
            Host("CpusetMems"),
            CAPACITY,
        ),
        row(
            Key::MemoryReservation,
            &["memoryreservation", "memreservation"],
            Kind::Bytes,
            Host("MemoryReservation"),
            Allow,
        ),
        row(
            Key::MemorySwappiness,
            &["memoryswappiness", "memswappiness"],
            Kind::Integer,
            Host("MemorySwappiness"),
            Range(0, 100),
        ),
        row(
            Key::BlkioWeight,
            &["blkioweight"],
            Kind::Integer,
            Host("BlkioWeight"),
            Range(10, 500),
        ),
        row(
            Key::Runtime,
            &["runtime"],
            Kind::Text,
            Impossible(
                "a VM is run by onedock-runtime; which runtime stands behind it is the node's choice",
            ),
            Deny,
        ),
        row(
            Key::StorageOpt,
            &["storageopt", "storageopts"],
            Kind::Mapping,
            Impossible("the size of the root disk is its SIZE"),
            Deny,
        ),
        row(
            Key::HealthCheck,
            &["healthcheck"],
            Kind::Json,
            Impossible("this version of the driver reports no health"),
            Deny,
        ),
        row(
            Key::StopTimeout,
            &["stoptimeout", "stopgraceperiod"],
            Kind::Integer,
            Impossible("the time between stop signal and KILL is ONEDOCK_STOP_TIMEOUT's"),
            Deny,
        ),
        row(
            Key::NetworkMode,
            &["networkmode", "network", "net"],
            Kind::Text,
            Noted(NICS),
            Deny,
        ),
        row(
            Key::Ports,
            &["ports", "exposedports", "port", "expose"],
            Kind::List,
            Noted(OWN_NETWORK),
            Allow,
        ),
        row(
            Key::PortBindings,
            &["portbindings", "publishallports", "publish"],
            Kind::List,
            Noted(
                "nothing is published on the host: the VM has its own address, on which every port is open",
            ),
            Allow,
        ),
        row(
            Key::Links,
            &["links", "link"],
            Kind::List,
            Noted(NICS),
            Allow,
        ),
        row(
            Key::MacAddress,
            &["macaddress", "networkingconfig"],
            Kind::Text,
            Noted(NICS),
            Allow,
        ),
        row(
            Key::Image,
            &["image"],
            Kind::Text,
            Noted("the VM's image is its disk's"),
            Allow,
        ),
        row(
            Key::Name,
            &["name", "containername"],
            Kind::Text,
            Noted("a VM's container is called one-<its id>"),
            Allow,
        ),
        row(
            Key::LxcConf,
            &["lxcconf"],
            Kind::List,
            Noted("Docker has no LXC any more"),
            Allow,
        ),
        row(
            Key::Silent,
            &[
                "attachstdin",
                "attachstdout",
                "attachstderr",
                "openstdin",
                "stdinopen",
                "stdinonce",
                "detach",
                "networkdisabled",
            ],
            Kind::Text,
            Silent,
            Allow,
        ),
    ]
};

impl Key {
    /// Its row.
    pub fn row(self) -> &'static Row {
        // Every key has one; a test says so.
        TABLE
            .iter()
            .find(|row| row.key == self)
            .unwrap_or(&TABLE[0])
    }
}

/// The name that a policy has for it.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().names[0])
    }
}

/// The option of a name in any spelling: `CAP_ADD`, `cap_add`, `CapAdd`, `cap-add`.
pub fn find(name: &str) -> Option<Key> {
    let plain: String = name
        .chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let row = TABLE
        .iter()
        .find(|row| row.names.contains(&plain.as_str()))?;
    Some(row.key)
}

#[cfg(test)]
mod tests {
    use super::super::key::Rule;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_spelling_of_a_name_is_one_option_and_no_name_is_two() {
        for name in ["CAP_ADD", "cap_add", "CapAdd", "cap-add", "capadd"] {
            assert_eq!(find(name), Some(Key::CapAdd), "{name}");
        }
        for name in ["cap add", "capadd2", "", "cap.add", "capädd"] {
            assert_eq!(find(name), None, "{name}");
        }
        let mut names = BTreeSet::new();
        let mut keys = BTreeSet::new();
        for row in TABLE {
            assert!(keys.insert(row.key), "{:?} has two rows", row.key);
            assert_eq!(row.key.row().key, row.key);
            for name in row.names {
                assert!(names.insert(name), "{name} is two options");
                assert!(name.bytes().all(|b| b.is_ascii_lowercase()), "{name}");
                assert_eq!(find(name), Some(row.key));
            }
        }
        assert_eq!(keys.len(), Key::Silent as usize + 1, "a key has no row");
    }

    #[test]
    fn what_could_harm_the_host_is_not_allowed_by_itself() {
        let harmful = [
            Key::Privileged,
            Key::VolumesFrom,
            Key::DeviceCgroupRules,
            Key::DeviceRequests,
            Key::PidMode,
            Key::UtsMode,
            Key::UsernsMode,
            Key::CgroupParent,
            Key::LogConfig,
            Key::OomKillDisable,
            Key::CpuShares,
            Key::CpuQuota,
            Key::CpuPeriod,
            Key::NanoCpus,
            Key::Memory,
            Key::MemorySwap,
            Key::CpusetCpus,
            Key::CpusetMems,
        ];
        for key in harmful {
            assert_eq!(Rule::from(key.row().rule), Rule::Deny, "{key}");
        }
        for key in [Key::Binds, Key::Devices] {
            assert_eq!(
                Rule::from(key.row().rule),
                Rule::Values(Vec::new()),
                "{key}"
            );
        }
        for key in [
            Key::CapAdd,
            Key::SecurityOpt,
            Key::Sysctls,
            Key::Ulimits,
            Key::IpcMode,
            Key::CgroupnsMode,
        ] {
            let Rule::Values(values) = key.row().rule.into() else {
                panic!("{key} is not limited");
            };
            let harmless = |value: &String| {
                ![
                    "SYS_ADMIN",
                    "NET_ADMIN",
                    "ALL",
                    "host",
                    "*",
                    "kernel.",
                    "memlock",
                    "rtprio",
                    "unconfined",
                ]
                .iter()
                .any(|bad| value.contains(bad) && value != "net.*")
            };
            assert!(values.iter().all(harmless), "{key}: {values:?}");
        }
    }
}
