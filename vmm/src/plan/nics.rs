//! From the NICs of a VM's description to those that the runtime makes.

use anyhow::bail;
use onedock_common::opennebula::nic::{Ip6Method, Method, Nic};
use onedock_common::opennebula::vm::Vm;
use onedock_common::state::boot;
use onedock_common::{IfName, VmId};

/// The kernel's own metric of a route of IPv6 that names none (IP6_RT_PRIO_USER).
const METRIC6: u32 = 1024;
/// How much worse the default route of each further NIC is.
const WORSE: u32 = 100;

/// The NICs as the runtime is to make them. Of several default routes the first NIC's counts; the
/// others get a worse metric, where the template names none, because the kernel takes one route of a
/// metric only.
pub fn nics(vm: &Vm) -> anyhow::Result<Vec<boot::Nic>> {
    let (mut worst, mut worst6) = (None, None);
    vm.nics
        .iter()
        .map(|nic| {
            ensure_supported(vm, nic)?;
            let is_static = nic.method == Method::Static;
            let gateway = nic.gateway.filter(|_| is_static && has_ipv4(nic));
            let gateway6 = nic
                .gateway6
                .filter(|_| nic.ip6_method == Ip6Method::Static && has_ipv6(nic));
            Ok(boot::Nic {
                id: nic.id,
                host: nic.target.clone(),
                bridge: nic.bridge.clone(),
                bridge_kind: nic.bridge_kind,
                vlan: nic.vlan,
                mac: nic.mac,
                mtu: nic.mtu,
                addresses: nic.addresses.clone(),
                metric: metric(nic.metric, gateway.is_some(), 0, &mut worst),
                metric6: metric(nic.metric6, gateway6.is_some(), METRIC6, &mut worst6),
                gateway,
                gateway6,
                routes: nic.routes.iter().filter(|_| is_static).copied().collect(),
                autoconf: nic.autoconf,
                leases: nic.leases.clone(),
                inbound: nic.inbound,
                outbound: nic.outbound,
            })
        })
        .collect()
}

/// The metric of a NIC's default route: the template's, else, behind another NIC's, one above the
/// `worst` before it.
fn metric(given: Option<u32>, has_route: bool, usual: u32, worst: &mut Option<u32>) -> Option<u32> {
    if !has_route {
        return given;
    }
    let metric = given.or(worst.map(|worst| worst.saturating_add(WORSE)));
    *worst = Some(worst.unwrap_or(0).max(metric.unwrap_or(usual)));
    metric
}

fn has_ipv4(nic: &Nic) -> bool {
    nic.addresses.iter().any(|address| address.is_ipv4())
}

fn has_ipv6(nic: &Nic) -> bool {
    nic.addresses.iter().any(|address| address.is_ipv6())
}

fn ensure_supported(vm: &Vm, nic: &Nic) -> anyhow::Result<()> {
    if let Some(other) = named_after(&nic.target).filter(|other| *other != vm.id) {
        bail!(
            "NIC {} has TARGET={}, the name of an interface of VM {other}; take TARGET out of the template",
            nic.id,
            nic.target
        );
    }
    if nic.method == Method::Dhcp || nic.ip6_method == Ip6Method::Dhcp {
        let name = if nic.method == Method::Dhcp {
            "METHOD"
        } else {
            "IP6_METHOD"
        };
        bail!(
            "NIC {} asks for {name}=dhcp, which this version of the driver does not support; use static or skip",
            nic.id
        );
    }
    Ok(())
}

/// The VM of a name of the form that `oned` gives (`one-<vm>-<nic>`): a template that says TARGET
/// must not take the name of another VM's interface.
fn named_after(target: &IfName) -> Option<VmId> {
    let mut parts = target.as_str().strip_prefix("one-")?.split('-');
    let vm = parts.next()?.parse().ok()?;
    parts.next().map(|_| vm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use onedock_common::opennebula::nic::DEFAULT_PREFIX;
    use onedock_common::types::nic::BridgeKind;

    const RECORDED: &str = include_str!("../../../common/testdata/deploy-7.4.0.xml");

    fn vm() -> Vm {
        Vm::from_deployment(RECORDED.as_bytes(), DEFAULT_PREFIX).unwrap()
    }

    #[test]
    fn a_target_that_names_another_vms_interface_is_refused() {
        let mut vm = vm();
        for (target, good) in [
            ("one-5-1", true),
            ("web", true),
            ("one-web", true),
            ("one-6", true),
            ("one-6-0", false),
            ("one-06-0", false),
        ] {
            vm.nics[1].target = target.parse().unwrap();
            assert_eq!(nics(&vm).is_ok(), good, "{target}");
        }
    }

    #[test]
    fn a_nic_that_asks_for_dhcp_is_refused_by_its_number() {
        let refused = |change: fn(&mut Vm)| {
            let mut vm = vm();
            change(&mut vm);
            nics(&vm).unwrap_err().to_string()
        };
        let error = refused(|vm| vm.nics[1].method = Method::Dhcp);
        assert!(error.starts_with("NIC 1 asks for METHOD=dhcp"), "{error}");
        let error = refused(|vm| vm.nics[0].ip6_method = Ip6Method::Dhcp);
        assert!(
            error.starts_with("NIC 0 asks for IP6_METHOD=dhcp"),
            "{error}"
        );
        let mut vm = vm();
        vm.nics[1].method = Method::Skip;
        assert!(nics(&vm).is_ok());
    }

    #[test]
    fn a_default_route_needs_a_static_address_of_its_family() {
        let routes = |vm: &Vm| {
            let nics = nics(vm).unwrap();
            (nics[0].gateway, nics[0].gateway6)
        };
        let mut vm = vm();
        let nic = &mut vm.nics[0];
        let (gateway, gateway6) = ("10.0.0.1".parse().ok(), "fd00::1".parse().ok());
        nic.method = Method::Static;
        (nic.gateway, nic.gateway6) = (gateway, gateway6);
        nic.addresses = vec!["10.0.0.2/24".parse().unwrap()];
        assert_eq!(routes(&vm), (gateway, None));
        vm.nics[0].addresses = vec!["fd00::2/64".parse().unwrap()];
        assert_eq!(routes(&vm), (None, gateway6));
        vm.nics[0].addresses.push("10.0.0.2/24".parse().unwrap());
        assert_eq!(routes(&vm), (gateway, gateway6));
        vm.nics[0].routes = vec!["10.8.0.0/16 via 10.0.0.9".parse().unwrap()];
        assert_eq!(nics(&vm).unwrap()[0].routes.len(), 1);
        vm.nics[0].ip6_method = Ip6Method::Auto;
        assert_eq!(routes(&vm), (gateway, None));
        vm.nics[0].method = Method::Skip;
        assert_eq!(routes(&vm), (None, None));
        assert!(nics(&vm).unwrap()[0].routes.is_empty());
    }

    #[test]
    fn a_further_default_route_is_worse_than_any_before_it() {
        let metrics = |given: [Option<u32>; 2]| {
            let mut vm = vm();
            for (nic, metric) in vm.nics.iter_mut().zip(given) {
                (nic.metric, nic.metric6) = (metric, metric);
                nic.gateway6 = "fd00::1".parse().ok();
                nic.addresses.push("fd00::2/64".parse().unwrap());
            }
            let nics = nics(&vm).unwrap();
            [nics[1].metric, nics[1].metric6]
        };
        assert_eq!(metrics([None, None]), [Some(100), Some(1124)]);
        assert_eq!(metrics([Some(100), None]), [Some(200), Some(200)]);
        assert_eq!(metrics([Some(500), None]), [Some(600), Some(600)]);
        assert_eq!(metrics([Some(500), Some(7)]), [Some(7), Some(7)]);
        let mut vm = vm();
        vm.nics[0].gateway = None;
        assert_eq!(nics(&vm).unwrap()[1].metric, None, "the only default route");
    }

    #[test]
    fn kind_of_bridge_tag_and_bandwidths_are_the_template_s() {
        let mut vm = vm();
        vm.nics[1].bridge_kind = BridgeKind::OpenVSwitch;
        vm.nics[1].vlan = "42".parse().ok();
        let nics = nics(&vm).unwrap();
        assert_eq!(nics[1].bridge_kind, BridgeKind::OpenVSwitch);
        assert_eq!(nics[1].vlan, "42".parse().ok());
        let inbound = nics[1].inbound.unwrap();
        assert_eq!((inbound.average, inbound.peak), (1_000_000, None));
        assert_eq!((nics[0].inbound, nics[1].outbound), (None, None));
        assert_eq!(nics[0].bridge_kind, BridgeKind::Linux);
        assert_eq!(nics[0].leases.len(), 2);
    }
}
