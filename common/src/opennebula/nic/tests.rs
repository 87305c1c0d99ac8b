use super::*;
use crate::opennebula::vm::Vm;

const RECORDED: &str = include_str!("../../../testdata/deploy-7.4.0.xml");

fn nics(text: &str) -> Result<Vec<Nic>, XmlError> {
    Vm::from_deployment(text.as_bytes(), DEFAULT_PREFIX).map(|vm| vm.nics)
}

#[test]
fn a_traced_nic_has_its_mask_from_the_context_and_its_alias_address() {
    let nics = nics(RECORDED).unwrap();
    assert_eq!(nics.len(), 2);
    let first = &nics[0];
    assert_eq!(first.target.as_str(), "one-5-0");
    assert_eq!(first.bridge.as_str(), "onebr0");
    assert_eq!(first.mac.to_string(), "02:00:0a:4d:00:2a");
    assert_eq!(first.mtu, Some(1450));
    assert_eq!(first.gateway, Some(Ipv4Addr::new(10, 77, 0, 1)));
    let shown: Vec<String> = first.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.77.0.42/24", "10.77.0.24/24"]);
}

#[test]
fn the_mask_comes_from_context_then_network_then_the_site_s_default() {
    let mask = |text: &str| nics(text).unwrap()[1].addresses[0].prefix();
    let context = "<ETH1_MASK><![CDATA[255.255.255.0]]></ETH1_MASK>";
    assert_eq!(
        mask(&RECORDED.replace(context, "<ETH1_MASK>255.255.0.0</ETH1_MASK>")),
        16
    );
    let own = RECORDED.replace(context, "").replace(
        "<TARGET><![CDATA[one-5-1]]>",
        "<NETWORK_MASK>255.255.255.192</NETWORK_MASK><TARGET><![CDATA[one-5-1]]>",
    );
    assert_eq!(mask(&own), 26);
    let nobody = RECORDED.replace(context, "");
    assert_eq!(mask(&nobody), 24);
    let vm = Vm::from_deployment(nobody.as_bytes(), 20).unwrap();
    assert_eq!(vm.nics[1].addresses[0].prefix(), 20);
    assert!(nics(&RECORDED.replace(context, "<ETH1_MASK>255.0.255.0</ETH1_MASK>")).is_err());
}

#[test]
fn a_nic_that_cannot_be_made_is_named_with_its_element() {
    for (from, to, path) in [
        (
            "02:00:0a:4d:00:17]]></MAC>\n   <MODEL",
            "02:00:0a]]></MAC>\n   <MODEL",
            "VM/TEMPLATE/NIC[1]/MAC",
        ),
        (
            "<TARGET><![CDATA[one-5-1]]>",
            "<TARGET><![CDATA[../../x]]>",
            "VM/TEMPLATE/NIC[1]/TARGET",
        ),
        (
            "<MTU><![CDATA[1450]]></MTU>\n   <NAME><![CDATA[NIC1",
            "<MTU>9</MTU>\n   <NAME><![CDATA[NIC1",
            "VM/TEMPLATE/NIC[1]/MTU",
        ),
        (
            "<PARENT_ID><![CDATA[0]]>",
            "<PARENT_ID><![CDATA[7]]>",
            "VM/TEMPLATE/NIC_ALIAS[0]/PARENT_ID",
        ),
    ] {
        let text = RECORDED.replace(from, to);
        assert_ne!(text, RECORDED, "{from}");
        let error = nics(&text).unwrap_err().to_string();
        assert!(error.starts_with(path), "{error}");
    }
}

/// The recorded document with this put into one of its NICs.
fn with(nic: u32, text: &str) -> String {
    let mark = format!("<TARGET><![CDATA[one-5-{nic}]]></TARGET>");
    assert!(RECORDED.contains(&mark));
    RECORDED.replace(&mark, &format!("{mark}{text}"))
}

#[test]
fn what_the_kernel_would_refuse_with_a_number_is_refused_with_its_reason() {
    let mtu = "<MTU><![CDATA[1450]]></MTU>\n   <NAME><![CDATA[NIC1";
    let small = "<MTU>1279</MTU>\n   <NAME><![CDATA[NIC1";
    let ip = "<IP><![CDATA[10.77.0.23]]></IP>\n   <MAC>";
    let mac = "02:00:0a:4d:00:17]]></MAC>\n   <MODEL";
    for (text, reason) in [
        (
            with(1, "<IP6>fd00::5</IP6>").replace(mtu, small),
            "NIC[1]/MTU in the XML: 1279 is too small for the NIC's IPv6 address",
        ),
        (
            RECORDED.replace(mac, "01:00:5e:00:00:01]]></MAC>\n   <MODEL"),
            "NIC[1]/MAC in the XML: \"01:00:5e:00:00:01\" cannot be the MAC address",
        ),
        (
            RECORDED.replace(mac, "02:00:0a:4d:00:2a]]></MAC>\n   <MODEL"),
            "NIC 0 and NIC 1 both have MAC=02:00:0a:4d:00:2a on the bridge onebr0",
        ),
        (
            RECORDED.replace("<TARGET><![CDATA[one-5-1]]>", "<TARGET><![CDATA[one-5-0]]>"),
            "NIC 0 and NIC 1 both have TARGET=one-5-0",
        ),
        (
            RECORDED.replace(ip, "<IP>239.0.0.1</IP>\n   <MAC>"),
            "NIC[1]/IP in the XML: 239.0.0.1 is not an address that an interface can have",
        ),
        (
            with(1, "<IP6>ff02::1</IP6>"),
            "NIC[1]/IP6 in the XML: ff02::1 is not an address",
        ),
        (
            RECORDED.replace(
                "<ETH1_GATEWAY><![CDATA[10.77.0.1]]>",
                "<ETH1_GATEWAY><![CDATA[10.77.0.23]]>",
            ),
            "NIC[1]/GATEWAY in the XML: 10.77.0.23 is the NIC's own address",
        ),
    ] {
        assert_ne!(text, RECORDED, "{reason}");
        let error = nics(&text).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let least = "<MTU>1280</MTU>\n   <NAME><![CDATA[NIC1";
    let enough = with(1, "<IP6>fd00::5</IP6>").replace(mtu, least);
    assert_eq!(nics(&enough).unwrap()[1].mtu, Some(1280));
    // Without IPv6, and on another bridge, neither is wrong.
    assert_eq!(
        nics(&RECORDED.replace(mtu, small)).unwrap()[1].mtu,
        Some(1279)
    );
    let second = RECORDED.rfind("<BRIDGE><![CDATA[onebr0]]>").unwrap();
    let second = RECORDED[..second]
        .rfind("<BRIDGE><![CDATA[onebr0]]>")
        .unwrap();
    let mut apart = RECORDED.to_owned();
    apart.replace_range(
        second.."<BRIDGE><![CDATA[onebr0".len() + second,
        "<BRIDGE><![CDATA[onebr1",
    );
    let apart = apart.replace(mac, "02:00:0a:4d:00:2a]]></MAC>\n   <MODEL");
    assert_eq!(nics(&apart).unwrap().len(), 2);
}

#[test]
fn the_mtu_inside_is_guest_mtu_which_stands_before_mtu() {
    assert_eq!(nics(RECORDED).unwrap()[1].mtu, Some(1450));
    let own = with(1, "<GUEST_MTU>1400</GUEST_MTU>");
    assert_eq!(nics(&own).unwrap()[1].mtu, Some(1400));
    let context = own.replace("<ETH1_MTU/>", "<ETH1_MTU>1300</ETH1_MTU>");
    assert_eq!(nics(&context).unwrap()[1].mtu, Some(1300));
    assert!(nics(&with(1, "<GUEST_MTU>9</GUEST_MTU>")).is_err());
}

#[test]
fn attack_1_an_odd_name_server_or_domain_is_left_out_with_a_line_and_the_others_stay() {
    let text = RECORDED
        .replace(
            "<ETH0_DNS><![CDATA[10.77.0.1 9.9.9.9]]>",
            "<ETH0_DNS><![CDATA[10.77.0.1, nowhere fe80::1%eth0]]>",
        )
        .replace(
            "<ETH0_SEARCH_DOMAIN/>",
            "<ETH0_SEARCH_DOMAIN>lan. _sip.example.com a..b</ETH0_SEARCH_DOMAIN>",
        );
    let vm = Vm::from_deployment(text.as_bytes(), DEFAULT_PREFIX).unwrap();
    let shown = |list: &[NameServer]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(&vm.nics[0].dns), ["10.77.0.1", "fe80::1%eth0"]);
    assert_eq!(shown(&vm.dns()), ["10.77.0.1", "fe80::1%eth0", "9.9.9.9"]);
    let search: Vec<_> = vm
        .search_domains()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(search, ["lan", "_sip.example.com"]);
    assert_eq!(vm.left_out.len(), 2, "{:?}", vm.left_out);
    assert!(vm.left_out[0].starts_with("CONTEXT/ETH0_DNS: \"nowhere\" is not the address"));
    assert!(vm.left_out[1].starts_with("CONTEXT/ETH0_SEARCH_DOMAIN: \"a..b\" is not a domain"));
    assert!(vm.left_out[1].ends_with("; it is left out"));
    assert!(
        Vm::from_deployment(RECORDED.as_bytes(), DEFAULT_PREFIX)
            .unwrap()
            .left_out
            .is_empty()
    );
}

#[test]
fn an_alias_that_is_external_is_no_address_of_the_vm() {
    let empty = "<ETH0_ALIAS0_EXTERNAL/>";
    let external = "<ETH0_ALIAS0_EXTERNAL>YES</ETH0_ALIAS0_EXTERNAL>";
    let addresses = |text: &str| nics(text).unwrap()[0].addresses.len();
    assert_eq!(addresses(RECORDED), 2);
    assert_eq!(addresses(&RECORDED.replace(empty, external)), 1);
}

#[test]
fn the_metric_of_ipv6_is_its_own_else_that_of_ipv4() {
    let metrics = |text: &str| {
        let nics = nics(text).unwrap();
        (nics[0].metric, nics[0].metric6)
    };
    assert_eq!(metrics(RECORDED), (None, None));
    let with = |own: &str| {
        RECORDED
            .replace("<ETH0_METRIC/>", "<ETH0_METRIC>7</ETH0_METRIC>")
            .replace("<ETH0_IP6_METRIC/>", own)
    };
    assert_eq!(metrics(&with("<ETH0_IP6_METRIC/>")), (Some(7), Some(7)));
    let both = with("<ETH0_IP6_METRIC>9</ETH0_IP6_METRIC>");
    assert_eq!(metrics(&both), (Some(7), Some(9)));
    assert!(nics(&with("<ETH0_IP6_METRIC>x</ETH0_IP6_METRIC>")).is_err());
}

#[test]
fn a_nic_that_somebody_inside_configures_has_no_address_from_us() {
    let text = RECORDED.replace("<ETH1_METHOD/>", "<ETH1_METHOD>skip</ETH1_METHOD>");
    let nics = nics(&text).unwrap();
    assert_eq!((nics[1].method, nics[1].addresses.len()), (Method::Skip, 0));
}

#[test]
fn addresses_are_set_as_their_family_s_method_says_and_leased_all_the_same() {
    let with = |text: &str| {
        let marked = RECORDED.replace(
            "<TARGET><![CDATA[one-5-0]]>",
            &format!("{text}<IP6>fd00::5</IP6><TARGET><![CDATA[one-5-0]]>"),
        );
        let marked = marked.replace("<NIC_ALIAS>", "<NIC_ALIAS><IP6>fd00::9</IP6>");
        nics(&marked).unwrap().remove(0)
    };
    let shown =
        |nic: &Nic| -> Vec<String> { nic.addresses.iter().map(|a| a.ip().to_string()).collect() };
    let all = ["10.77.0.42", "fd00::5", "10.77.0.24", "fd00::9"];
    for (text, set, autoconf) in [
        ("", &all[..], Autoconf::Off),
        ("<METHOD>skip</METHOD>", &[][..], Autoconf::Kernel),
        (
            "<IP6_METHOD>auto</IP6_METHOD>",
            &["10.77.0.42", "10.77.0.24"][..],
            Autoconf::Kernel,
        ),
        (
            "<IP6_METHOD>disable</IP6_METHOD>",
            &["10.77.0.42", "10.77.0.24"][..],
            Autoconf::NoIpv6,
        ),
        (
            "<METHOD>skip</METHOD><IP6_METHOD>static</IP6_METHOD>",
            &["fd00::5", "fd00::9"][..],
            Autoconf::Off,
        ),
    ] {
        let nic = with(text);
        assert_eq!(shown(&nic), set, "{text}");
        assert_eq!(nic.autoconf, autoconf, "{text}");
        let leases: Vec<String> = nic.leases.iter().map(ToString::to_string).collect();
        assert_eq!(leases, all, "{text}");
    }
}

#[test]
fn an_ipv6_alias_does_not_end_what_routers_advertise() {
    let text = RECORDED.replace("<NIC_ALIAS>", "<NIC_ALIAS><IP6>fd00::9</IP6>");
    let nic = nics(&text).unwrap().remove(0);
    assert_eq!(nic.addresses.len(), 3);
    assert_eq!(nic.autoconf, Autoconf::Kernel);
}

#[test]
fn routes_bandwidths_and_tags_are_read_and_odd_ones_are_named() {
    let with = |text: &str| {
        nics(&RECORDED.replace(
            "<TARGET><![CDATA[one-5-0]]>",
            &format!("{text}<TARGET><![CDATA[one-5-0]]>"),
        ))
    };
    let nic = with(
        "<ROUTES>10.8.0.0/16 via 10.77.0.9</ROUTES><OUTBOUND_AVG_BW>7</OUTBOUND_AVG_BW><VLAN_ID>42</VLAN_ID>",
    )
    .unwrap()
    .remove(0);
    assert_eq!(nic.routes.len(), 1);
    assert_eq!(nic.outbound.unwrap().average, 7000);
    // The tag is the bridge's here.
    assert_eq!(nic.vlan, None);
    for (text, key) in [
        ("<ROUTES>everywhere</ROUTES>", "NIC[0]/ROUTES"),
        (
            "<INBOUND_AVG_BW>fast</INBOUND_AVG_BW>",
            "NIC[0]/INBOUND_AVG_BW",
        ),
        (
            "<INBOUND_PEAK_BW>7</INBOUND_PEAK_BW>",
            "NIC[0]/INBOUND_AVG_BW",
        ),
        ("<IP6_METHOD>magic</IP6_METHOD>", "NIC[0]/IP6_METHOD"),
    ] {
        let error = with(text).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
    let switch = RECORDED
        .replace("<![CDATA[linux]]>", "openvswitch")
        .replace("<![CDATA[bridge]]>", "ovswitch")
        .replace(
            "<TARGET><![CDATA[one-5-0]]>",
            "<VLAN_ID>42</VLAN_ID><TARGET><![CDATA[one-5-0]]>",
        );
    let nic = nics(&switch).unwrap().remove(0);
    assert_eq!(nic.vlan, "42".parse().ok());
    assert_eq!(nic.bridge_kind, BridgeKind::OpenVSwitch);
}

#[test]
fn an_alias_that_is_attached_comes_or_goes_as_the_context_has_it() {
    let marked = |text: &str| {
        let document = RECORDED.replace("<ALIAS_ID>", "<ATTACH>YES</ATTACH><ALIAS_ID>");
        let vm = Vm::from_deployment(document.replace("ETH0_ALIAS0_MAC", text).as_bytes(), 24);
        let vm = vm.unwrap();
        (vm.changing_alias.unwrap(), vm.nics[0].addresses.len())
    };
    let (alias, addresses) = marked("ETH0_ALIAS0_MAC");
    assert_eq!((alias.comes, addresses), (Some(true), 2));
    assert_eq!((alias.id.get(), alias.parent.get()), (2, 0));
    assert_eq!(alias.addresses[0].to_string(), "10.77.0.24/24");
    assert_eq!(alias.mac.to_string(), "02:00:0a:4d:00:18");
    let (alias, addresses) = marked("NONE_OF_IT");
    assert_eq!((alias.comes, addresses), (Some(false), 1));
    // An alias that stays is the NIC's although the context has nothing of it.
    let vm = |text: &str| Vm::from_deployment(text.as_bytes(), 24).unwrap();
    let plain = vm(&RECORDED.replace("ETH0_ALIAS0_MAC", "NONE_OF_IT"));
    assert_eq!(plain.nics[0].addresses.len(), 2);
    assert_eq!(plain.changing_alias, None);
    // Without a network in the context nobody says it.
    let silent = RECORDED
        .replace("<ALIAS_ID>", "<ATTACH>YES</ATTACH><ALIAS_ID>")
        .replace("<NETWORK><![CDATA[YES]]>", "<NETWORK><![CDATA[NO]]>");
    let silent = vm(&silent);
    assert_eq!(silent.changing_alias.unwrap().comes, None);
    assert_eq!(silent.nics[0].addresses.len(), 2);
}
