//! What `oneadmin` may ask of `onedock-node`: one JSON object on its standard input.

use onedock_common::state::boot::{BootSpec, Disk, Nic};
use onedock_common::{ContainerId, DiskId, IfName, VmId};
use serde::{Deserialize, Serialize};

/// The largest request, in bytes.
pub const LIMIT: usize = 64 * 1024;

/// A request. Unknown actions and unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Remove host ends that are this VM's. Those of others, and names that nothing has, are
    /// left as they are.
    Unplug {
        vm: VmId,
        /// NIC/TARGET of each.
        host_ends: Vec<IfName>,
    },
    /// Give the running container these NICs in place of those that it has: some come, some go, some
    /// have other addresses, routes or bandwidths.
    ChangeNics {
        vm: VmId,
        container: ContainerId,
        nics: Vec<Nic>,
    },
    /// Give the running container the host name, name servers and domains of `spec` in place of those of
    /// `before`.
    ChangeNames {
        container: ContainerId,
        before: Box<BootSpec>,
        spec: Box<BootSpec>,
    },
    /// Show a further disk in the running container; one that is shown already stays.
    PlugDisk {
        vm: VmId,
        container: ContainerId,
        disk: Disk,
    },
    /// Take a disk out of the running container; refused while something in it uses the disk. One
    /// that is not there is taken out.
    UnplugDisk {
        vm: VmId,
        container: ContainerId,
        disk: DiskId,
    },
    /// Let a running container see a disk in its new size: the device, and the file system on it.
    /// A raw file was made longer before; a file in qcow2 format is made so here.
    GrowDisk {
        vm: VmId,
        container: ContainerId,
        disk: DiskId,
        /// The new size in MiB.
        size_mib: u64,
    },
    /// Bring what a (frozen) container wrote to a disk into the disk's file.
    SyncDisk {
        vm: VmId,
        container: ContainerId,
        disk: DiskId,
    },
    /// End what the engine has forgotten of a container that it takes for ended, and wait until its
    /// NICs and disks are gone.
    Settle { vm: VmId, container: ContainerId },
    /// Write a container's layer to standard output as an uncompressed layer archive, in place of
    /// the answer: extended attributes, hard links, device nodes and what was deleted with it, the
    /// drivers' own mount points without.
    PackLayer {
        container: ContainerId,
        /// The whole tree with the layers below, not only the changes.
        whole: bool,
    },
    /// Bound what a layer may hold, where the engine's storage keeps a project quota for it.
    BoundLayer {
        container: ContainerId,
        /// The bound in MiB.
        size_mib: u64,
    },
    /// Remove what is recorded of a container's layer when that is gone.
    ForgetLayer { container: ContainerId },
}

/// The answer on standard output: one JSON object on one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Always true; what failed is one line on standard error and exit code 1.
    pub done: bool,
    /// What the caller should report although it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Of [`Request::BoundLayer`]: the engine's storage keeps no quota for the layer, which is bounded
    /// by nothing but the room of the host.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unbounded: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_64_kibibytes_at_most() {
        // A thousand host ends fit; what is longer is no request of a driver.
        assert_eq!(LIMIT, 65_536);
    }

    #[test]
    fn attack_49_nothing_but_a_known_request_is_read() {
        let good = r#"{"action":"unplug","vm":5,"host_ends":["one-5-0"]}"#;
        assert!(serde_json::from_str::<Request>(good).is_ok());
        for bad in [
            r#"{"action":"unplug","vm":5,"host_ends":["one-5-0"],"force":true}"#,
            r#"{"action":"exec","vm":5}"#,
            r#"{"action":"unplug","vm":-5,"host_ends":[]}"#,
            r#"{"action":"unplug","vm":5,"host_ends":["../x"]}"#,
            r#"{"action":"unplug","vm":5}"#,
            r#"{}"#,
            "",
        ] {
            assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_layer_without_a_quota_is_said_and_nothing_else_of_it() {
        let plain = Answer {
            done: true,
            note: None,
            unbounded: false,
        };
        assert_eq!(serde_json::to_string(&plain).unwrap(), r#"{"done":true}"#);
        let unbounded = Answer {
            unbounded: true,
            ..plain
        };
        let text = serde_json::to_string(&unbounded).unwrap();
        assert_eq!(text, r#"{"done":true,"unbounded":true}"#);
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), unbounded);
    }
}
