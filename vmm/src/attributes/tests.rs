//! The table against what templates have, and the page of the documentation against the table.

use std::fmt::Write as _;

use onedock_common::opennebula::nic::DEFAULT_PREFIX;

use super::row::matches;
use super::*;

const RECORDED: [&str; 2] = [
    include_str!("../../../common/testdata/deploy-7.4.0.xml"),
    include_str!("../../../common/testdata/deploy-6.10.xml"),
];
const PAGE: &str = include_str!("../../../docs/attributes.md");

fn vm(text: &str) -> Vm {
    Vm::from_deployment(text.as_bytes(), DEFAULT_PREFIX).unwrap()
}

/// The recorded document with this in front of what is in TEMPLATE.
fn with(text: &str) -> Vm {
    vm(&RECORDED[0].replacen("<TEMPLATE>", &format!("<TEMPLATE>{text}"), 1))
}

/// The recorded document with this put into its first section of that name.
fn with_in(section: &str, text: &str) -> Vm {
    let mark = format!("<{section}>");
    let changed = RECORDED[0].replacen(&mark, &format!("{mark}{text}"), 1);
    assert_ne!(changed, RECORDED[0]);
    vm(&changed)
}

#[test]
fn every_attribute_of_the_recorded_templates_is_in_the_table() {
    for text in RECORDED {
        let vm = vm(text);
        let template = vm.template.node();
        let check = |section: Section, node: &Node<'_>| {
            for child in node.all() {
                let name = child.name();
                assert!(of(section, name).is_some(), "{section:?} {name}");
            }
        };
        check(Section::Template, &template);
        for section in [
            Section::Disk,
            Section::Nic,
            Section::Alias,
            Section::Context,
            Section::Os,
            Section::Topology,
        ] {
            for node in template.children(section.name().unwrap()) {
                check(section, &node);
            }
        }
        check(Section::User, &vm.user_template.as_ref().unwrap().node());
    }
}

#[test]
fn attack_2_what_the_recorded_vm_asks_in_vain_is_said_once_each() {
    let expected = [
        "deploy: GRAPHICS is not supported by this version of the driver: the VM has no VNC or SPICE console",
    ];
    for text in RECORDED {
        assert_eq!(at_start("deploy", &vm(text)).unwrap(), expected);
    }
}

#[test]
fn no_recorded_start_is_refused_and_only_the_first_vm_asks_for_what_is_not_supported() {
    let mut starts = 0;
    for file in ["6.10/calls", "6.10/disks", "7.4.0/calls", "7.4.0/disks"] {
        let root = env!("CARGO_MANIFEST_DIR");
        let text = std::fs::read_to_string(format!("{root}/../tests/replay/{file}.jsonl")).unwrap();
        for line in text.lines() {
            let call: serde_json::Value = serde_json::from_str(line).unwrap();
            if call["driver"] != "vmm" || call["action"] != "deploy" {
                continue;
            }
            starts += 1;
            let lines = at_start("deploy", &vm(call["stdin"].as_str().unwrap())).unwrap();
            let expected = match call["operation"].as_str().unwrap() {
                "create" => 1,
                _ => 0,
            };
            assert_eq!(
                lines.len(),
                expected,
                "{file} {} {lines:?}",
                call["operation"]
            );
        }
    }
    assert_eq!(starts, 30);
}

/// Whether the lines about a VM have one that begins so.
fn says(vm: &Vm, text: &str) -> bool {
    let lines = at_start("deploy", vm).unwrap();
    lines
        .iter()
        .any(|line| line.starts_with(&format!("deploy: {text} is not supported")))
}

#[test]
fn what_is_not_supported_is_logged_with_where_it_stands() {
    for (section, text, said) in [
        (
            "DISK",
            "<TOTAL_IOPS_SEC>100</TOTAL_IOPS_SEC>",
            "TOTAL_IOPS_SEC of DISK 0",
        ),
        (
            "DISK",
            "<READ_BYTES_SEC_MAX_LENGTH>5</READ_BYTES_SEC_MAX_LENGTH>",
            "READ_BYTES_SEC_MAX_LENGTH of DISK 0",
        ),
        (
            "CONTEXT",
            "<DNS_HOSTNAME>YES</DNS_HOSTNAME>",
            "CONTEXT/DNS_HOSTNAME",
        ),
        (
            "OS",
            "<KERNEL_CMD>quiet</KERNEL_CMD><ARCH>s390x</ARCH>",
            "OS/KERNEL_CMD",
        ),
        (
            "OS",
            "<KERNEL_CMD>quiet</KERNEL_CMD><ARCH>s390x</ARCH>",
            "OS/ARCH",
        ),
    ] {
        assert!(says(&with_in(section, text), said), "{text}");
    }
    for (text, said) in [
        (
            "<TOPOLOGY><HUGEPAGE_SIZE>2</HUGEPAGE_SIZE></TOPOLOGY>",
            "TOPOLOGY/HUGEPAGE_SIZE",
        ),
        ("<TPM><MODEL>tpm-crb</MODEL></TPM>", "TPM"),
    ] {
        assert!(says(&with(text), said), "{text}");
    }
    let booted = RECORDED[0].replace("<BOOT><![CDATA[disk0]]>", "<BOOT><![CDATA[nic0,disk0]]>");
    assert!(says(&vm(&booted), "OS/BOOT"));
}

#[test]
fn what_guards_data_secrets_or_the_network_is_refused_with_all_of_it_in_one_line() {
    for (vm, said) in [
        (
            with("<PCI><VENDOR>10de</VENDOR></PCI>"),
            "PCI (no device of the host",
        ),
        (
            with("<MEMORY_ENCRYPTION><TYPE>SEV</TYPE></MEMORY_ENCRYPTION>"),
            "MEMORY_ENCRYPTION (",
        ),
        (with("<VROUTER_ID>3</VROUTER_ID>"), "VROUTER_ID ("),
        (
            with_in("DISK", "<LUKS_SECRET>x</LUKS_SECRET>"),
            "LUKS_SECRET of DISK 0 (the disk would hold its data in plain text)",
        ),
        (
            with_in("DISK", "<SHAREABLE>YES</SHAREABLE>"),
            "SHAREABLE of DISK 0 (",
        ),
        (
            with_in("NIC", "<FILTER>clean-traffic</FILTER>"),
            "FILTER of NIC 0 (",
        ),
    ] {
        let error = at_start("deploy", &vm).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert!(error.contains("take it out of the template"), "{error}");
        assert!(error.len() < 600, "{error}");
        // A VM that runs with it since an earlier version goes on.
        let lines = at_restore("restore", &vm);
        assert_eq!(lines.len(), 2, "{lines:?}");
    }
    let both = with("<PCI><VENDOR>10de</VENDOR></PCI><VROUTER_ID>3</VROUTER_ID>");
    let error = at_start("deploy", &both).unwrap_err().to_string();
    assert!(
        error.contains("PCI (") && error.contains("VROUTER_ID ("),
        "{error}"
    );
}

#[test]
fn an_attribute_that_asks_for_nothing_is_not_spoken_of() {
    let before = at_start("deploy", &vm(RECORDED[0])).unwrap();
    for (section, text) in [
        (
            "NIC",
            "<OUTBOUND_AVG_BW>0</OUTBOUND_AVG_BW><OUTBOUND_PEAK_BW/>",
        ),
        (
            "NIC",
            "<MODEL>e1000</MODEL><VIRTIO_QUEUES>4</VIRTIO_QUEUES><FILTER/>",
        ),
        ("NIC", "<FILTER_IP_SPOOFING>YES</FILTER_IP_SPOOFING>"),
        (
            "DISK",
            "<CACHE>none</CACHE><IO>native</IO><SHAREABLE>NO</SHAREABLE>",
        ),
        ("DISK", "<TOTAL_BYTES_SEC/>"),
        (
            "CONTEXT",
            "<REPORT_READY>NO</REPORT_READY><GROW_FS>/</GROW_FS>",
        ),
        (
            "CONTEXT",
            "<ETH7_IP6_METHOD>static</ETH7_IP6_METHOD><GREETING2>x</GREETING2>",
        ),
        ("FEATURES", "<ACPI>YES</ACPI>"),
        (
            "OS",
            "<FIRMWARE>BIOS</FIRMWARE><FIRMWARE_SECURE>NO</FIRMWARE_SECURE>",
        ),
    ] {
        assert_eq!(
            at_start("deploy", &with_in(section, text)).unwrap(),
            before,
            "{text}"
        );
    }
    let own = format!("<ARCH>{}</ARCH>", std::env::consts::ARCH);
    assert_eq!(at_start("deploy", &with_in("OS", &own)).unwrap(), before);
    for text in [
        "<TOPOLOGY><PIN_POLICY>NONE</PIN_POLICY><CORES>2</CORES></TOPOLOGY>",
        "<MEMORY_MAX>1024</MEMORY_MAX><VCPU_MAX>4</VCPU_MAX>",
        "<PCI/>",
    ] {
        assert_eq!(at_start("deploy", &with(text)).unwrap(), before, "{text}");
    }
}

#[test]
fn of_a_disk_and_of_the_context_only_their_own_is_logged() {
    let vm = with_in("DISK", "<TOTAL_IOPS_SEC>9</TOTAL_IOPS_SEC>");
    let said = |disk| {
        of_disk("attach_disk", &vm, DiskId::new(disk))
            .unwrap()
            .len()
    };
    assert_eq!((said(0), said(1)), (1, 0));
    let secret = with_in("DISK", "<LUKS_SECRET>x</LUKS_SECRET>");
    assert!(of_disk("attach_disk", &secret, DiskId::new(0)).is_err());
    assert!(of_disk("attach_disk", &secret, DiskId::new(1)).is_ok());
    let named = with_in("CONTEXT", "<DNS_HOSTNAME>YES</DNS_HOSTNAME>");
    let lines = of_context("reconfigure", &named).unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines.iter().all(|l| l.starts_with("reconfigure: CONTEXT/")));
}

#[test]
fn a_pattern_has_one_star_for_any_text() {
    for (pattern, name, good) in [
        ("INBOUND_*", "INBOUND_AVG_BW", true),
        ("INBOUND_*", "OUTBOUND_AVG_BW", false),
        ("ETH*_ROUTES", "ETH0_ROUTES", true),
        ("ETH*_ROUTES", "ETH0_ALIAS1_ROUTES", true),
        ("ETH*_ROUTES", "ETH_ROUTE", false),
        ("AB*BC", "ABC", false),
        ("PCI", "PCI2", false),
        ("*", "X", true),
    ] {
        assert_eq!(matches(pattern, name), good, "{pattern} {name}");
    }
}

/// The tables of the page.
fn page() -> String {
    let mut text = String::new();
    for (verdict, title) in [
        (Verdict::Refused, "Refused"),
        (Verdict::Logged, "Logged"),
        (Verdict::WithoutMeaning, "Without meaning"),
        (Verdict::Supported, "Supported"),
    ] {
        let _ = write!(
            text,
            "\n## {title}\n\n| where | attributes | {} |\n| --- | --- | --- |\n",
            match verdict {
                Verdict::Refused => "because",
                Verdict::Logged => "the line says",
                Verdict::WithoutMeaning => "why",
                Verdict::Supported => "by whom",
            }
        );
        for row in table().filter(|row| row.verdict == verdict) {
            let place = match row.section {
                Section::Template => "the template",
                Section::User => "the template, for others than OpenNebula",
                section => section.name().unwrap_or_default(),
            };
            let names = match row.names {
                ["*"] => "all others".to_owned(),
                names => names
                    .iter()
                    .map(|n| format!("`{n}`"))
                    .collect::<Vec<_>>()
                    .join(", "),
            };
            let _ = writeln!(text, "| {place} | {names} | {} |", row.effect);
        }
    }
    text
}

/// `ONEDOCK_WRITE_DOCS=1` writes the page anew.
#[test]
fn the_page_of_the_documentation_has_the_table() {
    let at = PAGE
        .find("\n## Refused\n")
        .expect("docs/attributes.md has no tables");
    if std::env::var_os("ONEDOCK_WRITE_DOCS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/attributes.md");
        std::fs::write(path, format!("{}{}", &PAGE[..at], page())).unwrap();
        return;
    }
    assert_eq!(
        &PAGE[at..],
        page(),
        "docs/attributes.md is not what the table says; ONEDOCK_WRITE_DOCS=1 writes it anew"
    );
}
