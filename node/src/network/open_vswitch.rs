//! Ports of Open vSwitch bridges. OpenNebula's network drivers `ovswitch` and `ovswitch_vxlan` make the
//! bridge before a start, set tags, trunks and flows after it, and delete the port when the VM
//! has ended; in between a port outlives its link, with its tag, when a container is started anew.
//!
//! Flows against spoofing name a port by its OpenFlow number, which the switch chooses anew when a
//! link comes back: the number is asked for, so that they hold after every start.

use std::time::Duration;

use onedock_common::process::{Command, ProcessError};
use onedock_common::types::nic::VlanId;
use onedock_common::{IfName, VmId};
use thiserror::Error;

const TOOL: &str = "ovs-vsctl";
/// How long the switch may take; the tool itself ends before the runner ends it.
const SECONDS: &str = "10";
const LIMIT: Duration = Duration::from_secs(15);
/// `br-exists` answers this for no.
const ABSENT: i32 = 2;
/// How much of a reason is passed on, in bytes.
const QUOTED: usize = 500;
/// The key in `external_ids` of a port and its interface, whose value is the VM that has them.
const OWNER: &str = "onedock-vm";

/// Why a port was not made or removed.
#[derive(Debug, Error)]
pub enum SwitchError {
    /// The tool is not installed.
    #[error(
        "{TOOL} is not installed on this host; a network with BRIDGE_TYPE=openvswitch needs it (package openvswitch-switch)"
    )]
    NoTool,
    /// No such bridge.
    #[error(
        "there is no Open vSwitch bridge {0} on this host; check the virtual network's BRIDGE and VN_MAD"
    )]
    NoBridge(IfName),
    /// A port of somebody else.
    #[error(
        "Open vSwitch has a port {0} that is not this VM's; give the NIC another TARGET, or none, or remove the port (ovs-vsctl del-port {0})"
    )]
    NameTaken(IfName),
    /// The tool would read the name as something else.
    #[error(
        "the host end {0} cannot be a port of an Open vSwitch bridge by this name (a letter, then letters, digits, dots, hyphens and underscores); give the NIC another TARGET, or none"
    )]
    Name(IfName),
    /// A call failed.
    #[error("{TOOL} {call} failed: {reason}")]
    Failed {
        /// Its arguments.
        call: String,
        /// Its error.
        reason: String,
    },
}

/// Makes sure that the bridge is there, and that no port of somebody else has the name of the host end.
pub(super) fn check(vm: VmId, bridge: &IfName, port: &IfName) -> Result<(), SwitchError> {
    let exists = match call(&["br-exists", bridge.as_str()])? {
        Ok(_) => Ok(()),
        Err(Refusal {
            code: Some(ABSENT), ..
        }) => Err(SwitchError::NoBridge(bridge.clone())),
        Err(refusal) => Err(refusal.into()),
    };
    exists.and_then(|()| is_of(vm, port).map(drop))
}

/// Whether the switch forwards the bridge's frames itself, and takes them before the kernel's hooks do.
pub(super) fn is_userspace(bridge: &IfName) -> Result<bool, SwitchError> {
    let kind = call(&["get", "Bridge", bridge.as_str(), "datapath_type"])??;
    Ok(kind.trim().trim_matches('"') == "netdev")
}

/// Whether the VM has a port of this name; false when nobody has. One of somebody else is an error.
fn is_of(vm: VmId, port: &IfName) -> Result<bool, SwitchError> {
    let named = format!("name={port}");
    let ids = |table| {
        [
            "--no-headings",
            "--columns=external_ids",
            "find",
            table,
            &named,
        ]
    };
    if !is_plain(port) {
        return Err(SwitchError::Name(port.clone()));
    }
    // A bond is a port without an interface of its name.
    let found = call(&[&ids("Port")[..], &["--"], &ids("Interface")[1..]].concat())??;
    let mut rows = found
        .lines()
        .filter(|row| !row.trim().is_empty())
        .peekable();
    let is_there = rows.peek().is_some();
    let owner = format!("{OWNER}=\"{vm}\"");
    if rows.all(|row| row.contains(&owner)) {
        Ok(is_there)
    } else {
        Err(SwitchError::NameTaken(port.clone()))
    }
}

/// Whether the tool reads the name as it is written.
fn is_plain(port: &IfName) -> bool {
    let name = port.as_str();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(plain)
}

/// Makes a link a port of the bridge. One that is a port already keeps its tag and its number.
pub(super) fn add_port(
    vm: VmId,
    bridge: &IfName,
    port: &IfName,
    vlan: Option<VlanId>,
) -> Result<(), SwitchError> {
    let name = port.as_str();
    let mut add = vec!["--may-exist", "add-port", bridge.as_str(), name];
    if is_of(vm, port)? {
        // A switch that forwards frames by itself (`datapath_type=netdev`) holds on to the link that
        // is gone; with another type it lets go of it, and looks for the name anew.
        call(&["set", "Interface", name, "type=patch"])??;
        add.extend(["--", "set", "Interface", name, "type=system"]);
        call(&add)??;
        return Ok(());
    }
    let tag = vlan.map(|vlan| format!("tag={vlan}"));
    add.extend(tag.as_deref());
    let owner = format!("external_ids:{OWNER}=\"{vm}\"");
    for table in ["Port", "Interface"] {
        add.extend(["--", "set", table, name, &owner]);
    }
    call(&add)??;
    let number = call(&["get", "Interface", name, "ofport"])??;
    let number = number.trim();
    // A switch that cannot open the link answers -1.
    if number.parse::<u16>().is_ok_and(|number| number > 0) {
        let request = format!("ofport_request={number}");
        call(&["set", "Interface", name, &request])??;
    }
    Ok(())
}

/// Removes a port that the VM has, whatever bridge it is on.
pub(super) fn remove_port(vm: VmId, port: &IfName) -> Result<(), SwitchError> {
    if is_of(vm, port)? {
        call(&["--if-exists", "del-port", port.as_str()])??;
    }
    Ok(())
}

/// The tool's "no".
struct Refusal {
    code: Option<i32>,
    call: String,
    reason: String,
}

impl From<Refusal> for SwitchError {
    fn from(refusal: Refusal) -> Self {
        Self::Failed {
            call: refusal.call,
            reason: refusal.reason,
        }
    }
}

/// Its standard output.
fn call(arguments: &[&str]) -> Result<Result<String, Refusal>, SwitchError> {
    let shown = arguments.join(" ");
    let output = Command::new(TOOL)
        .bare()
        .args(["--timeout", SECONDS])
        .args(arguments)
        .within(LIMIT)
        .run();
    match output {
        Ok(output) if output.succeeded() => Ok(Ok(output.stdout)),
        Ok(output) => Ok(Err(Refusal {
            code: output.code,
            call: shown,
            reason: output.reason(QUOTED),
        })),
        Err(ProcessError::NotInstalled { .. }) => Err(SwitchError::NoTool),
        Err(error) => Err(SwitchError::Failed {
            call: shown,
            reason: error.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_the_tool_reads_otherwise_is_no_port() {
        for good in ["one-5-0", "web", "tap_1.7"] {
            assert!(is_plain(&good.parse().unwrap()), "{good}");
        }
        for bad in ["0web", "a,b", "a{b", "a\"b", "a=b", "_a", "7"] {
            assert!(!is_plain(&bad.parse().unwrap()), "{bad}");
        }
    }
}
