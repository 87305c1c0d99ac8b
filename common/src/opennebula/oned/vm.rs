//! A VM as `oned` describes it to the drivers of a hypervisor and of networks, in its form (7.4).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::attributes::{Attributes, Xml};
use crate::types::ids::{DatastoreId, ImageId, VmId};
use crate::types::names::{IfName, Mac};

/// A VM that is being started for the first time.
#[derive(Debug, Clone, Default)]
pub struct Vm {
    /// NAME.
    pub name: String,
    /// CPU as the user wrote it.
    pub cpu: String,
    /// VCPU as the user wrote it.
    pub vcpu: Option<String>,
    /// MEMORY in MiB as the user wrote it.
    pub memory: String,
    /// DISK, as [`Disk::attributes`] makes them.
    pub disks: Vec<Attributes>,
    /// NIC, as [`Nic::attributes`] makes them.
    pub nics: Vec<Attributes>,
    /// CONTEXT, as [`super::context::context`] completes it.
    pub context: Option<BTreeMap<String, String>>,
    /// The rest of TEMPLATE.
    pub template: Attributes,
    /// USER_TEMPLATE.
    pub user_template: Attributes,
}

impl Vm {
    /// The deployment file: what a VM_MAD of TYPE xml gets at `deploy`, on `host`, in the system
    /// datastore `datastore`.
    pub fn deployment(&self, id: VmId, host: &str, datastore: DatastoreId) -> String {
        let number = id.to_string();
        let mut xml = Xml::default();
        xml.within("VM", |xml| {
            for (name, value) in [
                ("ID", number.as_str()),
                ("UID", "0"),
                ("GID", "0"),
                ("UNAME", "oneadmin"),
                ("GNAME", "oneadmin"),
                ("NAME", &self.name),
                ("STATE", "3"),
                ("LCM_STATE", "2"),
                ("DEPLOY_ID", ""),
            ] {
                xml.text(name, value);
            }
            xml.within("TEMPLATE", |xml| self.write_template(&number, xml));
            xml.within("USER_TEMPLATE", |xml| xml.attributes(&self.user_template));
            xml.within("HISTORY_RECORDS", |xml| {
                xml.within("HISTORY", |xml| {
                    for (name, value) in [
                        ("OID", number.as_str()),
                        ("SEQ", "0"),
                        ("HOSTNAME", host),
                        ("HID", "0"),
                        ("CID", "0"),
                        ("VM_MAD", "onedock"),
                        ("TM_MAD", "onedock"),
                        ("DS_ID", &datastore.to_string()),
                    ] {
                        xml.text(name, value);
                    }
                });
            });
        });
        xml.0
    }

    fn write_template(&self, number: &str, xml: &mut Xml) {
        if let Some(context) = &self.context {
            xml.within("CONTEXT", |xml| {
                context
                    .iter()
                    .for_each(|(name, value)| xml.text(name, value));
            });
        }
        xml.text("CPU", &self.cpu);
        for disk in &self.disks {
            xml.within("DISK", |xml| xml.attributes(disk));
        }
        xml.text("MEMORY", &self.memory);
        for nic in &self.nics {
            xml.within("NIC", |xml| xml.attributes(nic));
        }
        xml.attributes(&self.template);
        xml.text("TM_MAD_SYSTEM", "onedock");
        if let Some(vcpu) = &self.vcpu {
            xml.text("VCPU", vcpu);
        }
        xml.text("VMID", number);
    }
}

/// A disk made of an image.
#[derive(Debug, Clone, Copy)]
pub struct Disk<'a> {
    /// DISK_ID.
    pub number: usize,
    /// IMAGE_ID.
    pub image: ImageId,
    /// IMAGE, the image's name.
    pub image_name: &'a str,
    /// DATASTORE_ID and DATASTORE, where the image is.
    pub datastore: (DatastoreId, &'a str),
    /// SOURCE as `cp` answered it.
    pub source: &'a str,
    /// FORMAT as `cp` answered it.
    pub format: &'a str,
    /// SIZE in MB as `stat` answered it.
    pub size_mb: u64,
    /// PERSISTENT: changes go back to the image.
    pub persistent: bool,
    /// DOCKERRUN of the image.
    pub dockerrun: Option<&'a str>,
}

impl Disk<'_> {
    /// DISK with all that `oned` adds to it.
    pub fn attributes(&self) -> Attributes {
        let yes_no = |yes: bool| if yes { "YES" } else { "NO" };
        let (datastore, name) = self.datastore;
        let (number, size) = (self.number.to_string(), self.size_mb.to_string());
        let mut all = Attributes::default();
        for (name, value) in [
            ("ALLOW_ORPHANS", "YES"),
            ("CLONE", yes_no(!self.persistent)),
            ("CLONE_TARGET", "SYSTEM"),
            ("DATASTORE", name),
            ("DATASTORE_ID", &datastore.to_string()),
            ("DEV_PREFIX", "sd"),
            ("DISK_ID", &number),
            ("DISK_TYPE", "FILE"),
            ("DRIVER", self.format),
            ("FORMAT", self.format),
            ("IMAGE", self.image_name),
            ("IMAGE_ID", &self.image.to_string()),
            ("IMAGE_STATE", "2"),
            ("LN_TARGET", "SYSTEM"),
            ("ORIGINAL_SIZE", &size),
            ("READONLY", "NO"),
            ("SAVE", yes_no(self.persistent)),
            ("SIZE", &size),
            ("SOURCE", self.source),
            ("TARGET", &target(self.number)),
            ("TM_MAD", "onedock"),
            ("TYPE", "FILE"),
        ] {
            all.text(name, value);
        }
        if self.persistent {
            all.text("PERSISTENT", "YES");
        }
        if let Some(command) = self.dockerrun {
            all.text("DOCKERRUN", command);
        }
        all
    }
}

/// TARGET of a disk.
pub(super) fn target(number: usize) -> String {
    let letter = "abcdefghijklmnopqrstuvwxyz".chars().nth(number);
    format!("sd{}", letter.unwrap_or('z'))
}

/// A network interface of a network with the driver `bridge`.
#[derive(Debug, Clone, Copy)]
pub struct Nic<'a> {
    /// The VM that has it.
    pub vm: VmId,
    /// NIC_ID.
    pub number: usize,
    /// BRIDGE.
    pub bridge: &'a IfName,
    /// IP.
    pub ip: Option<Ipv4Addr>,
    /// NETWORK_MASK.
    pub mask: Option<&'a str>,
    /// MAC; without it, one of IP or of the VM.
    pub mac: Option<Mac>,
}

impl Nic<'_> {
    /// NIC with all that `oned` adds to it.
    pub fn attributes(&self) -> Attributes {
        let mut all = Attributes::default();
        for (name, value) in [
            ("BRIDGE", self.bridge.to_string()),
            ("BRIDGE_TYPE", "linux".to_owned()),
            ("MAC", self.mac()),
            ("NAME", format!("NIC{}", self.number)),
            ("NIC_ID", self.number.to_string()),
            ("TARGET", format!("one-{}-{}", self.vm, self.number)),
            ("VN_MAD", "bridge".to_owned()),
        ] {
            all.text(name, value);
        }
        if let Some(ip) = self.ip {
            all.text("IP", ip.to_string());
        }
        if let Some(mask) = self.mask {
            all.text("NETWORK_MASK", mask);
        }
        all
    }

    /// The address that is given, else that of IP as `oned` makes it (MAC_PREFIX 02:00), else one
    /// of the VM.
    pub fn mac(&self) -> String {
        if let Some(mac) = self.mac {
            return mac.to_string();
        }
        let [a, b, c, d] = match self.ip {
            Some(ip) => ip.octets(),
            None => {
                let [_, b, c, d] = self.vm.get().to_be_bytes();
                // From 240 on: no host's address begins so.
                let number = u8::try_from(self.number & 0x0f).unwrap_or_default();
                [0xf0 | number, b, c, d]
            }
        };
        format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
    }
}

/// The document of every action but `deploy`; `vm` is the VM's own.
pub fn action(vm: &str, id: VmId, host: &str) -> String {
    let mut xml = Xml::default();
    xml.within("VMM_DRIVER_ACTION_DATA", |xml| {
        xml.text("HOST", host);
        xml.text("DEPLOY_ID", &format!("one-{id}"));
        xml.0.push_str(vm);
    });
    xml.0
}
