//! What `oned` hands to the drivers, in its form (7.4): the VM's XML, the datastore's requests,
//! `context.sh`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onedock::edit::template_read::{Attribute, Value};
use onedock_common::{DatastoreId, ImageId, Mac, VmId};

use super::state::Image;
use super::template::{NicTemplate, Template};

/// The name by which the drivers call this machine without ssh.
pub(crate) const HOST: &str = "localhost";

/// The datastores of the played VMs. No `oned` reaches these numbers.
pub(crate) const IMAGES: DatastoreId = DatastoreId::new(1_000_000);
pub(crate) const SYSTEM: DatastoreId = DatastoreId::new(1_000_001);

/// What is known of a VM besides its template.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) id: VmId,
    /// The image of each disk.
    pub(crate) images: &'a [Image],
}

/// The deployment file: what a VM_MAD of TYPE xml gets at `deploy`.
pub(crate) fn vm(template: &Template, facts: &Facts<'_>) -> String {
    let id = facts.id.to_string();
    let mut xml = Xml::default();
    xml.within("VM", |xml| {
        xml.text("ID", &id);
        for (name, value) in [
            ("UID", "0"),
            ("GID", "0"),
            ("UNAME", "oneadmin"),
            ("GNAME", "oneadmin"),
            ("NAME", template.name.as_str()),
            ("STATE", "3"),
            ("LCM_STATE", "2"),
            ("DEPLOY_ID", ""),
        ] {
            xml.text(name, value);
        }
        xml.within("TEMPLATE", |xml| {
            if let Some(context) = context(template, facts) {
                xml.within("CONTEXT", |xml| {
                    for (name, value) in &context {
                        xml.text(name, value);
                    }
                });
            }
            xml.text("CPU", &template.cpu);
            for (number, (disk, image)) in template.disks.iter().zip(facts.images).enumerate() {
                xml.within("DISK", |xml| {
                    let yes_no = |yes: bool| if yes { "YES" } else { "NO" };
                    let mut known = BTreeMap::from([
                        ("ALLOW_ORPHANS", "YES".to_owned()),
                        ("CLONE", yes_no(!disk.persistent).to_owned()),
                        ("CLONE_TARGET", "SYSTEM".to_owned()),
                        ("DATASTORE", "onedock-run".to_owned()),
                        ("DATASTORE_ID", IMAGES.to_string()),
                        ("DEV_PREFIX", "sd".to_owned()),
                        ("DISK_ID", number.to_string()),
                        ("DISK_TYPE", "FILE".to_owned()),
                        ("DRIVER", image.format.clone()),
                        ("FORMAT", image.format.clone()),
                        ("IMAGE", disk.image.clone()),
                        ("IMAGE_ID", image.id.to_string()),
                        ("IMAGE_STATE", "2".to_owned()),
                        ("LN_TARGET", "SYSTEM".to_owned()),
                        ("ORIGINAL_SIZE", image.size_mb.to_string()),
                        ("READONLY", "NO".to_owned()),
                        ("SAVE", yes_no(disk.persistent).to_owned()),
                        ("SIZE", image.size_mb.to_string()),
                        ("SOURCE", image.source.clone()),
                        ("TARGET", format!("sd{}", letter(number))),
                        ("TM_MAD", "onedock".to_owned()),
                        ("TYPE", "FILE".to_owned()),
                    ]);
                    if disk.persistent {
                        known.insert("PERSISTENT", "YES".to_owned());
                    }
                    if let Some(command) = &disk.dockerrun {
                        known.insert("DOCKERRUN", command.clone());
                    }
                    xml.merged(&known, &disk.rest);
                });
            }
            xml.text("MEMORY", &template.memory);
            for (number, nic) in template.nics.iter().enumerate() {
                xml.within("NIC", |xml| {
                    let mut known = BTreeMap::from([
                        ("BRIDGE", nic.bridge.to_string()),
                        ("BRIDGE_TYPE", "linux".to_owned()),
                        ("MAC", mac(nic, facts.id, number)),
                        ("NAME", format!("NIC{number}")),
                        ("NIC_ID", number.to_string()),
                        ("TARGET", format!("one-{id}-{number}")),
                        ("VN_MAD", "bridge".to_owned()),
                    ]);
                    if let Some(ip) = nic.ip {
                        known.insert("IP", ip.to_string());
                    }
                    if let Some(mask) = &nic.mask {
                        known.insert("NETWORK_MASK", mask.clone());
                    }
                    xml.merged(&known, &nic.rest);
                });
            }
            xml.attributes(&template.template);
            xml.text("TM_MAD_SYSTEM", "onedock");
            if let Some(vcpu) = &template.vcpu {
                xml.text("VCPU", vcpu);
            }
            xml.text("VMID", &id);
        });
        xml.within("USER_TEMPLATE", |xml| xml.attributes(&template.user));
        xml.within("HISTORY_RECORDS", |xml| {
            xml.within("HISTORY", |xml| {
                for (name, value) in [
                    ("OID", id.as_str()),
                    ("SEQ", "0"),
                    ("HOSTNAME", HOST),
                    ("HID", "0"),
                    ("CID", "0"),
                    ("VM_MAD", "onedock"),
                    ("TM_MAD", "onedock"),
                ] {
                    xml.text(name, value);
                }
                xml.text("DS_ID", &SYSTEM.to_string());
            });
        });
    });
    xml.0
}

/// What every other action of the hypervisor gets.
pub(crate) fn action(vm: &str, id: VmId) -> String {
    let mut xml = Xml::default();
    xml.within("VMM_DRIVER_ACTION_DATA", |xml| {
        xml.text("HOST", HOST);
        xml.text("DEPLOY_ID", &format!("one-{id}"));
        xml.0.push_str(vm);
    });
    xml.0
}

/// The request of a datastore driver, as it comes on standard input.
pub(crate) fn image(image: &Image) -> String {
    let mut xml = Xml::default();
    xml.within("DS_DRIVER_ACTION_DATA", |xml| {
        xml.within("IMAGE", |xml| {
            // `stat` is asked before there is an image.
            if image.size_mb > 0 {
                xml.text("ID", &image.id.to_string());
                xml.text("TYPE", "0");
            }
            xml.text("PATH", &image.path);
            xml.text("SOURCE", &image.source);
            xml.text("FORMAT", &image.format);
            if let Some(command) = &image.dockerrun {
                xml.within("TEMPLATE", |xml| xml.text("DOCKERRUN", command));
            }
        });
        xml.within("DATASTORE", |xml| {
            xml.text("ID", &IMAGES.to_string());
            xml.text("NAME", "onedock-run");
            xml.text("TYPE", "0");
            xml.within("TEMPLATE", |xml| {
                // What `oned` stores in a datastore that says nothing of it.
                xml.text("RESTRICTED_DIRS", "/");
                xml.text("SAFE_DIRS", "/var/tmp");
            });
        });
    });
    STANDARD.encode(xml.0)
}

/// `context.sh` as `VirtualMachineContext.cc` writes it, and the number of its disk.
pub(crate) fn context_sh(template: &Template, facts: &Facts<'_>) -> Option<String> {
    let mut text = String::from("# Context variables generated by OpenNebula\n");
    for (name, value) in context(template, facts)? {
        let value = value.replace('\'', "'\\''");
        text.push_str(&format!("{name}='{value}'\n"));
    }
    Some(text)
}

/// CONTEXT with what `oned` adds: the disk's number, and with NETWORK=YES the NICs.
fn context(template: &Template, facts: &Facts<'_>) -> Option<BTreeMap<String, String>> {
    let given = template.context.as_ref()?;
    let mut all = BTreeMap::from([
        ("DISK_ID".to_owned(), template.disks.len().to_string()),
        (
            "TARGET".to_owned(),
            format!("sd{}", letter(template.disks.len())),
        ),
    ]);
    let text = |a: &Attribute| a.text().unwrap_or_default().to_owned();
    if given
        .iter()
        .any(|a| a.name == "NETWORK" && a.text().is_some_and(|t| t.eq_ignore_ascii_case("yes")))
    {
        for (number, nic) in template.nics.iter().enumerate() {
            let mut add =
                |key: &str, value: String| all.insert(format!("ETH{number}_{key}"), value);
            add("MAC", mac(nic, facts.id, number));
            if let Some(ip) = nic.ip {
                add("IP", ip.to_string());
            }
            if let Some(mask) = &nic.mask {
                add("MASK", mask.clone());
            }
            for key in ["DNS", "GATEWAY", "METHOD", "METRIC", "MTU", "SEARCH_DOMAIN"] {
                if let Some(found) = nic.rest.iter().find(|a| a.name == key) {
                    add(key, text(found));
                }
            }
        }
    }
    for attribute in given {
        let value = text(attribute)
            .replace("$NAME", &template.name)
            .replace("$VMID", &facts.id.to_string());
        all.insert(attribute.name.clone(), value);
    }
    Some(all)
}

/// MAC as said, else of the address as `oned` makes it (MAC_PREFIX 02:00), else of the VM.
pub(crate) fn mac(nic: &NicTemplate, vm: VmId, number: usize) -> String {
    if let Some(mac) = nic.mac {
        return Mac::to_string(&mac);
    }
    let [a, b, c, d] = match nic.ip {
        Some(ip) => ip.octets(),
        None => {
            let [_, b, c, d] = vm.get().to_be_bytes();
            // From 240 on: no address of a host begins so.
            let number = u8::try_from(number & 0x0f).unwrap_or_default();
            [0xf0 | number, b, c, d]
        }
    };
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

fn letter(number: usize) -> char {
    "abcdefghijklmnopqrstuvwxyz"
        .chars()
        .nth(number)
        .unwrap_or('z')
}

/// An image that only `stat` knows yet.
pub(crate) fn asked(path: &str, dockerrun: Option<&str>) -> Image {
    Image {
        id: ImageId::new(0),
        path: path.to_owned(),
        stamp: None,
        dockerrun: dockerrun.map(str::to_owned),
        size_mb: 0,
        source: String::new(),
        format: String::new(),
    }
}

#[derive(Default)]
struct Xml(String);

impl Xml {
    fn within(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        self.0.push_str(&format!("<{name}>"));
        inside(self);
        self.0.push_str(&format!("</{name}>"));
    }

    /// Values are CDATA, as `oned` writes them; the end of one cannot stand within it.
    fn text(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            self.0.push_str(&format!("<{name}/>"));
            return;
        }
        let value = value.replace("]]>", "]]]]><![CDATA[>");
        self.0
            .push_str(&format!("<{name}><![CDATA[{value}]]></{name}>"));
    }

    fn attributes(&mut self, attributes: &[Attribute]) {
        for attribute in attributes {
            match &attribute.value {
                Value::Text(text) => self.text(&attribute.name, text),
                Value::Vector(parts) => self.within(&attribute.name, |xml| xml.attributes(parts)),
            }
        }
    }

    /// What is known, where the template does not say otherwise, and the rest of the template.
    fn merged(&mut self, known: &BTreeMap<&str, String>, said: &[Attribute]) {
        for (name, value) in known {
            if !said.iter().any(|a| a.name == *name) {
                self.text(name, value);
            }
        }
        self.attributes(said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onedock_common::opennebula::image::DatastoreAction;
    use onedock_common::opennebula::vm::Vm;

    fn template(text: &str) -> Template {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.one");
        std::fs::write(&path, text).unwrap();
        Template::read(&path).unwrap()
    }

    fn registered() -> Image {
        Image {
            id: ImageId::new(1_000_000_007),
            size_mb: 12,
            source: "docker://host:5000/onedock/img-1000000007@sha256:00".into(),
            format: "raw".into(),
            ..asked("docker://host:5000/web", Some("httpd -f"))
        }
    }

    const WEB: &str = "NAME=\"a ]]> b\"\nCPU=0.5\nVCPU=1\nMEMORY=64\nDISK=[IMAGE=\"docker://h/w\"]\n\
        NIC=[BRIDGE=br0,IP=10.0.0.5,MASK=\"255.255.0.0\",GATEWAY=10.0.0.1]\nNIC=[BRIDGE=br1,TARGET=mine]\n\
        CONTEXT=[NETWORK=YES,SET_HOSTNAME=\"$NAME\",G=\"it's\"]\nOS=[BOOT=disk0]\n";

    #[test]
    fn the_drivers_read_the_vm_as_the_template_asked_for_it() {
        let (template, images) = (template(WEB), [registered()]);
        let facts = Facts {
            id: VmId::new(1_000_000),
            images: &images,
        };
        let xml = vm(&template, &facts);
        let vm = Vm::from_deployment(xml.as_bytes()).unwrap();
        assert_eq!((vm.id.get(), vm.name.as_str()), (1_000_000, "a ]]> b"));
        assert_eq!((vm.capacity.vcpu, vm.capacity.memory_mib), (Some(1), 64));
        assert_eq!(
            vm.root_disk().unwrap().source.as_deref(),
            Some(images[0].source.as_str())
        );
        assert_eq!(vm.nics[0].addresses[0].to_string(), "10.0.0.5/16");
        assert_eq!(vm.nics[0].mac.to_string(), "02:00:0a:00:00:05");
        assert_eq!(vm.nics[0].target.to_string(), "one-1000000-0");
        assert_eq!(vm.nics[1].target.to_string(), "mine");
        assert_eq!(vm.placement.unwrap().tm_mad, "onedock");
        assert_eq!(vm.context.unwrap().disk.get(), 1);
        assert_eq!(
            Vm::from_action(action(&xml, facts.id).as_bytes())
                .unwrap()
                .id,
            facts.id
        );
    }

    #[test]
    fn a_context_is_shell_that_only_assigns() {
        let (template, images) = (template(WEB), [registered()]);
        let facts = Facts {
            id: VmId::new(1_000_000),
            images: &images,
        };
        let text = context_sh(&template, &facts).unwrap();
        assert!(text.contains("\nG='it'\\''s'\n"), "{text}");
        assert!(text.contains("\nETH0_MASK='255.255.0.0'\n"), "{text}");
        assert!(text.contains("\nETH0_GATEWAY='10.0.0.1'\n"), "{text}");
        assert!(text.contains("\nSET_HOSTNAME='a ]]> b'\n"), "{text}");
    }

    #[test]
    fn the_datastore_reads_its_request() {
        let read = |i: &Image| DatastoreAction::from_base64(image(i).as_bytes()).unwrap();
        let request = read(&registered()).image.unwrap();
        assert_eq!(request.id, Some(registered().id));
        assert_eq!(request.dockerrun.as_deref(), Some("httpd -f"));
        let stat = read(&asked("docker://h/w", None));
        assert_eq!(
            (stat.image.unwrap().id, stat.datastore.safe_dirs),
            (None, vec!["/var/tmp".to_owned()])
        );
    }
}
