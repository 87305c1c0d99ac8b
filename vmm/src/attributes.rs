//! What a template can ask, and what becomes of it: one table. An attribute that this version
//! does not serve is said in the VM's log, or the VM is refused; it is never passed over.
//!
//! The rule (`docs/decisions/0031-attributes-that-are-not-served.md`): an attribute is **refused**
//! where the VM would run without something that guards its data, its secrets or its way to the
//! network, or where a device of the host was set aside for it. It is **said** where the VM works
//! with less than was asked. It is **without meaning** where it describes a machine that a
//! container does not have, and nothing that a user counts on is missing.
//!
//! An attribute that is empty, `0`, `NO`, `FALSE` or `NONE` asks for nothing.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use onedock_common::DiskId;
use onedock_common::vm::Vm;
use onedock_common::xml::Node;

/// Where an attribute stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Directly in TEMPLATE.
    Template,
    /// TEMPLATE/DISK.
    Disk,
    /// TEMPLATE/NIC.
    Nic,
    /// TEMPLATE/NIC_ALIAS.
    Alias,
    /// TEMPLATE/CONTEXT.
    Context,
    /// TEMPLATE/OS.
    Os,
    /// TEMPLATE/TOPOLOGY.
    Topology,
    /// USER_TEMPLATE: attributes that `oned` itself gives no meaning.
    User,
}

impl Section {
    /// Its name in a template; none for those that stand in no section.
    fn name(self) -> Option<&'static str> {
        match self {
            Self::Template | Self::User => None,
            Self::Disk => Some("DISK"),
            Self::Nic => Some("NIC"),
            Self::Alias => Some("NIC_ALIAS"),
            Self::Context => Some("CONTEXT"),
            Self::Os => Some("OS"),
            Self::Topology => Some("TOPOLOGY"),
        }
    }

    /// The attribute that tells one section from another of the same name.
    fn id(self) -> Option<&'static str> {
        match self {
            Self::Disk => Some("DISK_ID"),
            Self::Nic | Self::Alias => Some("NIC_ID"),
            _ => None,
        }
    }
}

/// What becomes of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The VM is not started.
    Refused,
    /// The VM's log has a line.
    Said,
    /// Nothing is said.
    WithoutMeaning,
    /// It is done: by these drivers, or by OpenNebula itself.
    Served,
}

/// A row of the table: attributes that share what becomes of them.
#[derive(Debug)]
pub struct Row {
    /// Where they stand.
    pub section: Section,
    /// Their names; one `*` stands for any text.
    pub names: &'static [&'static str],
    /// What becomes of them.
    pub verdict: Verdict,
    /// What a VM that asks for them has to do without, or why they mean nothing.
    pub effect: &'static str,
    /// The values that ask for something.
    asks: fn(&str) -> bool,
}

const fn row(
    section: Section,
    verdict: Verdict,
    names: &'static [&'static str],
    effect: &'static str,
) -> Row {
    Row {
        section,
        names,
        verdict,
        effect,
        asks: any,
    }
}

const fn row_if(
    section: Section,
    verdict: Verdict,
    names: &'static [&'static str],
    effect: &'static str,
    asks: fn(&str) -> bool,
) -> Row {
    Row {
        section,
        names,
        verdict,
        effect,
        asks,
    }
}

fn any(_: &str) -> bool {
    true
}

/// Another processor than this host's.
fn is_foreign_arch(value: &str) -> bool {
    let own = std::env::consts::ARCH;
    let also: &[&str] = match own {
        "x86_64" => &["amd64"],
        "aarch64" => &["arm64"],
        _ => &[],
    };
    !value.eq_ignore_ascii_case(own) && !also.iter().any(|a| value.eq_ignore_ascii_case(a))
}

/// An order that does not begin with a disk.
fn boots_elsewhere(value: &str) -> bool {
    let first = value.split(',').next().unwrap_or_default().trim();
    !first.starts_with("disk")
}

fn is_not_static(value: &str) -> bool {
    !value.eq_ignore_ascii_case("static")
}

/// The table. The first row that has an attribute's name is the one that counts.
pub const TABLE: &[Row] = {
    use Section::{Alias, Context, Disk, Nic, Os, Template, Topology, User};
    use Verdict::{Refused, Said, Served, WithoutMeaning};
    &[
        // TEMPLATE
        row(
            Template,
            Refused,
            &["PCI"],
            "no device of the host is given to a container",
        ),
        row(
            Template,
            Refused,
            &["MEMORY_ENCRYPTION"],
            "the VM's memory would not be encrypted",
        ),
        row(
            Template,
            Refused,
            &["VROUTER_*"],
            "a virtual router's work is done by the context packages of a VM, and a container may not forward packets",
        ),
        row(
            Template,
            Said,
            &["GRAPHICS"],
            "the VM has no VNC or SPICE console",
        ),
        row(
            Template,
            Said,
            &["RAW"],
            "its DATA is not handed on to the Docker engine",
        ),
        row(Template, Said, &["TPM"], "the VM has no TPM"),
        row(
            Template,
            WithoutMeaning,
            &[
                "VIDEO",
                "INPUT",
                "FEATURES",
                "CPU_MODEL",
                "EMULATOR",
                "HYPERV_OPTIONS",
                "SPICE_OPTIONS",
            ],
            "they describe a machine; a container sees the host's processor and has no screen or keyboard",
        ),
        row(
            Template,
            WithoutMeaning,
            &[
                "MEMORY_MAX",
                "MEMORY_SLOTS",
                "MEMORY_RESIZE_MODE",
                "VCPU_MAX",
            ],
            "a container is resized while it runs without a reserve",
        ),
        row(
            Template,
            WithoutMeaning,
            &["NUMA_NODE"],
            "where OpenNebula counts a pinned VM; see TOPOLOGY",
        ),
        row(
            Template,
            Served,
            &[
                "CPU",
                "VCPU",
                "MEMORY",
                "DISK",
                "NIC",
                "NIC_ALIAS",
                "CONTEXT",
                "OS",
                "TOPOLOGY",
                "SECURITY_GROUP_RULE",
                "VMID",
                "TM_MAD_SYSTEM",
                "TEMPLATE_ID",
                "CREATED_BY",
                "CLONING_TEMPLATE_ID",
                "AUTOMATIC_*",
                "NIC_DEFAULT",
                "SNAPSHOT",
                "SCHED_*",
                "BACKUP_CONFIG",
                "QEMU_GA_EXEC",
                "RESIZE",
                "ERROR",
                "VMGROUP",
                "*_COST",
            ],
            "by these drivers, or by OpenNebula itself",
        ),
        // OS
        row(
            Os,
            Said,
            &[
                "KERNEL",
                "KERNEL_DS",
                "KERNEL_CMD",
                "INITRD",
                "INITRD_DS",
                "ROOT",
                "BOOTLOADER",
            ],
            "the VM runs on the host's kernel",
        ),
        row_if(
            Os,
            Said,
            &["ARCH"],
            "the VM runs on the host's processor, and its image decides for which it was built",
            is_foreign_arch,
        ),
        row_if(
            Os,
            Said,
            &["BOOT"],
            "nothing is booted from a network or a CD; the first image of a container is the root disk",
            boots_elsewhere,
        ),
        row(
            Os,
            Said,
            &["FIRMWARE_SECURE"],
            "no firmware checks what the VM starts",
        ),
        row(
            Os,
            WithoutMeaning,
            &[
                "MACHINE",
                "UUID",
                "SD_DISK_BUS",
                "FIRMWARE",
                "FIRMWARE_FORMAT",
            ],
            "they describe a machine",
        ),
        // TOPOLOGY
        row(
            Topology,
            Said,
            &["PIN_POLICY", "NODE_AFFINITY"],
            "the VM is not pinned; it runs on any processor of the host",
        ),
        row(
            Topology,
            Said,
            &["HUGEPAGE_SIZE", "MEMORY_ACCESS"],
            "the VM's memory has pages of the usual size",
        ),
        row(
            Topology,
            WithoutMeaning,
            &["SOCKETS", "CORES", "THREADS"],
            "they describe a machine; VCPU bounds what the VM may use",
        ),
        // DISK
        row(
            Disk,
            Refused,
            &["LUKS_SECRET"],
            "the disk would hold its data in plain text",
        ),
        row(
            Disk,
            Refused,
            &["SHAREABLE"],
            "a disk that several VMs write at once would be damaged",
        ),
        row(
            Disk,
            Said,
            &[
                "TOTAL_BYTES_SEC*",
                "READ_BYTES_SEC*",
                "WRITE_BYTES_SEC*",
                "TOTAL_IOPS_SEC*",
                "READ_IOPS_SEC*",
                "WRITE_IOPS_SEC*",
                "SIZE_IOPS_SEC",
            ],
            "the disk's throughput is not limited",
        ),
        row(
            Disk,
            WithoutMeaning,
            &[
                "DEV_PREFIX",
                "DRIVER",
                "CACHE",
                "IO",
                "DISCARD",
                "IOTHREAD",
                "VIRTIO_BLK_QUEUES",
                "ORDER",
                "SERIAL",
                "BUS",
            ],
            "they describe how a machine reaches its disk; every write that a program synchronises is on the host's disk",
        ),
        row(
            Disk,
            Served,
            &[
                "DISK_ID",
                "IMAGE*",
                "SOURCE",
                "SIZE",
                "SIZE_PREV",
                "ORIGINAL_SIZE",
                "FORMAT",
                "FS",
                "TYPE",
                "DISK_TYPE",
                "TARGET",
                "MOUNTPOINT",
                "DEVICE",
                "READONLY",
                "DOCKERRUN",
                "SAVE",
                "PERSISTENT",
                "CLONE",
                "CLONE_TARGET",
                "LN_TARGET",
                "TM_MAD*",
                "DATASTORE*",
                "CLUSTER_ID",
                "ALLOW_ORPHANS",
                "DISK_SNAPSHOT_*",
                "PERSISTENT_SNAPSHOTS",
                "POOL_NAME",
                "ATTACH",
                "RESIZE",
                "SAVE_AS*",
                "RECOVERY_SNAPSHOT_FREQ",
            ],
            "by these drivers, or by OpenNebula itself (docs/disks.md)",
        ),
        // NIC and NIC_ALIAS
        row(
            Nic,
            Refused,
            &["FILTER"],
            "the filter of libvirt would not stand before the VM; use security groups, FILTER_IP_SPOOFING and FILTER_MAC_SPOOFING",
        ),
        row(
            Nic,
            Said,
            &["INBOUND_*"],
            "what the VM receives is not limited",
        ),
        row(
            Nic,
            Said,
            &["OUTBOUND_*"],
            "what the VM sends is not limited",
        ),
        row(Nic, Said, &["SCRIPT"], "no script is run for the NIC"),
        row(
            Nic,
            WithoutMeaning,
            &[
                "MODEL",
                "VIRTIO_QUEUES",
                "ORDER",
                "RDP",
                "RDP_*",
                "SSH",
                "SSH_*",
            ],
            "they describe a network card, or what Sunstone offers beside the VM",
        ),
        row(
            Nic,
            Served,
            &[
                "NIC_ID",
                "NAME",
                "TARGET",
                "BRIDGE",
                "BRIDGE_TYPE",
                "MAC",
                "METHOD",
                "IP",
                "IP6*",
                "NETWORK*",
                "PREFIX_LENGTH",
                "GATEWAY",
                "GATEWAY6",
                "METRIC",
                "MTU",
                "GUEST_MTU",
                "DNS",
                "SEARCH_DOMAIN",
                "ALIAS_IDS",
                "AR_ID",
                "CLUSTER_ID",
                "SECURITY_GROUPS",
                "VN_MAD",
                "PHYDEV",
                "VLAN_ID",
                "OUTER_VLAN_ID",
                "AUTOMATIC_*",
                "VLAN_TAGGED_ID",
                "FILTER_*",
                "CONF",
                "BRIDGE_CONF",
                "OVS_BRIDGE_CONF",
                "IP_LINK_CONF",
                "ATTACH",
                "EXTERNAL",
                "ROUTES",
                "PARENT",
                "PARENT_ID",
            ],
            "by these drivers, or by OpenNebula's network drivers; METHOD=dhcp and BRIDGE_TYPE=openvswitch are refused; ROUTES as ETHx_ROUTES below",
        ),
        row(
            Alias,
            Served,
            &["*"],
            "its addresses are the NIC's from the start of the VM on (none of an EXTERNAL one); while the VM runs, an attach and a detach are refused",
        ),
        // CONTEXT
        row(
            Context,
            Said,
            &[
                "START_SCRIPT",
                "START_SCRIPT_BASE64",
                "INIT_SCRIPTS",
                "READY_SCRIPT",
                "READY_SCRIPT_PATH",
            ],
            "no script is run; it lies in /context for a program of the image",
        ),
        row(
            Context,
            Said,
            &["SSH_PUBLIC_KEY", "EC2_PUBLIC_KEY"],
            "no key is put into the VM; it lies in /context for a program of the image",
        ),
        row(
            Context,
            Said,
            &[
                "PASSWORD",
                "PASSWORD_BASE64",
                "CRYPTED_PASSWORD*",
                "USERNAME",
            ],
            "no user is made and no password is set",
        ),
        row(
            Context,
            Said,
            &["REPORT_READY"],
            "nobody reports READY to OneGate for the VM",
        ),
        row(
            Context,
            Said,
            &["TIMEZONE"],
            "the VM keeps the time zone of its image",
        ),
        row(
            Context,
            Said,
            &["DNS_HOSTNAME", "EC2_HOSTNAME"],
            "the VM's name is SET_HOSTNAME, or that of the VM",
        ),
        row(
            Context,
            Said,
            &[
                "USER_DATA",
                "USERDATA",
                "USER_DATA_ENCODING",
                "USERDATA_ENCODING",
            ],
            "no cloud-init reads it; it lies in /context for a program of the image",
        ),
        row(
            Context,
            Said,
            &["ETH*_ROUTES"],
            "the NIC has its default route only",
        ),
        row_if(
            Context,
            Said,
            &["ETH*_IP6_METHOD"],
            "the NIC's IPv6 addresses are set as OpenNebula leased them",
            is_not_static,
        ),
        row(
            Context,
            WithoutMeaning,
            &[
                "GROW_FS",
                "GROW_ROOTFS",
                "SECURETTY",
                "DEV_PREFIX",
                "DRIVER",
            ],
            "disks grow with their file systems by themselves, and a container has no consoles",
        ),
        row(
            Context,
            Served,
            &["*"],
            "every variable is in the files at /context; NETWORK, ETHx_…, DNS, SEARCH_DOMAIN and SET_HOSTNAME are in force besides",
        ),
        // USER_TEMPLATE
        row(
            User,
            Said,
            &["DOCKER", "DOCKER_*"],
            "the container has the environment, the user and the rights of its image",
        ),
        row(
            User,
            WithoutMeaning,
            &["*"],
            "they are for other programs, or for people",
        ),
    ]
};

/// The row of an attribute.
pub fn of(section: Section, name: &str) -> Option<&'static Row> {
    TABLE
        .iter()
        .filter(|row| row.section == section)
        .find(|row| row.names.iter().any(|pattern| matches(pattern, name)))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name
            .strip_prefix(before)
            .is_some_and(|rest| rest.len() >= after.len() && rest.ends_with(after)),
    }
}

/// What a template asks and is not served, row by row.
type Found = BTreeMap<usize, Asked>;

/// The attributes of one row that a template has, and the sections that they are in.
#[derive(Debug, Default)]
struct Asked {
    names: BTreeSet<String>,
    ids: BTreeSet<String>,
}

/// Lines for the VM's log about all that the VM asks and is not served; an error where it is to
/// be refused.
pub fn at_start(action: &str, vm: &Vm) -> anyhow::Result<Vec<String>> {
    judge(action, &all(vm))
}

/// The same for a VM that was started before, and only goes on: nothing is refused any more.
pub fn at_restore(action: &str, vm: &Vm) -> Vec<String> {
    let found = all(vm);
    found
        .iter()
        .filter_map(|(row, asked)| Some(line(action, TABLE.get(*row)?, asked)))
        .collect()
}

/// The same about one disk.
pub fn of_disk(action: &str, vm: &Vm, disk: DiskId) -> anyhow::Result<Vec<String>> {
    let mut found = Found::new();
    let template = vm.template.node();
    for node in template.children("DISK") {
        if node.value::<DiskId>("DISK_ID")? == Some(disk) {
            collect(Section::Disk, &node, &mut found);
        }
    }
    judge(action, &found)
}

/// The same about the context, which was written anew while the VM runs.
pub fn of_context(action: &str, vm: &Vm) -> anyhow::Result<Vec<String>> {
    let mut found = Found::new();
    for node in vm.template.node().children("CONTEXT") {
        collect(Section::Context, &node, &mut found);
    }
    judge(action, &found)
}

fn all(vm: &Vm) -> Found {
    let mut found = Found::new();
    let template = vm.template.node();
    collect(Section::Template, &template, &mut found);
    for section in [
        Section::Disk,
        Section::Nic,
        Section::Alias,
        Section::Context,
        Section::Os,
        Section::Topology,
    ] {
        for node in section.name().into_iter().flat_map(|n| {
            // The iterator borrows the name; the list ends that.
            template.children(n).collect::<Vec<_>>()
        }) {
            collect(section, &node, &mut found);
        }
    }
    if let Some(user) = &vm.user_template {
        collect(Section::User, &user.node(), &mut found);
    }
    found
}

fn collect(section: Section, node: &Node<'_>, found: &mut Found) {
    let id = section
        .id()
        .and_then(|name| node.text(name).ok().flatten())
        .unwrap_or_default();
    for child in node.all() {
        let Some((at, row)) = TABLE.iter().enumerate().find(|(_, row)| {
            row.section == section && row.names.iter().any(|p| matches(p, child.name()))
        }) else {
            continue;
        };
        let unserved = matches!(row.verdict, Verdict::Refused | Verdict::Said);
        if unserved && asks(row, &child) {
            let asked = found.entry(at).or_default();
            asked.names.insert(child.name().to_owned());
            if !id.is_empty() {
                asked.ids.insert(id.to_owned());
            }
        }
    }
}

fn asks(row: &Row, attribute: &Node<'_>) -> bool {
    match attribute.value_text() {
        // A section.
        None => !attribute.is_empty(),
        Some(value) => {
            let off = ["0", "NO", "FALSE", "NONE"]
                .iter()
                .any(|off| value.eq_ignore_ascii_case(off));
            !off && (row.asks)(value)
        }
    }
}

fn judge(action: &str, found: &Found) -> anyhow::Result<Vec<String>> {
    let rows = || {
        found
            .iter()
            .filter_map(|(at, asked)| Some((TABLE.get(*at)?, asked)))
    };
    let refused: Vec<String> = rows()
        .filter(|(row, _)| row.verdict == Verdict::Refused)
        .map(|(row, asked)| format!("{} ({})", subject(row, asked), row.effect))
        .collect();
    if !refused.is_empty() {
        bail!(
            "the template asks for what this version of the driver does not serve: {}; take it out of the template, or run the VM on another hypervisor",
            refused.join(", ")
        );
    }
    Ok(rows()
        .map(|(row, asked)| line(action, row, asked))
        .collect())
}

fn line(action: &str, row: &Row, asked: &Asked) -> String {
    format!(
        "{action}: {} is not served by this version of the driver: {}",
        subject(row, asked),
        row.effect
    )
}

/// `INBOUND_AVG_BW, INBOUND_PEAK_BW of NIC 0, 2`.
fn subject(row: &Row, asked: &Asked) -> String {
    let join = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
    match row.section.name() {
        None => join(&asked.names),
        Some(section) if asked.ids.is_empty() => {
            let names: Vec<_> = asked
                .names
                .iter()
                .map(|n| format!("{section}/{n}"))
                .collect();
            names.join(", ")
        }
        Some(section) => format!("{} of {section} {}", join(&asked.names), join(&asked.ids)),
    }
}

#[cfg(test)]
#[path = "attributes_tests.rs"]
mod tests;
