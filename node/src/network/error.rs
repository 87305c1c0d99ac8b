//! Why a NIC is not as it was asked for.

use std::io;

use onedock_common::opennebula::nic::IPV6_MTU;
use onedock_common::state::boot::Nic;
use onedock_common::{IfName, NicId};
use thiserror::Error;

use crate::namespace::NamespaceError;
use crate::network::guard::GuardError;
use crate::network::links::LinkError;
use crate::network::open_vswitch::SwitchError;

/// Why a NIC was not plugged or pulled.
#[derive(Debug, Error)]
pub enum PlugError {
    /// No such link.
    #[error(
        "bridge {bridge} of NIC {nic} does not exist on this host; check the virtual network's BRIDGE and VN_MAD"
    )]
    NoBridge {
        /// NIC/BRIDGE.
        bridge: IfName,
        nic: NicId,
    },
    /// Another kind of link.
    #[error("{bridge} of NIC {nic} is not a Linux bridge; check the virtual network's BRIDGE")]
    NotABridge {
        /// NIC/BRIDGE.
        bridge: IfName,
        nic: NicId,
    },
    /// Switched off.
    #[error("bridge {bridge} of NIC {nic} is down; switch it on (ip link set {bridge} up)")]
    BridgeDown {
        /// NIC/BRIDGE.
        bridge: IfName,
        nic: NicId,
    },
    /// The kernel's limit of ports.
    #[error("bridge {bridge} has no free port for NIC {nic} (a Linux bridge has 1023)")]
    BridgeFull {
        /// NIC/BRIDGE.
        bridge: IfName,
        nic: NicId,
    },
    /// Somebody else's device (fault 51).
    #[error(
        "a device named {host}, which is not this VM's, is in the way of NIC {nic}; remove or rename it"
    )]
    NameTaken {
        /// NIC/TARGET.
        host: IfName,
        nic: NicId,
    },
    /// Less than IPv6 needs: the kernel takes IPv6 off such a link, and answers the address with
    /// a number.
    #[error(
        "NIC {nic} on bridge {bridge} has an IPv6 address and an MTU of {mtu}, and IPv6 needs at least {IPV6_MTU}; raise the MTU of the network or of the bridge, or take the IPv6 address away"
    )]
    SmallMtu {
        nic: NicId,
        /// NIC/BRIDGE.
        bridge: IfName,
        /// NIC/MTU, else the bridge's.
        mtu: u32,
    },
    /// Two NICs of one VM, of which the second would replace the first.
    #[error("two NICs of the VM, {first} and {second}, have the same {what}")]
    Twice {
        /// The one before.
        first: NicId,
        /// The other.
        second: NicId,
        /// What they share, and its value.
        what: String,
    },
    /// A step that the kernel refused.
    #[error("NIC {nic} on bridge {bridge}: {step} failed: {source}")]
    Step {
        nic: NicId,
        /// NIC/BRIDGE.
        bridge: IfName,
        /// What was tried.
        step: String,
        /// The answer.
        source: LinkError,
    },
    /// Netlink itself.
    #[error("the links of this host cannot be read: {0}")]
    Links(#[from] LinkError),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A setting of the namespace.
    #[error("{path} in the container's network namespace cannot be set: {source}")]
    Setting {
        /// The file under `/proc/sys`.
        path: String,
        /// What the system answered.
        source: io::Error,
    },
    /// The guard of its host end.
    #[error("NIC {nic}: {source}")]
    Guard { nic: NicId, source: GuardError },
    /// An Open vSwitch bridge or its port.
    #[error("NIC {nic}: {source}")]
    Switch { nic: NicId, source: SwitchError },
}

pub(super) fn step<S: Into<String>>(
    nic: &Nic,
    step: S,
) -> impl FnOnce(LinkError) -> PlugError + use<S> {
    let (nic, bridge, step) = (nic.id, nic.bridge.clone(), step.into());
    move |source| PlugError::Step {
        nic,
        bridge,
        step,
        source,
    }
}

pub(super) fn switch(nic: &Nic) -> impl FnOnce(SwitchError) -> PlugError {
    let nic = nic.id;
    move |source| PlugError::Switch { nic, source }
}
