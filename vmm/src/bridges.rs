//! What the bridges of this host have to say about a VM's NICs.

use std::fs;
use std::path::Path;

use onedock_common::opennebula::nic::Nic;
use onedock_common::types::nic::BridgeKind;

/// Where the kernel shows its links.
pub(crate) const LINKS: &str = "/sys/class/net";

/// A line for each NIC whose MTU is above its bridge's: what is larger than the bridge's MTU
/// reaches other VMs on the bridge, but not the host and not what lies behind it. The kernel
/// takes it without an error. A bridge that is missing is reported where the NIC is plugged.
pub(crate) fn larger_mtu(nics: &[Nic], links: &Path) -> Vec<String> {
    nics.iter()
        .filter(|nic| nic.bridge_kind == BridgeKind::Linux)
        .filter_map(|nic| {
            let mtu = nic.mtu?;
            let text = fs::read_to_string(links.join(nic.bridge.as_str()).join("mtu")).ok()?;
            let bridge: u32 = text.trim().parse().ok()?;
            (mtu > bridge).then(|| {
                format!(
                    "NIC {} has an MTU of {mtu}, and its bridge {} has {bridge}: larger packets than that do not leave the bridge; lower the network's MTU, or raise the bridge's",
                    nic.id, nic.bridge
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use onedock_common::opennebula::nic::DEFAULT_PREFIX;
    use onedock_common::opennebula::vm::Vm;

    #[test]
    fn an_mtu_above_the_bridge_s_is_said_and_an_unknown_bridge_is_left_to_others() {
        let text = include_str!("../../common/testdata/deploy-7.4.0.xml");
        let nics = Vm::from_deployment(text.as_bytes(), DEFAULT_PREFIX)
            .unwrap()
            .nics;
        let links = tempfile::tempdir().unwrap();
        assert!(larger_mtu(&nics, links.path()).is_empty());
        fs::create_dir(links.path().join("onebr0")).unwrap();
        let said = |mtu: &str| {
            fs::write(links.path().join("onebr0/mtu"), mtu).unwrap();
            larger_mtu(&nics, links.path())
        };
        assert!(said("1450\n").is_empty());
        let lines = said("1449\n");
        assert_eq!(lines.len(), 2);
        assert!(lines[1].starts_with("NIC 1 has an MTU of 1450, and its bridge onebr0 has 1449"));
    }
}
