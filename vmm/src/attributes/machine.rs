//! What a template asks of the VM as a whole: TEMPLATE itself, OS and TOPOLOGY.

use super::row::{Row, Section, Verdict, row, row_if};

/// The rows, in the order in which they count.
pub(super) const ROWS: &[Row] = {
    use Section::{Os, Template, Topology};
    use Verdict::{Logged, Refused, Supported, WithoutMeaning};
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
            Logged,
            &["GRAPHICS"],
            "the VM has no VNC or SPICE console",
        ),
        row(Template, Logged, &["TPM"], "the VM has no TPM"),
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
            Supported,
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
                "NUMA_NODE",
                "RAW",
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
            Logged,
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
            Logged,
            &["ARCH"],
            "the VM runs on the host's processor, and its image decides for which it was built",
            is_foreign_arch,
        ),
        row_if(
            Os,
            Logged,
            &["BOOT"],
            "nothing is booted from a network or a CD; the first image of a container is the root disk",
            boots_elsewhere,
        ),
        row(
            Os,
            Logged,
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
            Supported,
            &["PIN_POLICY", "NODE_AFFINITY"],
            "the VM runs on the processors, and has memory of the nodes, that OpenNebula has given it (NUMA_NODE)",
        ),
        row(
            Topology,
            Logged,
            &["HUGEPAGE_SIZE", "MEMORY_ACCESS"],
            "the VM's memory has pages of the usual size",
        ),
        row(
            Topology,
            WithoutMeaning,
            &["SOCKETS", "CORES", "THREADS"],
            "they describe a machine; VCPU bounds what the VM may use",
        ),
    ]
};

/// Another processor than this host's.
fn is_foreign_arch(value: &str) -> bool {
    is_foreign_to(std::env::consts::ARCH, value)
}

fn is_foreign_to(own: &str, value: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::is_foreign_to;

    #[test]
    fn a_processor_is_the_host_s_by_both_of_its_names() {
        for (own, value, is_foreign) in [
            ("x86_64", "x86_64", false),
            ("x86_64", "AMD64", false),
            ("x86_64", "arm64", true),
            ("aarch64", "aarch64", false),
            ("aarch64", "arm64", false),
            ("aarch64", "amd64", true),
            ("riscv64", "riscv64", false),
            ("riscv64", "amd64", true),
        ] {
            assert_eq!(is_foreign_to(own, value), is_foreign, "{own} {value}");
        }
    }
}
