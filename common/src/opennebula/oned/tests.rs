//! What is written here is read again as the drivers read it.

use std::net::Ipv4Addr;

use super::context::{context, context_sh};
use super::datastore::Datastore;
use super::vm::{Disk, Nic, Vm, action};
use super::*;
use crate::opennebula::image::DatastoreAction;
use crate::opennebula::vm::Vm as ReadVm;
use crate::types::ids::{DatastoreId, DiskId, ImageId, VmId};
use crate::types::names::IfName;

const VM: VmId = VmId::new(0x0102_0304);
const PREFIX: u8 = 24;

fn texts(all: &[(&str, &str)]) -> Attributes {
    let texts = all.iter().map(|(name, text)| (*name, (*text).to_owned()));
    texts.collect()
}

fn disk(number: usize, persistent: bool) -> Attributes {
    let disk = Disk {
        number,
        image: ImageId::new(6),
        image_name: "web",
        datastore: (DatastoreId::new(1), "default"),
        source: "docker://h:5000/a@sha256:00",
        format: "raw",
        size_mb: 64,
        persistent,
        dockerrun: persistent.then_some("httpd -f"),
    };
    disk.attributes()
}

fn nic(number: usize, bridge: &IfName, ip: Option<Ipv4Addr>) -> Nic<'_> {
    Nic {
        vm: VM,
        number,
        bridge,
        ip,
        mask: Some("255.255.0.0"),
        mac: None,
    }
}

#[test]
fn attributes_keep_their_order_and_the_later_ones_stand_alone() {
    let mut given = texts(&[("A", "1"), ("B", "2"), ("A", "3")]);
    given.push("V", Value::Vector(texts(&[("C", "]]> <x>"), ("D", "")])));
    assert_eq!((given.get("A"), given.get("V")), (Some("1"), None));
    assert_eq!((given.get("B"), given.get("C")), (Some("2"), None));
    let all = given.overridden_by(texts(&[("A", "4")]));
    assert_eq!(
        all.xml(),
        "<B><![CDATA[2]]></B>\
         <V><C><![CDATA[]]]]><![CDATA[> <x>]]></C><D/></V>\
         <A><![CDATA[4]]></A>"
    );
    let mut same = Attributes::default();
    same.text("B", "2");
    let pairs = [("B".to_owned(), Value::Text("2".to_owned()))];
    assert_eq!(pairs.into_iter().collect::<Attributes>(), same);
}

#[test]
fn a_vm_is_read_as_it_is_described() {
    let bridge: IfName = "onebr0".parse().unwrap();
    let ip = Ipv4Addr::new(10, 77, 0, 42);
    let nics = [nic(0, &bridge, Some(ip)).attributes()];
    let given = texts(&[("NETWORK", "yes"), ("SET_HOSTNAME", "$NAME-$VMID")]);
    let vm = Vm {
        name: "web".to_owned(),
        cpu: "0.5".to_owned(),
        vcpu: Some("2".to_owned()),
        memory: "256".to_owned(),
        disks: vec![disk(0, false), disk(1, true)],
        context: Some(context(&given, (VM, "web"), 2, &nics)),
        nics: nics.to_vec(),
        template: texts(&[("GRAPHICS", "x")]),
        user_template: texts(&[("LABELS", "y")]),
    };
    let document = vm.deployment(VM, "node1", DatastoreId::new(101));
    let read = ReadVm::from_deployment(document.as_bytes(), PREFIX).unwrap();
    assert_eq!((read.id, read.name.as_str()), (VM, "web"));
    assert_eq!((read.lcm_state, &read.deploy_id), (2, &None));
    assert_eq!(read.capacity.vcpu, Some(2));
    assert_eq!(read.capacity.memory_mib, 256);
    let placement = read.placement.as_ref().unwrap();
    assert_eq!(placement.host, "node1");
    assert_eq!(placement.datastore, DatastoreId::new(101));
    let [system, data] = &read.disks[..] else {
        panic!("{:?}", read.disks);
    };
    assert_eq!((system.id, data.id), (DiskId::new(0), DiskId::new(1)));
    assert_eq!((system.save, data.save), (false, true));
    assert_eq!(system.target.as_deref(), Some("sda"));
    assert_eq!(data.target.as_deref(), Some("sdb"));
    assert_eq!(data.dockerrun.as_deref(), Some("httpd -f"));
    assert_eq!(data.size_mib, Some(64));
    assert_eq!(disk(0, false).get("CLONE"), Some("YES"));
    assert_eq!(disk(0, true).get("CLONE"), Some("NO"));
    assert_eq!(read.nics[0].mac.to_string(), "02:00:0a:4d:00:2a");
    assert_eq!(read.nics[0].addresses[0].to_string(), "10.77.0.42/16");
    let inside = read.context.as_ref().unwrap();
    assert_eq!(inside.disk, DiskId::new(2));
    assert_eq!(inside.get("TARGET"), Some("sdc"));
    assert_eq!(inside.get("SET_HOSTNAME"), Some("web-16909060"));
    assert_eq!(inside.get("ETH0_MASK"), Some("255.255.0.0"));
    let graphics = crate::opennebula::xml::Element::document(document.as_bytes(), "VM").unwrap();
    let template = graphics.node().required_child("TEMPLATE").unwrap();
    assert_eq!(template.text("GRAPHICS"), Ok(Some("x")));
    assert!(read.user_template.is_some());

    let document = action(&document, VM, "node1");
    let read = ReadVm::from_action(document.as_bytes()).unwrap();
    assert_eq!(read.id, VM);
    assert!(document.contains("<DEPLOY_ID><![CDATA[one-16909060]]></DEPLOY_ID>"));
}

#[test]
fn a_nic_without_an_address_has_one_of_its_vm_that_no_address_gives() {
    let bridge: IfName = "onebr0".parse().unwrap();
    assert_eq!(nic(3, &bridge, None).mac(), "02:00:f3:02:03:04");
    assert_eq!(nic(18, &bridge, None).mac(), "02:00:f2:02:03:04");
    let mac = "02:00:00:00:00:01".parse().unwrap();
    let given = Nic {
        mac: Some(mac),
        ..nic(0, &bridge, None)
    };
    assert_eq!(given.attributes().get("MAC"), Some("02:00:00:00:00:01"));
}

#[test]
fn a_context_names_the_nics_only_of_a_vm_that_asks_for_its_network() {
    let nics = [texts(&[("IP", "10.77.0.42")])];
    let silent = context(&texts(&[("NETWORK", "NO")]), (VM, "web"), 1, &nics);
    assert_eq!(silent.get("ETH0_IP"), None);
    let asked = context(&texts(&[("NETWORK", "YES")]), (VM, "web"), 1, &nics);
    assert_eq!(asked.get("ETH0_IP").map(String::as_str), Some("10.77.0.42"));
    assert_eq!(
        context_sh([("A", "it's"), ("B", "")]),
        "# Context variables generated by OpenNebula\nA='it'\\''s'\nB=''\n"
    );
}

#[test]
fn a_datastore_s_request_is_read_as_it_is_written() {
    let datastore = Datastore {
        id: DatastoreId::new(1),
        name: "default",
        base_path: Some("/var/lib/one/datastores/1"),
        safe_dirs: "/var/tmp /srv",
    };
    let request = datastore.request("<ID>6</ID>");
    let read = DatastoreAction::from_base64(request.into_bytes()).unwrap();
    assert_eq!(read.image.unwrap().id, Some(ImageId::new(6)));
    assert_eq!(read.datastore.id, Some(DatastoreId::new(1)));
    assert_eq!(read.datastore.safe_dirs, ["/var/tmp", "/srv"]);
    assert_eq!(
        read.datastore.base_path.as_deref(),
        Some("/var/lib/one/datastores/1")
    );
}
