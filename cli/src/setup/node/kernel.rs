//! What the kernel of a node does with bridged packets.

use std::fs;

/// Whether security groups can work: they need bridged packets to pass iptables.
pub(super) fn bridge_filter() -> String {
    describe(
        fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables")
            .ok()
            .as_deref(),
    )
}

fn describe(setting: Option<&str>) -> String {
    match setting.map(str::trim) {
        Some("1") => "br_netfilter is on: bridged packets pass iptables, security groups work.".into(),
        Some(_) => "WARNING: net.bridge.bridge-nf-call-iptables is 0: security groups filter nothing; set it to 1 in /etc/sysctl.d.".into(),
        None => "WARNING: br_netfilter is not loaded: security groups filter nothing; modprobe br_netfilter, and name it in /etc/modules-load.d.".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_is_told() {
        assert!(describe(Some("1\n")).contains("is on"));
        assert!(describe(Some("0\n")).contains("set it to 1"));
        assert!(describe(None).contains("modprobe"));
    }
}
