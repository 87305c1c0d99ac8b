//! Traffic of network links from `/proc/net/dev`, which is of this process's own network
//! namespace wherever sysfs was mounted, and one read for all links.

use std::collections::BTreeMap;

use onedock_common::VmId;
use onedock_common::types::decimal::parse_whole;

/// Bytes received and sent, as the one who owns the traffic sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    pub rx: u64,
    pub tx: u64,
}

fn links(dev: &str) -> impl Iterator<Item = (&str, Traffic)> {
    dev.lines().filter_map(|line| {
        let (name, numbers) = line.rsplit_once(": ").or_else(|| line.rsplit_once(':'))?;
        let mut numbers = numbers.split_ascii_whitespace();
        let rx = parse_whole(numbers.next()?).ok()?;
        let tx = parse_whole(numbers.nth(7)?).ok()?;
        Some((name.trim(), Traffic { rx, tx }))
    })
}

/// The traffic of every VM by the host ends of its NICs, which are named `one-<vm>-<nic>`. What
/// the host end received the VM has sent.
pub fn by_vm(dev: &str) -> BTreeMap<VmId, Traffic> {
    let mut vms: BTreeMap<VmId, Traffic> = BTreeMap::new();
    for (name, host) in links(dev) {
        let Some(vm) = owner(name) else { continue };
        let sum = vms.entry(vm).or_default();
        sum.rx = sum.rx.saturating_add(host.tx);
        sum.tx = sum.tx.saturating_add(host.rx);
    }
    vms
}

fn owner(name: &str) -> Option<VmId> {
    let (vm, nic) = name.strip_prefix("one-")?.split_once('-')?;
    parse_whole(nic).ok()?;
    vm.parse().ok()
}

/// The traffic of the host's own cards, chosen by name as OpenNebula's `linux.rb` does: `eth0`,
/// `ib0`, `em1`, `p1p1`, `eno1`, `ens3`, `enx<mac>`, `enp0s3`, `ena…`; a VLAN on a card would
/// count twice and is left out.
pub fn of_host(dev: &str) -> Traffic {
    links(dev)
        .filter(|(name, _)| is_card(name))
        .fold(Traffic::default(), |sum, (_, one)| Traffic {
            rx: sum.rx.saturating_add(one.rx),
            tx: sum.tx.saturating_add(one.tx),
        })
}

fn is_card(name: &str) -> bool {
    if name.contains(['.', '@']) {
        return false;
    }
    let digit_after = |prefix: &str| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))
    };
    let mac = name.strip_prefix("enx");
    ["eth", "ib", "em", "eno", "ens"]
        .iter()
        .any(|p| digit_after(p))
        || mac.is_some_and(|m| m.len() == 12 && m.bytes().all(|b| b.is_ascii_hexdigit()))
        || (digit_after("p") && name.matches('p').count() == 2)
        || ((digit_after("enp") || name.starts_with("enP")) && name.contains('s'))
        || (name.starts_with("ena") && name[3..].contains('i'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEV: &str = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:  999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0
  eth0: 1000 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0
eth0.100: 500 1 0 0 0 0 0 0 500 1 0 0 0 0 0 0
one-7-0:   11 1 0 0 0 0 0 0  22 1 0 0 0 0 0 0
one-7-1:    1 1 0 0 0 0 0 0   2 1 0 0 0 0 0 0
one-8-0:18446744073709551615 1 0 0 0 0 0 0 3 1 0 0 0 0 0 0
one-x-0:    1 1 0 0 0 0 0 0   2 1 0 0 0 0 0 0
docker0:    5 1 0 0 0 0 0 0   5 1 0 0 0 0 0 0
";

    #[test]
    fn a_vm_receives_what_its_host_ends_send() {
        let vms = by_vm(DEV);
        assert_eq!(vms[&VmId::new(7)], Traffic { rx: 24, tx: 12 });
        assert_eq!(
            vms[&VmId::new(8)],
            Traffic {
                rx: 3,
                tx: u64::MAX
            }
        );
        assert_eq!(vms.len(), 2);
    }

    #[test]
    fn the_host_s_traffic_is_that_of_its_cards() {
        assert_eq!(of_host(DEV), Traffic { rx: 1000, tx: 200 });
        let cards = [
            "eth0",
            "ib1",
            "em1",
            "p2p1",
            "eno1",
            "ens3f0",
            "enx0242ac110002",
            "enp0s3",
            "enP1p2s0",
        ];
        assert!(cards.iter().all(|c| is_card(c)));
        let others = [
            "lo", "docker0", "onebr0", "one-1-0", "veth12", "eth", "eth0.5", "ethernet", "p1",
            "enx1",
        ];
        assert!(!others.iter().any(|c| is_card(c)));
    }
}
