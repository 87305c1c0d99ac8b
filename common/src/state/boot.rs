//! The boot spec: what `onedock-runtime` needs to make a VM of a container, at every start.
//!
//! The driver writes it before each start to `/var/lib/onedock/boot/<container id>.json`; the
//! runtime, which runs as root, reads it as hostile input: every field is a checked type,
//! unknown fields are refused, and the file is bounded.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::state::files;
use crate::state::paths::Paths;
use crate::types::capability::Capability;
use crate::types::cpu_list::CpuList;
use crate::types::dns::{HostEntry, NameServer, ResolverOption, SearchDomain};
use crate::types::environment::Variable;
use crate::types::ids::{ContainerId, DiskId, NicId, VmId};
use crate::types::names::{DeviceName, Hostname, IfName, Mac, MountPath};
use crate::types::nic::{Autoconf, Bandwidth, BridgeKind, Route, VlanId};

/// The version that this build writes. It reads the earlier ones too, so that a VM which runs while
/// the drivers are upgraded can be rebooted and shut down: the first had no disks, the second one
/// metric for the routes of both families, the fourth no bandwidths, routes and Open vSwitch bridges,
/// the fifth no environment, and its keep-alive ran no command.
pub const VERSION: u32 = 6;
const OLDEST: u32 = 1;
/// The first version in which the routes of IPv6 have a metric of their own.
const SEPARATE_METRICS: u32 = 3;
/// The first version in which a VM that is kept alive may have a command.
const KEPT_COMMAND: u32 = 6;

/// The largest boot spec that is read, in bytes.
pub const LIMIT: u64 = 1024 * 1024;

/// Why a boot spec could not be read.
#[derive(Debug, Error)]
pub enum BootError {
    /// The file is there and cannot be read.
    #[error("boot spec {path} cannot be read")]
    Read {
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The content is not a boot spec.
    #[error("boot spec {path} is damaged; power the VM off and resume it to have it written anew")]
    Parse {
        path: PathBuf,
        /// Where and what.
        source: serde_json::Error,
    },
    /// Written by another version of the driver.
    #[error(
        "boot spec {path} has version {found}, this runtime reads {VERSION}; install the same version of the driver on the front-end and the node"
    )]
    Version {
        path: PathBuf,
        /// The version in it.
        found: u32,
    },
}

/// How the first process of the container is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstProcess {
    /// The command itself is process 1, as the engine would start it.
    Command,
    /// `onedock-init` is process 1, applies the context and runs the command, whose end is the VM's.
    Init,
    /// The same, and the VM lives until it is told to stop, whether the command has ended or there is
    /// none.
    KeepAlive,
    /// None: the container is a disk of the VM. What its tree is laid of is recorded, and the start
    /// is refused.
    Never,
}

/// One NIC, plugged while the container is created but its process does not run yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nic {
    /// NIC/NIC_ID; inside, the link is `eth<id>`.
    pub id: NicId,
    /// NIC/TARGET, the name of the host end.
    pub host: IfName,
    /// NIC/BRIDGE, which OpenNebula's network driver has made.
    pub bridge: IfName,
    /// NIC/BRIDGE_TYPE.
    #[serde(default)]
    pub bridge_kind: BridgeKind,
    /// NIC/VLAN_ID, on an Open vSwitch bridge: the port's tag from its first moment on.
    #[serde(default)]
    pub vlan: Option<VlanId>,
    /// NIC/MAC, of the end inside.
    pub mac: Mac,
    /// NIC/MTU; the bridge's when absent.
    pub mtu: Option<u32>,
    /// Addresses with their prefix.
    pub addresses: Vec<IpNetwork>,
    /// Default route.
    pub gateway: Option<Ipv4Addr>,
    /// Default route of IPv6.
    pub gateway6: Option<Ipv6Addr>,
    /// Metric of the default route.
    pub metric: Option<u32>,
    /// Metric of the default route of IPv6.
    #[serde(default)]
    pub metric6: Option<u32>,
    /// NIC/ROUTES beside the default routes.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// NIC/IP6_METHOD.
    #[serde(default)]
    pub autoconf: Autoconf,
    /// What OpenNebula has leased to the NIC and its aliases, whether it is set or not.
    #[serde(default)]
    pub leases: Vec<IpAddr>,
    /// NIC/INBOUND_*: what the VM may receive.
    #[serde(default)]
    pub inbound: Option<Bandwidth>,
    /// NIC/OUTBOUND_*: what the VM may send.
    #[serde(default)]
    pub outbound: Option<Bandwidth>,
}

impl Nic {
    /// Whether the other is the same link with at most other addresses, routes and bandwidths.
    pub fn is_same_link(&self, other: &Self) -> bool {
        let link = |nic: &Self| {
            (
                nic.id,
                nic.host.clone(),
                nic.bridge.clone(),
                nic.bridge_kind,
                nic.mac,
                nic.mtu,
            )
        };
        link(self) == link(other)
    }
}

/// A disk beside the root disk, plugged while the container is created but its process does not
/// run yet, or into the running one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// DISK/DISK_ID.
    pub id: DiskId,
    /// What it is on the host.
    pub source: DiskSource,
    /// Where it is mounted; `None`: only the device is shown. A disk that holds no file system
    /// which can be mounted (none, a partition table, swap) is shown as its device all the same.
    pub mount: Option<MountPath>,
    /// The device's name in `/dev` where it is shown as a device (DISK/TARGET).
    pub device: DeviceName,
    /// Whether it can only be read.
    pub read_only: bool,
}

/// What a disk is on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskSource {
    /// A file as it is: raw, or ISO 9660.
    Raw(PathBuf),
    /// A file in qcow2 format.
    Qcow2(PathBuf),
    /// The tree of an image: that of a container which never runs ([`FirstProcess::Never`]).
    #[serde(rename = "tree_of")]
    Tree(ContainerId),
    /// The same as boot specs before version 4 name it: the folder of a layer in the engine's storage.
    /// A VM that such a version started keeps its disk while it runs; it is not shown anew.
    #[serde(rename = "tree")]
    FormerTree(PathBuf),
    /// A folder, shown read-only: the files of a CD on a kernel that cannot mount one.
    Folder(PathBuf),
}

/// Everything that makes this start of the container the VM's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootSpec {
    /// [`VERSION`].
    pub version: u32,
    pub vm: VmId,
    /// `/proc/sys/kernel/random/boot_id` when `deploy` wrote this: a start in a later boot of
    /// the host is refused, because only `oned` then knows where the VM belongs, and only
    /// after its network drivers have laid bridges and filters.
    pub boot_id: String,
    /// The host name inside.
    pub hostname: Hostname,
    /// The whole argument vector of the command: entrypoint and command. Empty only with
    /// [`FirstProcess::KeepAlive`].
    pub args: Vec<String>,
    /// What process 1 is.
    pub first: FirstProcess,
    /// Whether the command has to be process 1 in the end, whatever it is called.
    #[serde(default)]
    pub give_way: bool,
    /// In the order of their ids.
    pub nics: Vec<Nic>,
    /// Name servers, in order; empty stands for those of the host.
    pub dns: Vec<NameServer>,
    /// Search domains, in place of the host's; empty without name servers stands for the host's.
    pub search: Vec<SearchDomain>,
    /// Options of the resolver.
    #[serde(default)]
    pub dns_options: Vec<ResolverOption>,
    /// Further lines of `/etc/hosts`.
    #[serde(default)]
    pub hosts: Vec<HostEntry>,
    /// The domain behind a host name that has none of its own.
    #[serde(default)]
    pub domain: Option<SearchDomain>,
    /// Processors that the VM is pinned to.
    #[serde(default)]
    pub cpus: Option<CpuList>,
    /// NUMA nodes that its memory is of.
    #[serde(default)]
    pub memory_nodes: Option<CpuList>,
    /// Capabilities that the engine gives the container and that the VM may have no more.
    #[serde(default)]
    pub drop_capabilities: Vec<Capability>,
    /// Variables beside and over those of the image.
    #[serde(default)]
    pub environment: Vec<Variable>,
    /// The folder on the host with the context files, shown read-only at `/context` and `/mnt`.
    pub context: Option<PathBuf>,
    /// The image's VOLUME paths: the engine's anonymous volumes at these places are dropped,
    /// so that their data stays on the root disk.
    pub volumes: Vec<PathBuf>,
    /// The disks beside the root disk, in the order of their ids.
    #[serde(default)]
    pub disks: Vec<Disk>,
}

impl BootSpec {
    /// Writes the spec of `container`, replacing an earlier one in one step.
    pub fn write(&self, paths: &Paths, container: &ContainerId) -> io::Result<()> {
        let bytes = serde_json::to_vec(self)?;
        files::replace(&paths.boot_spec(container), &bytes, 0o640)
    }

    /// Reads the spec of `container`; `None` when there is none, which means that the container
    /// is not a VM.
    pub fn read(paths: &Paths, container: &ContainerId) -> Result<Option<Self>, BootError> {
        let path = paths.boot_spec(container);
        let bytes = match files::read_bounded(&path, LIMIT) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(BootError::Read { path, source }),
        };
        Self::parse(&bytes, &path).map(Some)
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Self, BootError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let damaged = |source| BootError::Parse {
            path: path.to_owned(),
            source,
        };
        let Version { version } = serde_json::from_slice(bytes).map_err(damaged)?;
        if !(OLDEST..=VERSION).contains(&version) {
            return Err(BootError::Version {
                path: path.to_owned(),
                found: version,
            });
        }
        let mut spec: Self = serde_json::from_slice(bytes).map_err(damaged)?;
        if version < SEPARATE_METRICS {
            for nic in &mut spec.nics {
                nic.metric6 = nic.metric;
            }
        }
        if version < KEPT_COMMAND && spec.first == FirstProcess::KeepAlive {
            spec.args.clear();
        }
        Ok(Self {
            version: VERSION,
            ..spec
        })
    }

    /// Removes the spec of `container`, and what a writer that was ended in the middle has left.
    pub fn remove(paths: &Paths, container: &ContainerId) -> io::Result<()> {
        files::remove_with_leftovers(&paths.boot_spec(container))
    }
}

/// This boot of the host.
pub fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> BootSpec {
        BootSpec {
            version: VERSION,
            vm: VmId::new(5),
            boot_id: "b".into(),
            hostname: "web01".parse().unwrap(),
            args: vec!["nginx".into()],
            first: FirstProcess::Command,
            give_way: false,
            nics: vec![Nic {
                id: NicId::new(0),
                host: "one-5-0".parse().unwrap(),
                bridge: "onebr0".parse().unwrap(),
                mac: "02:00:0a:4d:00:2a".parse().unwrap(),
                mtu: Some(1450),
                addresses: vec!["10.77.0.42/24".parse().unwrap()],
                gateway: Some(Ipv4Addr::new(10, 77, 0, 1)),
                gateway6: None,
                metric: Some(7),
                metric6: Some(9),
                bridge_kind: BridgeKind::OpenVSwitch,
                vlan: "42".parse().ok(),
                routes: vec!["10.8.0.0/16 via 10.77.0.1".parse().unwrap()],
                autoconf: Autoconf::Off,
                leases: vec!["10.77.0.42".parse().unwrap()],
                inbound: Some(Bandwidth {
                    average: 1_000_000,
                    peak: None,
                    burst: Some(65_536),
                }),
                outbound: None,
            }],
            dns: vec![],
            search: vec![],
            dns_options: vec!["ndots:2".parse().unwrap()],
            hosts: vec!["db:10.77.0.7".parse().unwrap()],
            domain: "lan".parse().ok(),
            cpus: "0,2-3".parse().ok(),
            memory_nodes: "0".parse().ok(),
            drop_capabilities: vec!["NET_ADMIN".parse().unwrap()],
            environment: vec!["A=1".parse().unwrap()],
            context: Some("/var/lib/one/datastores/101/5/disk.5".into()),
            volumes: vec![],
            disks: vec![Disk {
                id: DiskId::new(1),
                source: DiskSource::Qcow2("/var/lib/one/datastores/101/5/disk.1".into()),
                mount: Some("/srv//data".parse().unwrap()),
                device: "vdb".parse().unwrap(),
                read_only: false,
            }],
        }
    }

    fn temporary() -> (tempfile::TempDir, Paths, ContainerId) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::at(dir.path());
        fs::create_dir_all(paths.boot_dir()).unwrap();
        (dir, paths, "ab".repeat(32).parse().unwrap())
    }

    #[test]
    fn what_the_driver_writes_the_runtime_reads() {
        let (_dir, paths, id) = temporary();
        assert!(BootSpec::read(&paths, &id).unwrap().is_none());
        spec().write(&paths, &id).unwrap();
        assert_eq!(BootSpec::read(&paths, &id).unwrap(), Some(spec()));
        BootSpec::remove(&paths, &id).unwrap();
        BootSpec::remove(&paths, &id).unwrap();
        assert!(BootSpec::read(&paths, &id).unwrap().is_none());
    }

    /// What the first version wrote of a NIC.
    const FIRST_NIC: [&str; 9] = [
        "id",
        "host",
        "bridge",
        "mac",
        "mtu",
        "addresses",
        "gateway",
        "gateway6",
        "metric",
    ];

    #[test]
    fn what_the_first_version_wrote_is_read_as_a_vm_without_further_disks() {
        let (_dir, paths, id) = temporary();
        let mut former = serde_json::to_value(spec()).unwrap();
        former["version"] = 1.into();
        former.as_object_mut().unwrap().remove("disks");
        let nic = former["nics"][0].as_object_mut().unwrap();
        nic.retain(|key, _| FIRST_NIC.contains(&key.as_str()));
        fs::write(paths.boot_spec(&id), former.to_string()).unwrap();
        let read = BootSpec::read(&paths, &id).unwrap().unwrap();
        assert_eq!((read.version, read.disks.len()), (VERSION, 0));
        let nic = Nic {
            metric6: Some(7),
            bridge_kind: BridgeKind::Linux,
            vlan: None,
            routes: Vec::new(),
            autoconf: Autoconf::Kernel,
            leases: Vec::new(),
            inbound: None,
            ..spec().nics.remove(0)
        };
        assert_eq!(read.nics, [nic]);
        // It ran nothing when it was kept alive.
        let mut kept = former.clone();
        kept["first"] = "keep_alive".into();
        fs::write(paths.boot_spec(&id), kept.to_string()).unwrap();
        let read = BootSpec::read(&paths, &id).unwrap().unwrap();
        assert!(read.args.is_empty() && read.first == FirstProcess::KeepAlive);
        // From this version on, both metrics are what was written.
        let mut later = serde_json::to_value(spec()).unwrap();
        later["version"] = SEPARATE_METRICS.into();
        fs::write(paths.boot_spec(&id), later.to_string()).unwrap();
        let read = BootSpec::read(&paths, &id).unwrap().unwrap();
        assert_eq!(read.nics, spec().nics);
    }

    #[test]
    fn name_servers_and_domains_of_an_earlier_build_are_read_and_hostile_ones_are_refused() {
        let (_dir, paths, id) = temporary();
        let mut former = serde_json::to_value(spec()).unwrap();
        former["dns"] = serde_json::json!(["10.77.0.1", "0.0.0.0", "fd00::53"]);
        former["search"] = serde_json::json!(["lan", "example.com"]);
        fs::write(paths.boot_spec(&id), former.to_string()).unwrap();
        let read = BootSpec::read(&paths, &id).unwrap().unwrap();
        assert_eq!((read.dns.len(), read.search.len()), (3, 2));
        for (key, value) in [
            ("dns", "1.1.1.1\noptions x"),
            ("search", "lan\nnameserver x"),
        ] {
            let mut bad = former.clone();
            bad[key] = serde_json::json!([value]);
            fs::write(paths.boot_spec(&id), bad.to_string()).unwrap();
            assert!(BootSpec::read(&paths, &id).is_err(), "{value:?}");
        }
    }

    #[test]
    fn the_tree_of_a_vm_that_an_earlier_version_started_is_read() {
        let (_dir, paths, id) = temporary();
        let mut former = serde_json::to_value(spec()).unwrap();
        former["version"] = serde_json::json!(3);
        former["disks"][0]["source"] = serde_json::json!({"tree": "/docker/overlay2/ab"});
        fs::write(paths.boot_spec(&id), former.to_string()).unwrap();
        let read = BootSpec::read(&paths, &id).unwrap().unwrap();
        let path = PathBuf::from("/docker/overlay2/ab");
        assert_eq!(read.disks[0].source, DiskSource::FormerTree(path));
    }

    #[test]
    fn attack_1_a_spec_with_a_bad_name_an_unknown_field_or_another_version_is_refused() {
        let (_dir, paths, id) = temporary();
        let good = serde_json::to_string(&spec()).unwrap();
        for (from, to) in [
            ("one-5-0", "../../etc"),
            ("\"vm\":5", "\"vm\":-5"),
            ("\"dns\"", "\"dnz\""),
            ("\"version\":6", "\"version\":7"),
            ("A=1", "1A=1"),
            ("0,2-3", "0,2-3\\n"),
            ("ndots:2", "ndots:2\\nnameserver 1.1.1.1"),
            ("db:10.77.0.7", "db:host-gateway"),
            ("\"version\":6", "\"version\":0"),
            ("\"vlan\":42", "\"vlan\":4095"),
            ("10.8.0.0/16", "10.8.0.0/64"),
            ("/srv/data", "/srv/../etc"),
            ("\"vdb\"", "\"null\""),
            ("10.77.0.42/24", "10.77.0.42/64"),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            fs::write(paths.boot_spec(&id), bad).unwrap();
            assert!(BootSpec::read(&paths, &id).is_err(), "{to}");
        }
    }

    #[test]
    fn a_spec_that_cannot_be_read_is_an_error_and_never_a_container_that_is_no_vm() {
        let (_dir, paths, id) = temporary();
        fs::create_dir(paths.boot_spec(&id)).unwrap();
        assert!(BootSpec::read(&paths, &id).is_err());
    }

    #[test]
    fn a_command_of_many_words_is_no_too_large_spec() {
        let (_dir, paths, id) = temporary();
        let mut long = spec();
        long.args = vec!["x".repeat(1000); 8];
        long.write(&paths, &id).unwrap();
        assert_eq!(BootSpec::read(&paths, &id).unwrap(), Some(long));
    }

    #[test]
    fn this_boot_has_the_kernel_s_id_without_its_line_end() {
        let id = boot_id().unwrap();
        assert_eq!((id.len(), id.matches('-').count()), (36, 4), "{id}");
        assert_eq!(boot_id().unwrap(), id);
    }
}
