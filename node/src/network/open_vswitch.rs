//! Ports of Open vSwitch bridges. OpenNebula's network drivers `ovswitch` and `ovswitch_vxlan` make the
//! bridge before a start, set tags, trunks and flows after it, and delete the port when the VM
//! has ended; in between a port outlives its link, with its tag, when a container is started anew.
//!
//! Flows against spoofing name a port by its OpenFlow number, which the switch chooses anew when a
//! link comes back: the number is asked for, so that they hold after every start.

use std::time::Duration;

use onedock_common::IfName;
use onedock_common::process::{Command, ProcessError};
use onedock_common::types::nic::VlanId;
use thiserror::Error;

const TOOL: &str = "ovs-vsctl";
/// How long the switch may take; the tool itself ends before the runner ends it.
const SECONDS: &str = "10";
const LIMIT: Duration = Duration::from_secs(15);
/// `br-exists` answers this for no.
const ABSENT: i32 = 2;
/// How much of a reason is passed on, in bytes.
const QUOTED: usize = 500;

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
    /// A call failed.
    #[error("{TOOL} {call} failed: {reason}")]
    Failed {
        /// Its arguments.
        call: String,
        /// Its error.
        reason: String,
    },
}

/// Makes sure that the bridge is there.
pub(super) fn ensure_bridge(bridge: &IfName) -> Result<(), SwitchError> {
    match call(&["br-exists", bridge.as_str()])? {
        Ok(_) => Ok(()),
        Err(Refusal {
            code: Some(ABSENT), ..
        }) => Err(SwitchError::NoBridge(bridge.clone())),
        Err(refusal) => Err(refusal.into()),
    }
}

/// Makes a link a port of the bridge. One that is a port already keeps its tag and its number.
pub(super) fn add_port(
    bridge: &IfName,
    port: &IfName,
    vlan: Option<VlanId>,
) -> Result<(), SwitchError> {
    let number = || call(&["--if-exists", "get", "Interface", port.as_str(), "ofport"]);
    let is_known = !number()??.trim().is_empty();
    let tag = vlan.map(|vlan| format!("tag={vlan}"));
    let mut add = vec!["--may-exist", "add-port", bridge.as_str(), port.as_str()];
    if is_known {
        // A switch that forwards frames by itself (`datapath_type=netdev`) holds on to the link that
        // is gone; with another type it lets go of it, and looks for the name anew.
        call(&["set", "Interface", port.as_str(), "type=patch"])??;
        add.extend(["--", "set", "Interface", port.as_str(), "type=system"]);
        call(&add)??;
        return Ok(());
    }
    add.extend(tag.as_deref());
    call(&add)??;
    let number = number()??;
    let number = number.trim();
    // A switch that cannot open the link answers -1.
    if number.parse::<u16>().is_ok_and(|number| number > 0) {
        let request = format!("ofport_request={number}");
        call(&["set", "Interface", port.as_str(), &request])??;
    }
    Ok(())
}

/// Removes a port, whatever bridge it is on.
pub(super) fn remove_port(port: &IfName) -> Result<(), SwitchError> {
    call(&["--if-exists", "del-port", port.as_str()])??;
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
