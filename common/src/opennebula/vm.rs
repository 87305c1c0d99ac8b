//! A VM as `oned` describes it (`src/vm/VirtualMachine*.cc`), both releases alike: on `deploy`
//! the document's root is VM, in every other action it lies in VMM_DRIVER_ACTION_DATA.

use crate::opennebula::context::Context;
use crate::opennebula::nic::{ChangingAlias, DEFAULT_PREFIX, Nic, list_of};
use crate::opennebula::xml::{Element, Node, XmlError};
use crate::types::cpu_list::CpuList;
use crate::types::decimal::{parse_fraction, parse_u32, parse_whole};
use crate::types::dns::{NameServer, SearchDomain};
use crate::types::ids::{DatastoreId, DiskId, HostId, ImageId, VmId};
use crate::types::names::Hostname;

/// A VM, and where it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Vm {
    /// VM/ID.
    pub id: VmId,
    /// VM/NAME, which users choose freely.
    pub name: String,
    /// Whose it is.
    pub owner: Owner,
    /// VM/LCM_STATE, which tells why an action is called (2 first boot, 18 power-off, …).
    pub lcm_state: u32,
    /// VM/DEPLOY_ID as it was answered at the first deploy.
    pub deploy_id: Option<String>,
    /// Capacity.
    pub capacity: Capacity,
    /// The processors and memory nodes that OpenNebula has pinned it to.
    pub pinning: Pinning,
    /// In the order of the document.
    pub disks: Vec<Disk>,
    /// In the order of their ids, aliases folded into the NIC that they belong to.
    pub nics: Vec<Nic>,
    /// The NIC_ALIAS that is being attached or detached.
    pub changing_alias: Option<ChangingAlias>,
    /// TEMPLATE/CONTEXT; absent when the template has none.
    pub context: Option<Context>,
    /// TEMPLATE/OS/BOOT, such as `disk0`.
    pub boot_order: Option<String>,
    /// The last history record.
    pub placement: Option<Placement>,
    /// Name servers and domains of the whole VM: CONTEXT/DNS and CONTEXT/SEARCH_DOMAIN.
    pub resolver: Resolver,
    /// A line for each value that was left out, because it is not what its attribute takes and
    /// the VM can live without it.
    pub left_out: Vec<String>,
    /// TEMPLATE as it came: what is asked there beside the fields above.
    pub template: Element,
    /// USER_TEMPLATE as it came: what `oned` itself gives no meaning.
    pub user_template: Option<Element>,
}

/// TEMPLATE/NUMA_NODE of all of its nodes, which `oned` fills in as it places a VM with
/// TOPOLOGY/PIN_POLICY (`src/host/HostShareNUMA.cc`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pinning {
    /// CPUS; none of a VM that runs on any.
    pub cpus: Option<CpuList>,
    /// MEMORY_NODE_ID.
    pub memory_nodes: Option<CpuList>,
}

impl Pinning {
    fn from_template(template: &Node<'_>) -> Result<Self, XmlError> {
        let joined = |name: &str| -> Result<Option<CpuList>, XmlError> {
            let mut all = Vec::new();
            for node in template.children("NUMA_NODE") {
                if let Some(list) = node.value::<CpuList>(name)?
                    && !all.contains(&list)
                {
                    all.push(list);
                }
            }
            let texts: Vec<&str> = all.iter().map(CpuList::as_str).collect();
            match texts.is_empty() {
                true => Ok(None),
                false => Ok(texts.join(",").parse().ok()),
            }
        };
        let cpus = joined("CPUS")?;
        // Memory of one node alone would be less than the VM counts on, where it runs on any processor.
        let memory_nodes = match &cpus {
            Some(_) => joined("MEMORY_NODE_ID")?,
            None => None,
        };
        Ok(Self { cpus, memory_nodes })
    }
}

/// Whose a VM is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// VM/UNAME.
    pub user: Option<String>,
    /// VM/GNAME.
    pub group: Option<String>,
}

/// Name servers and search domains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    /// In their order.
    pub dns: Vec<NameServer>,
    /// In their order.
    pub search: Vec<SearchDomain>,
}

/// What the VM may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// TEMPLATE/CPU in processors, above 0.
    pub cpu: f64,
    /// TEMPLATE/VCPU, a whole number of processors.
    pub vcpu: Option<u32>,
    /// TEMPLATE/MEMORY in MiB.
    pub memory_mib: u64,
}

/// HISTORY_RECORDS/HISTORY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// HOSTNAME.
    pub host: String,
    /// HID.
    pub host_id: Option<HostId>,
    /// TM_MAD of the system datastore.
    pub tm_mad: String,
    /// DS_ID of the system datastore.
    pub datastore: DatastoreId,
}

/// TEMPLATE/DISK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// DISK_ID.
    pub id: DiskId,
    /// IMAGE_ID; absent for a volatile disk.
    pub image: Option<ImageId>,
    /// SOURCE as the datastore's `cp` answered it.
    pub source: Option<String>,
    /// TM_MAD of the image's datastore.
    pub tm_mad: Option<String>,
    /// TYPE: FILE, CDROM, fs, swap, …, in upper case.
    pub kind: Option<String>,
    /// DOCKERRUN of the image (INHERIT_IMAGE_ATTR): the command in place of the image's.
    pub dockerrun: Option<String>,
    /// DOCKER_OPTIONS of the image (INHERIT_IMAGE_ATTR): what it asks of Docker, as JSON or YAML.
    pub docker_options: Option<String>,
    /// SAVE=YES: changes go back to the image (a persistent image).
    pub save: bool,
    /// SIZE in MiB: how large the VM's disk is.
    pub size_mib: Option<u64>,
    /// ORIGINAL_SIZE in MiB: how large its image is; absent for a volatile disk.
    pub original_size_mib: Option<u64>,
    /// FORMAT, in lower case: `raw` or `qcow2`.
    pub format: Option<String>,
    /// FS of a volatile disk, in lower case.
    pub fs: Option<String>,
    /// TARGET as `oned` gave it or the template asks: `sda`, `vdb`, or (a peer's habit) a path.
    pub target: Option<String>,
    /// MOUNTPOINT: where the disk is mounted inside.
    pub mountpoint: Option<String>,
    /// DEVICE=YES: the disk is shown as a block device.
    pub device: bool,
    /// READONLY=YES, and every CDROM.
    pub read_only: bool,
    /// ATTACH=YES: the disk that `attach_disk` or `detach_disk` is about.
    pub attach: bool,
}

impl Vm {
    /// Reads the document of `deploy` (the deployment file of a VM_MAD of TYPE xml). An IPv4
    /// address whose mask nobody names gets `default_prefix`.
    pub fn from_deployment(bytes: &[u8], default_prefix: u8) -> Result<Self, XmlError> {
        Self::from_node(&Element::document(bytes, "VM")?.node(), default_prefix)
    }

    /// Reads the document that every other action receives.
    pub fn from_action(bytes: &[u8]) -> Result<Self, XmlError> {
        Self::from_action_with(bytes, DEFAULT_PREFIX)
    }

    /// The same with the site's own prefix, as [`Self::from_deployment`].
    pub fn from_action_with(bytes: &[u8], default_prefix: u8) -> Result<Self, XmlError> {
        let document = Element::document(bytes, "VMM_DRIVER_ACTION_DATA")?;
        Self::from_node(&document.node().required_child("VM")?, default_prefix)
    }

    fn from_node(vm: &Node<'_>, default_prefix: u8) -> Result<Self, XmlError> {
        let template = vm.required_child("TEMPLATE")?;
        let context = match template.child("CONTEXT")? {
            None => None,
            Some(node) => Some(Context::from_node(&node)?),
        };
        let disks = template
            .children("DISK")
            .map(|d| Disk::from_node(&d))
            .collect::<Result<_, _>>()?;
        let mut left_out = Vec::new();
        let resolver = Resolver::of_context(context.as_ref(), &mut left_out);
        let nics = Nic::all(&template, context.as_ref(), default_prefix, &mut left_out)?;
        let changing_alias = Nic::changing_alias(&template, context.as_ref(), default_prefix)?;
        Ok(Self {
            id: vm.required("ID")?,
            name: vm.text("NAME")?.unwrap_or_default().to_owned(),
            owner: Owner {
                user: vm.text("UNAME")?.map(str::to_owned),
                group: vm.text("GNAME")?.map(str::to_owned),
            },
            lcm_state: vm.read("LCM_STATE", parse_u32)?.unwrap_or(0),
            deploy_id: vm.text("DEPLOY_ID")?.map(str::to_owned),
            capacity: Capacity::from_node(&template)?,
            pinning: Pinning::from_template(&template)?,
            disks,
            nics,
            changing_alias,
            context,
            boot_order: match template.child("OS")? {
                Some(os) => os.text("BOOT")?.map(str::to_owned),
                None => None,
            },
            placement: Placement::from_vm(vm)?,
            resolver,
            left_out,
            template: template.element().clone(),
            user_template: vm
                .child("USER_TEMPLATE")?
                .map(|node| node.element().clone()),
        })
    }

    /// The disk of this id.
    pub fn disk(&self, id: DiskId) -> Option<&Disk> {
        self.disks.iter().find(|disk| disk.id == id)
    }

    /// The disk that `attach_disk` or `detach_disk` is about.
    pub fn attached(&self) -> Option<&Disk> {
        self.disks.iter().find(|disk| disk.attach)
    }

    /// The name inside: SET_HOSTNAME, with EC2_HOSTNAME=YES `ip-<its first IPv4 address>`, else the VM's
    /// name made valid, else `one-<id>`.
    pub fn hostname(&self) -> Hostname {
        let context = |key| self.context.as_ref().and_then(|context| context.get(key));
        let of_address = || {
            let is_asked =
                context("EC2_HOSTNAME").is_some_and(|yes| yes.eq_ignore_ascii_case("YES"));
            let mut addresses = self.nics.iter().flat_map(|nic| &nic.addresses);
            let first = addresses
                .find(|address| address.is_ipv4())
                .filter(|_| is_asked)?;
            Some(format!("ip-{}", first.ip().to_string().replace('.', "-")))
        };
        context("SET_HOSTNAME")
            .and_then(Hostname::made_valid)
            .or_else(|| of_address().as_deref().and_then(Hostname::made_valid))
            .or_else(|| Hostname::made_valid(&self.name))
            .or_else(|| Hostname::made_valid(&format!("one-{}", self.id)))
            .unwrap_or_else(Hostname::localhost)
    }

    /// Name servers of the VM, then those of all NICs in their order, each once.
    pub fn dns(&self) -> Vec<NameServer> {
        let of_nics = self.nics.iter().flat_map(|nic| &nic.dns);
        each_once(self.resolver.dns.iter().chain(of_nics))
    }

    /// Search domains of the VM, then those of all NICs in their order, each once.
    pub fn search_domains(&self) -> Vec<SearchDomain> {
        let of_nics = self.nics.iter().flat_map(|nic| &nic.search);
        each_once(self.resolver.search.iter().chain(of_nics))
    }
}

fn each_once<'a, T: Clone + PartialEq + 'a>(items: impl Iterator<Item = &'a T>) -> Vec<T> {
    items.fold(Vec::new(), |mut all, item| {
        if !all.contains(item) {
            all.push(item.clone());
        }
        all
    })
}

impl Resolver {
    /// As `context-linux` reads them (`get_nameservers`, `get_searchdomains`).
    fn of_context(context: Option<&Context>, left_out: &mut Vec<String>) -> Self {
        let text = |key| context.and_then(|c| c.get(key)).unwrap_or_default();
        Self {
            dns: list_of("CONTEXT/DNS", text("DNS"), left_out),
            search: list_of("CONTEXT/SEARCH_DOMAIN", text("SEARCH_DOMAIN"), left_out),
        }
    }
}

impl Capacity {
    fn from_node(template: &Node<'_>) -> Result<Self, XmlError> {
        let cpu = template.read("CPU", parse_fraction)?.unwrap_or(1.0);
        if !(0.0 < cpu && cpu <= 4096.0) {
            return Err(
                template.wrong("CPU", format_args!("{cpu} is not above 0 and at most 4096"))
            );
        }
        let vcpu = template.read("VCPU", parse_u32)?;
        if vcpu.is_some_and(|n| n == 0 || n > 4096) {
            return Err(template.wrong("VCPU", "must be from 1 to 4096"));
        }
        let memory_mib =
            template
                .read("MEMORY", parse_whole)?
                .ok_or_else(|| XmlError::Missing {
                    path: format!("{}/MEMORY", template.path()),
                })?;
        if memory_mib == 0 || memory_mib > 1 << 30 {
            return Err(template.wrong(
                "MEMORY",
                format_args!("{memory_mib} MB is not from 1 to 1073741824"),
            ));
        }
        Ok(Self {
            cpu,
            vcpu,
            memory_mib,
        })
    }
}

impl Placement {
    fn from_vm(vm: &Node<'_>) -> Result<Option<Self>, XmlError> {
        let Some(records) = vm.child("HISTORY_RECORDS")? else {
            return Ok(None);
        };
        let Some(last) = records.children("HISTORY").last() else {
            return Ok(None);
        };
        Ok(Some(Self {
            host: last.required_text("HOSTNAME")?.to_owned(),
            host_id: last.value("HID")?,
            tm_mad: last.text("TM_MAD")?.unwrap_or_default().to_owned(),
            datastore: last.required("DS_ID")?,
        }))
    }
}

impl Disk {
    fn from_node(disk: &Node<'_>) -> Result<Self, XmlError> {
        Ok(Self {
            id: disk.required("DISK_ID")?,
            image: disk.value("IMAGE_ID")?,
            source: disk.text("SOURCE")?.map(str::to_owned),
            tm_mad: disk.text("TM_MAD")?.map(str::to_owned),
            kind: disk.text("TYPE")?.map(str::to_ascii_uppercase),
            dockerrun: disk.text("DOCKERRUN")?.map(str::to_owned),
            docker_options: disk.text("DOCKER_OPTIONS")?.map(str::to_owned),
            save: disk.switch("SAVE")?,
            size_mib: disk.read("SIZE", parse_whole)?,
            original_size_mib: disk.read("ORIGINAL_SIZE", parse_whole)?,
            format: disk.text("FORMAT")?.map(str::to_ascii_lowercase),
            fs: disk.text("FS")?.map(str::to_ascii_lowercase),
            target: disk.text("TARGET")?.map(str::to_owned),
            mountpoint: disk.text("MOUNTPOINT")?.map(str::to_owned),
            device: disk.switch("DEVICE")?,
            read_only: disk.switch("READONLY")?
                || disk
                    .text("TYPE")?
                    .is_some_and(|t| t.eq_ignore_ascii_case("CDROM")),
            attach: disk.switch("ATTACH")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = include_str!("../../testdata/deploy-7.4.0.xml");
    const RECORDED_610: &str = include_str!("../../testdata/deploy-6.10.xml");

    #[test]
    fn what_oned_7_4_sends_becomes_a_vm() {
        let vm = Vm::from_deployment(RECORDED.as_bytes(), DEFAULT_PREFIX).unwrap();
        assert_eq!(vm.id, VmId::new(5));
        assert_eq!(vm.lcm_state, 2);
        assert_eq!(vm.deploy_id, None);
        assert_eq!(
            vm.capacity,
            Capacity {
                cpu: 0.5,
                vcpu: Some(1),
                memory_mib: 256
            }
        );
        assert_eq!(vm.disks.len(), 5);
        assert_eq!(vm.boot_order.as_deref(), Some("disk0"));
        assert_eq!(vm.hostname().as_str(), "web01");
        assert_eq!(vm.dns().len(), 2);
        let context = vm.context.as_ref().unwrap();
        assert_eq!(context.disk, DiskId::new(5));
        assert_eq!(context.get("GREETING"), Some("with 'quotes' & <angles>"));
        let placement = vm.placement.as_ref().unwrap();
        assert_eq!(
            (placement.host.as_str(), placement.tm_mad.as_str()),
            ("node1", "onedock")
        );
    }

    #[test]
    fn what_oned_6_10_sends_becomes_the_same_vm() {
        let vm = Vm::from_deployment(RECORDED_610.as_bytes(), DEFAULT_PREFIX).unwrap();
        assert_eq!(vm.capacity.memory_mib, 256);
        assert_eq!(vm.nics.len(), 2);
        assert_eq!(vm.disks[0].id, DiskId::new(0));
    }

    #[test]
    fn name_servers_and_domains_of_the_whole_vm_stand_before_those_of_its_nics() {
        let text = RECORDED.replace(
            "<NETWORK><![CDATA[YES]]></NETWORK>\n   <SET",
            "<NETWORK><![CDATA[YES]]></NETWORK><DNS>1.1.1.1 9.9.9.9 x</DNS>\
             <SEARCH_DOMAIN>corp</SEARCH_DOMAIN><SET",
        );
        assert_ne!(text, RECORDED);
        let vm = Vm::from_deployment(text.as_bytes(), DEFAULT_PREFIX).unwrap();
        let dns: Vec<_> = vm.dns().iter().map(ToString::to_string).collect();
        assert_eq!(dns, ["1.1.1.1", "9.9.9.9", "10.77.0.1"]);
        assert_eq!(vm.search_domains().len(), 1);
        assert!(vm.left_out[0].starts_with("CONTEXT/DNS: \"x\" is not"));
    }

    #[test]
    fn attack_9_numbers_out_of_range_are_named_with_their_element() {
        for (from, to, path) in [
            (
                "<CPU><![CDATA[0.5]]>",
                "<CPU><![CDATA[-1]]>",
                "VM/TEMPLATE/CPU",
            ),
            (
                "<CPU><![CDATA[0.5]]>",
                "<CPU><![CDATA[NaN]]>",
                "VM/TEMPLATE/CPU",
            ),
            (
                "<CPU><![CDATA[0.5]]>",
                "<CPU><![CDATA[1e309]]>",
                "VM/TEMPLATE/CPU",
            ),
            (
                "<MEMORY><![CDATA[256]]>",
                "<MEMORY><![CDATA[0]]>",
                "VM/TEMPLATE/MEMORY",
            ),
            (
                "<MEMORY><![CDATA[256]]>",
                "<MEMORY><![CDATA[18446744073709551616]]>",
                "VM/TEMPLATE/MEMORY",
            ),
            (
                "<MEMORY><![CDATA[256]]>",
                "<MEMORY><![CDATA[]]>",
                "VM/TEMPLATE/MEMORY",
            ),
            (
                "<VCPU><![CDATA[1]]>",
                "<VCPU><![CDATA[0]]>",
                "VM/TEMPLATE/VCPU",
            ),
            (
                "<NIC_ID><![CDATA[1]]>",
                "<NIC_ID><![CDATA[99999999999]]>",
                "VM/TEMPLATE/NIC[1]/NIC_ID",
            ),
        ] {
            let text = RECORDED.replace(from, to);
            assert_ne!(text, RECORDED, "{from}");
            let error = Vm::from_deployment(text.as_bytes(), DEFAULT_PREFIX)
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(path), "{error}");
        }
    }

    fn vm(text: &str) -> Result<Vm, XmlError> {
        Vm::from_deployment(text.as_bytes(), DEFAULT_PREFIX)
    }

    #[test]
    fn the_capacity_ends_where_opennebula_and_the_kernel_end() {
        let cpu = "<CPU><![CDATA[0.5]]>";
        let vcpu = "<VCPU><![CDATA[1]]>";
        let memory = "<MEMORY><![CDATA[256]]>";
        for (from, value, good) in [
            (cpu, "0", false),
            (cpu, "4096", true),
            (cpu, "4096.5", false),
            (vcpu, "0", false),
            (vcpu, "4096", true),
            (vcpu, "4097", false),
            (memory, "1073741824", true),
            (memory, "1073741825", false),
        ] {
            let text = RECORDED.replace(
                from,
                &format!("{}<![CDATA[{value}]]>", &from[..=from.find('>').unwrap()]),
            );
            assert!(text != RECORDED || value == "1", "{from}");
            assert_eq!(vm(&text).is_ok(), good, "{from} {value}");
        }
    }

    #[test]
    fn a_disk_is_found_by_its_id_and_by_what_is_done_to_it() {
        let one = vm(RECORDED).unwrap();
        for disk in &one.disks {
            assert_eq!(one.disk(disk.id).map(|found| found.id), Some(disk.id));
        }
        assert!(one.disk(DiskId::new(77)).is_none());
        assert!(one.attached().is_none());
        let second = RECORDED.replace(
            "<DISK_ID><![CDATA[1]]>",
            "<ATTACH><![CDATA[YES]]></ATTACH><DISK_ID><![CDATA[1]]>",
        );
        assert_ne!(second, RECORDED);
        let second = vm(&second).unwrap();
        assert_eq!(second.attached().map(|disk| disk.id), Some(DiskId::new(1)));
    }

    #[test]
    fn a_pinned_vm_has_the_processors_and_nodes_of_all_its_numa_nodes() {
        let with = |nodes: &str| {
            let text = RECORDED.replace("<VCPU>", &format!("{nodes}<VCPU>"));
            assert_ne!(text, RECORDED);
            vm(&text).unwrap().pinning
        };
        let pinned = with(
            "<NUMA_NODE><CPUS>0,2</CPUS><MEMORY_NODE_ID>0</MEMORY_NODE_ID><MEMORY>1</MEMORY></NUMA_NODE>\
             <NUMA_NODE><CPUS>5</CPUS><MEMORY_NODE_ID>1</MEMORY_NODE_ID></NUMA_NODE>",
        );
        let text = |list: Option<CpuList>| list.map(String::from);
        assert_eq!(text(pinned.cpus).as_deref(), Some("0,2,5"));
        assert_eq!(text(pinned.memory_nodes).as_deref(), Some("0,1"));
        let free = "<NUMA_NODE><CPUS/><MEMORY_NODE_ID>0</MEMORY_NODE_ID></NUMA_NODE>";
        assert_eq!(with(free), Pinning::default());
        let bad = RECORDED.replace("<VCPU>", "<NUMA_NODE><CPUS>0;1</CPUS></NUMA_NODE><VCPU>");
        assert!(vm(&bad).is_err());
    }

    #[test]
    fn a_cdrom_and_a_disk_that_says_so_can_only_be_read() {
        for (added, read_only) in [
            ("<READONLY>YES</READONLY><TYPE>FILE</TYPE>", true),
            ("<READONLY>NO</READONLY><TYPE>cdrom</TYPE>", true),
            ("<READONLY>NO</READONLY><TYPE>FILE</TYPE>", false),
        ] {
            let text = format!("<DISK><DISK_ID>1</DISK_ID>{added}</DISK>");
            let document = Element::document(text.as_bytes(), "DISK").unwrap();
            let disk = Disk::from_node(&document.node()).unwrap();
            assert_eq!(disk.read_only, read_only, "{added}");
        }
    }
}
