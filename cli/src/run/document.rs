//! What a template and registered images are in `oned`'s documents.

use onedock::edit::template_read::{Attribute, Value};
use onedock_common::opennebula::oned::context::context;
use onedock_common::opennebula::oned::datastore::Datastore;
use onedock_common::opennebula::oned::vm::{Disk, Nic, Vm};
use onedock_common::opennebula::oned::{self, Attributes};
use onedock_common::{ImageId, VmId};

use super::state::{IMAGES, Image};
use super::template::{DiskTemplate, NicTemplate, Template};

/// The name by which the drivers call this machine without ssh.
pub(crate) const HOST: &str = "localhost";

const IMAGE_DATASTORE: Datastore<'_> = Datastore {
    id: IMAGES,
    name: "onedock-run",
    base_path: None,
    safe_dirs: "/var/tmp",
};

/// The VM of a template, with the image of each disk.
pub(crate) fn vm(template: &Template, id: VmId, images: &[Image]) -> Vm {
    let disks = template.disks.iter().zip(images).enumerate();
    let nics = template.nics.iter().enumerate();
    let nics: Vec<Attributes> = nics.map(|(number, n)| nic(n, id, number)).collect();
    let given = template.context.as_ref();
    Vm {
        name: template.name.clone(),
        cpu: template.cpu.clone(),
        vcpu: template.vcpu.clone(),
        memory: template.memory.clone(),
        disks: disks.map(|(number, (d, i))| disk(d, i, number)).collect(),
        context: given.map(|given| {
            let name = template.name.as_str();
            context(&attributes(given), (id, name), template.disks.len(), &nics)
        }),
        nics,
        template: attributes(&template.template),
        user_template: attributes(&template.user),
    }
}

fn disk(disk: &DiskTemplate, image: &Image, number: usize) -> Attributes {
    let known = Disk {
        number,
        image: image.id,
        image_name: &disk.image,
        datastore: (IMAGES, IMAGE_DATASTORE.name),
        source: &image.source,
        format: &image.format,
        size_mb: image.size_mb,
        persistent: disk.persistent,
        dockerrun: disk.dockerrun.as_deref(),
    };
    known.attributes().overridden_by(attributes(&disk.rest))
}

fn nic(nic: &NicTemplate, vm: VmId, number: usize) -> Attributes {
    let known = Nic {
        vm,
        number,
        bridge: &nic.bridge,
        ip: nic.ip,
        mask: nic.mask.as_deref(),
        mac: nic.mac,
    };
    known.attributes().overridden_by(attributes(&nic.rest))
}

fn attributes(read: &[Attribute]) -> Attributes {
    let value = |value: &Value| match value {
        Value::Text(text) => oned::Value::Text(text.clone()),
        Value::Vector(parts) => oned::Value::Vector(attributes(parts)),
    };
    let all = read.iter();
    all.map(|a| (a.name.as_str(), value(&a.value))).collect()
}

/// The request of a datastore driver, as it comes on standard input.
pub(crate) fn image(image: &Image) -> String {
    let mut all = Attributes::default();
    // `stat` is asked before there is an image.
    if image.size_mb > 0 {
        all.text("ID", image.id.to_string());
        all.text("TYPE", "0");
    }
    all.text("PATH", &image.path);
    all.text("SOURCE", &image.source);
    all.text("FORMAT", &image.format);
    if let Some(command) = &image.dockerrun {
        let template = [("DOCKERRUN", command.clone())].into_iter().collect();
        all.push("TEMPLATE", oned::Value::Vector(template));
    }
    IMAGE_DATASTORE.request(&all.xml())
}

/// An image that only `stat` knows yet.
pub(crate) fn unregistered(path: &str, dockerrun: Option<&str>) -> Image {
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

#[cfg(test)]
mod tests {
    use super::super::state::SYSTEM;
    use super::*;
    use onedock_common::opennebula::image::DatastoreAction;
    use onedock_common::opennebula::nic::DEFAULT_PREFIX;
    use onedock_common::opennebula::oned::context::context_sh;
    use onedock_common::opennebula::oned::vm::action;
    use onedock_common::opennebula::vm::Vm;

    const ID: VmId = VmId::new(1_000_000);

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
            ..unregistered("docker://host:5000/web", Some("httpd -f"))
        }
    }

    const WEB: &str = "NAME=\"a ]]> b\"\nCPU=0.5\nVCPU=1\nMEMORY=64\nDISK=[IMAGE=\"docker://h/w\"]\n\
        NIC=[BRIDGE=br0,IP=10.0.0.5,MASK=\"255.255.0.0\",GATEWAY=10.0.0.1]\nNIC=[BRIDGE=br1,TARGET=mine]\n\
        CONTEXT=[NETWORK=YES,SET_HOSTNAME=\"$NAME\",G=\"it's\"]\nOS=[BOOT=disk0]\n";

    #[test]
    fn the_drivers_read_the_vm_as_the_template_asked_for_it() {
        let (template, images) = (template(WEB), [registered()]);
        let xml = vm(&template, ID, &images).deployment(ID, HOST, SYSTEM);
        let vm = Vm::from_deployment(xml.as_bytes(), DEFAULT_PREFIX).unwrap();
        assert_eq!((vm.id.get(), vm.name.as_str()), (1_000_000, "a ]]> b"));
        assert_eq!((vm.capacity.vcpu, vm.capacity.memory_mib), (Some(1), 64));
        assert_eq!(
            vm.disks[0].source.as_deref(),
            Some(images[0].source.as_str())
        );
        assert_eq!(vm.nics[0].addresses[0].to_string(), "10.0.0.5/16");
        assert_eq!(vm.nics[0].mac.to_string(), "02:00:0a:00:00:05");
        assert_eq!(vm.nics[0].target.to_string(), "one-1000000-0");
        assert_eq!(vm.nics[1].target.to_string(), "mine");
        assert_eq!(vm.placement.unwrap().tm_mad, "onedock");
        assert_eq!(vm.context.unwrap().disk.get(), 1);
        assert_eq!(
            Vm::from_action(action(&xml, ID, HOST).as_bytes())
                .unwrap()
                .id,
            ID
        );
    }

    #[test]
    fn a_context_is_shell_that_only_assigns() {
        let (template, images) = (template(WEB), [registered()]);
        let text = context_sh(&vm(&template, ID, &images).context.unwrap());
        assert!(text.contains("\nG='it'\\''s'\n"), "{text}");
        assert!(text.contains("\nETH0_MASK='255.255.0.0'\n"), "{text}");
        assert!(text.contains("\nETH0_GATEWAY='10.0.0.1'\n"), "{text}");
        assert!(text.contains("\nSET_HOSTNAME='a ]]> b'\n"), "{text}");
    }

    #[test]
    fn the_datastore_reads_its_request() {
        let read = |i: &Image| DatastoreAction::from_base64(image(i).into_bytes()).unwrap();
        let request = read(&registered()).image.unwrap();
        assert_eq!(request.id, Some(registered().id));
        assert_eq!(request.dockerrun.as_deref(), Some("httpd -f"));
        let stat = read(&unregistered("docker://h/w", None));
        assert_eq!(
            (stat.image.unwrap().id, stat.datastore.safe_dirs),
            (None, vec!["/var/tmp".to_owned()])
        );
    }
}
