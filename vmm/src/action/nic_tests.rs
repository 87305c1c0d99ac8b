//! NICs and aliases that come and go while the VM runs, cut off at every call of root.

use onedock_common::VmId;
use onedock_common::engine::fake::Failure;
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::boot::{BootSpec, Nic};
use onedock_common::types::nic::Bandwidth;

use super::fake_node::{FakeNode, action, small};

/// LCM_STATE while a NIC is attached or detached, of a VM that runs and of one that is powered off.
const HOTPLUG: u32 = 25;
const POWERED_OFF: u32 = 65;

const MAC: &str = "02:00:0a:4d:00:19";
const ALIAS_MAC: &str = "02:00:0a:4d:00:1a";

/// A third NIC, as `oned` describes one that is attached.
fn third() -> String {
    format!(
        "<NIC><ATTACH>YES</ATTACH><BRIDGE>onebr0</BRIDGE><BRIDGE_TYPE>linux</BRIDGE_TYPE>\
         <GATEWAY>10.77.0.1</GATEWAY><IP>10.77.0.25</IP><MAC>{MAC}</MAC><MTU>1450</MTU>\
         <NIC_ID>3</NIC_ID><TARGET>one-5-3</TARGET><VN_MAD>bridge</VN_MAD></NIC>"
    )
}

/// An alias of NIC 1.
fn alias() -> String {
    format!(
        "<NIC_ALIAS><ALIAS_ID>0</ALIAS_ID><ATTACH>YES</ATTACH><IP>10.77.0.26</IP>\
         <MAC>{ALIAS_MAC}</MAC><NIC_ID>4</NIC_ID><PARENT_ID>1</PARENT_ID></NIC_ALIAS>"
    )
}

/// The document of the running VM with this in its template.
fn with(text: &str) -> String {
    let document = small().replacen("<TEMPLATE>", &format!("<TEMPLATE>{text}"), 1);
    action(&document, HOTPLUG)
}

/// CONTEXT's variables of the alias, which `oned` writes while it is attached.
fn in_context(document: &str) -> String {
    let variables = format!(
        "<CONTEXT><ETH1_ALIAS0_IP>10.77.0.26</ETH1_ALIAS0_IP>\
         <ETH1_ALIAS0_MASK>255.255.255.0</ETH1_ALIAS0_MASK>\
         <ETH1_ALIAS0_MAC>{ALIAS_MAC}</ETH1_ALIAS0_MAC>"
    );
    document.replacen("<CONTEXT>", &variables, 1)
}

impl FakeNode {
    fn attach_nic(&self, document: &str) -> anyhow::Result<Answer> {
        let arguments = [
            "one-5", MAC, "onebr0", "-", "bridge", "one-5-3", "5", "node1",
        ];
        self.act("attach_nic", &arguments, document)
    }

    fn detach_nic(&self, mac: &str, document: &str) -> anyhow::Result<Answer> {
        self.act("detach_nic", &["one-5", mac, "5", "node1"], document)
    }

    fn reconfigure(&self, document: &str) -> anyhow::Result<Answer> {
        let prepare = ["one-5", "sdd", "5", "node1"];
        self.act("prereconfigure", &prepare, document)?;
        let disk = self.disk(5).display().to_string();
        self.act(
            "reconfigure",
            &["one-5", "sdd", &disk, "5", "node1"],
            document,
        )
    }

    fn booted_nics(&self) -> Vec<u32> {
        self.spec().nics.iter().map(|nic| nic.id.get()).collect()
    }

    fn addresses(&self, nic: u32) -> Vec<String> {
        let spec = self.spec();
        let nic = spec.nics.iter().find(|n| n.id.get() == nic).unwrap();
        nic.addresses.iter().map(ToString::to_string).collect()
    }

    /// What the container has is what the next start will have.
    fn assert_nics_agree(&self) {
        assert_eq!(self.host.root.nics(), Some(self.spec().nics));
    }
}

#[test]
fn an_attached_nic_is_there_now_and_after_a_reboot_and_goes_with_its_detach() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    for _ in 0..2 {
        assert_eq!(node.attach_nic(&with(&third())).unwrap().notes, [""; 0]);
        assert_eq!(node.booted_nics(), [0, 1, 3]);
        node.assert_nics_agree();
    }
    // The first NIC's default route counts.
    assert_eq!(node.spec().nics[2].metric, Some(200));
    node.reconfigure(&with(&third())).unwrap();
    assert_eq!(node.booted_nics(), [0, 1, 3]);
    node.end("reboot").unwrap();
    assert_eq!(node.booted_nics(), [0, 1, 3]);
    assert!(
        node.detach_nic(MAC, &with(&third()))
            .unwrap()
            .notes
            .is_empty()
    );
    assert_eq!(node.booted_nics(), [0, 1]);
    node.assert_nics_agree();
    // The document of the detach still has the NIC.
    node.reconfigure(&with(&third())).unwrap();
    assert_eq!(node.booted_nics(), [0, 1]);
    let again = node.detach_nic(MAC, &with(&third())).unwrap();
    assert_eq!(again.notes, ["the NIC was out of the VM already"]);
}

#[test]
fn an_attach_or_a_detach_cut_off_leaves_the_nics_of_before_and_the_retry_works() {
    for failure in [Failure::Before(1), Failure::After(1)] {
        let node = FakeNode::new();
        node.deploy().unwrap();
        let before = node.spec().nics;
        node.host.root.fail(Some(failure));
        node.attach_nic(&with(&third())).unwrap_err();
        assert_eq!(node.spec().nics, before, "{failure:?}");
        assert_eq!(node.host.root.nics(), Some(before), "{failure:?}");
        node.host.root.fail(None);
        node.attach_nic(&with(&third())).unwrap();
        node.host.root.fail(Some(failure));
        node.detach_nic(MAC, &with(&third())).unwrap_err();
        assert_eq!(node.booted_nics(), [0, 1, 3], "{failure:?}");
        node.assert_nics_agree();
        node.host.root.fail(None);
        node.detach_nic(MAC, &with(&third())).unwrap();
        assert_eq!(node.booted_nics(), [0, 1]);
        node.assert_nics_agree();
    }
}

#[test]
fn an_alias_comes_and_goes_as_the_context_says() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    let (comes, goes) = (in_context(&with(&alias())), with(&alias()));
    for _ in 0..2 {
        node.reconfigure(&comes).unwrap();
        assert_eq!(node.addresses(1), ["10.77.0.23/24", "10.77.0.26/24"]);
        node.assert_nics_agree();
    }
    for _ in 0..2 {
        node.reconfigure(&goes).unwrap();
        assert_eq!(node.addresses(1), ["10.77.0.23/24"]);
        node.assert_nics_agree();
    }
    node.reconfigure(&comes).unwrap();
    // What `oned` calls when a later step of the attach has failed.
    node.detach_nic(ALIAS_MAC, &comes).unwrap();
    assert_eq!(node.addresses(1), ["10.77.0.23/24"]);
    node.assert_nics_agree();
    node.host.root.fail(Some(Failure::After(1)));
    node.reconfigure(&comes).unwrap_err();
    assert_eq!(node.addresses(1), ["10.77.0.23/24"]);
    node.assert_nics_agree();
}

#[test]
fn without_a_network_in_the_context_an_alias_that_is_there_goes_and_any_other_comes() {
    let node = FakeNode::new();
    let silent = |text: &str| text.replace("<NETWORK><![CDATA[YES]]></NETWORK>", "");
    node.deploy_with(&silent(&small())).unwrap();
    let document = silent(&with(&alias()));
    assert_ne!(document, with(&alias()));
    let leases = || -> Vec<String> {
        let spec = node.spec();
        spec.nics[1]
            .leases
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    node.reconfigure(&document).unwrap();
    assert_eq!(node.addresses(1), ["10.77.0.23/24", "10.77.0.26/24"]);
    assert_eq!(leases(), ["10.77.0.23", "10.77.0.26"]);
    node.reconfigure(&document).unwrap();
    assert_eq!(node.addresses(1), ["10.77.0.23/24"]);
    assert_eq!(leases(), ["10.77.0.23"]);
}

#[test]
fn a_link_that_is_described_otherwise_stays_as_it_is_until_the_next_start() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    let before = node.spec().nics;
    let routed = with("").replace(
        "<ETH1_ROUTES/>",
        "<ETH1_ROUTES>10.8.0.0/16 via 10.77.0.9</ETH1_ROUTES>",
    );
    for (from, to) in [
        ("<![CDATA[onebr0]]>", "onebr9"),
        ("<![CDATA[linux]]>", "openvswitch"),
        ("<![CDATA[one-5-1]]>", "web"),
        ("<![CDATA[02:00:0a:4d:00:17]]>", "02:00:0a:4d:00:77"),
    ] {
        let other = routed.replace(from, to);
        assert_ne!(other, routed, "{from}");
        node.reconfigure(&other).unwrap();
        assert_eq!(node.spec().nics[1], before[1], "{to}");
    }
    node.reconfigure(&routed).unwrap();
    assert_ne!(node.spec().nics[1], before[1]);
}

#[test]
fn an_update_of_the_context_changes_addresses_and_routes_of_the_running_vm() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    node.reconfigure(&with("")).unwrap();
    assert_eq!(node.host.root.nics(), None, "nothing has changed");
    let changed = with("").replace(
        "<ETH1_ROUTES/>",
        "<ETH1_ROUTES>10.8.0.0/16 via 10.77.0.9</ETH1_ROUTES>",
    );
    node.reconfigure(&changed).unwrap();
    assert_eq!(node.spec().nics[1].routes.len(), 1);
    node.assert_nics_agree();
    // An MTU is the link's until the next start, and keeps nothing else from its effect.
    let other = changed
        .replace("via 10.77.0.9", "via 10.77.0.8")
        .replace("<ETH1_MTU/>", "<ETH1_MTU>1400</ETH1_MTU>");
    node.reconfigure(&other).unwrap();
    let nic = &node.spec().nics[1];
    assert_eq!(nic.routes[0].gateway.to_string(), "10.77.0.8");
    assert_eq!(nic.mtu, Some(1450));
    node.assert_nics_agree();
    let wrong = changed.replace("via 10.77.0.9", "by me");
    let error = node.reconfigure(&wrong).unwrap_err().to_string();
    assert!(error.contains("ETH1_ROUTES"), "{error}");
    assert_eq!(node.spec().nics[1].routes.len(), 1);
}

#[test]
fn a_nic_that_opennebula_has_given_up_goes_with_the_next_change() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    node.attach_nic(&with(&third())).unwrap();
    // A later step of the attach has failed: `oned` calls nothing, and frees the lease.
    node.reconfigure(&with("")).unwrap();
    assert_eq!(node.booted_nics(), [0, 1]);
    node.assert_nics_agree();
}

#[test]
fn a_vm_that_is_powered_off_has_the_nic_from_its_next_deploy_on() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    node.end("shutdown").unwrap();
    node.host.root.fail(None);
    let document = with(&third()).replace(
        &format!("<LCM_STATE>{HOTPLUG}<"),
        &format!("<LCM_STATE>{POWERED_OFF}<"),
    );
    node.attach_nic(&document).unwrap();
    node.detach_nic(MAC, &document).unwrap();
    assert!(node.host.root.requests().is_empty());
    // One that has died is not one that is powered off.
    let error = node.attach_nic(&with(&third())).unwrap_err().to_string();
    assert!(error.contains("does not run any more"), "{error}");
    let answer = node.detach_nic(MAC, &with(&third())).unwrap();
    assert!(answer.notes[0].contains("out of it"), "{answer:?}");
}

#[test]
fn a_dead_vm_is_not_restarted_with_a_nic_that_was_detached() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    node.attach_nic(&with(&third())).unwrap();
    node.end("shutdown").unwrap();
    node.detach_nic(MAC, &with(&third())).unwrap();
    assert_eq!(node.booted_nics(), [0, 1]);
}

#[test]
fn what_is_not_the_vm_s_is_refused_before_anything_is_done() {
    let node = FakeNode::new();
    let error = node.attach_nic(&with(&third())).unwrap_err().to_string();
    assert!(error.contains("one-5 is not on this host"), "{error}");
    node.deploy().unwrap();
    for (document, reason) in [
        (with(""), "has no NIC with MAC=02:00:0a:4d:00:19"),
        (
            with(&third().replace(MAC, "02:00:0a:4d:00:77")),
            "has no NIC with MAC=02:00:0a:4d:00:19",
        ),
        (
            with(&third()).replace("<ID>5</ID>", "<ID>6</ID>"),
            "describes VM 6",
        ),
        (
            with(&third().replace("one-5-3", "one-7-0")),
            "the name of an interface of VM 7",
        ),
        (
            with(&third().replace("<MTU>", "<METHOD>dhcp</METHOD><MTU>")),
            "METHOD=dhcp",
        ),
        (
            with(&third().replace("<MTU>", "<FILTER>clean-traffic</FILTER><MTU>")),
            "FILTER",
        ),
        (
            with(&third().replace("linux", "openvswitch_dpdk")),
            "use openvswitch",
        ),
    ] {
        let error = node.attach_nic(&document).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains(reason), "{reason}: {error}");
    }
    let error = node.detach_nic(MAC, &with("")).unwrap_err().to_string();
    assert!(error.contains("has no NIC with MAC"), "{error}");
    assert_eq!(node.booted_nics(), [0, 1]);
    assert!(node.host.root.nics().is_none());
    node.host.engine.change("one-5", |c| c.info.paused = true);
    let error = node.attach_nic(&with(&third())).unwrap_err().to_string();
    assert!(error.contains("suspended"), "{error}");
}

#[test]
fn a_bandwidth_is_changed_in_the_container_and_for_its_next_start() {
    let node = FakeNode::new();
    node.deploy().unwrap();
    let qos =
        |target: &str, inbound: &str| node.act("set_qos", &["one-5", target, inbound, "500,,"], "");
    qos("one-5-1", "1000,2000,100").unwrap();
    let nic: &Nic = &node.spec().nics[1];
    let inbound = Bandwidth {
        average: 1_000_000,
        peak: Some(2_000_000),
        burst: Some(102_400),
    };
    assert_eq!(nic.inbound, Some(inbound));
    assert_eq!(nic.outbound.unwrap().average, 500_000);
    assert_eq!(node.spec().nics[0].inbound, None);
    node.assert_nics_agree();
    let error = qos("one-5-9", ",,").unwrap_err().to_string();
    assert!(error.contains("has no NIC with TARGET=one-5-9"), "{error}");
    node.end("shutdown").unwrap();
    node.host.root.fail(None);
    qos("one-5-1", ",,").unwrap();
    assert!(node.host.root.requests().is_empty());
    let container = node.descriptor().container.unwrap();
    let spec = BootSpec::read(&node.host.paths, &container)
        .unwrap()
        .unwrap();
    assert_eq!(spec.vm, VmId::new(5));
}
