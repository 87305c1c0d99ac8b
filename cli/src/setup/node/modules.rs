//! The modules of the kernel that a node needs, now and at each boot.

use std::fs;
use std::path::{Path, PathBuf};

use crate::file_step::PutFile;
use crate::owner::Owner;
use crate::step::{State, Step, Steps, action};
use onedock_common::process::{Command, find_local};

/// Loop devices for disks in files, FUSE for qcow2, overlay for the trees of images; br_netfilter, by
/// which security groups see bridged packets (Docker Engine loads it by itself up to 27 only). The
/// file systems load with their first mount.
const MODULES: [&str; 4] = ["loop", "fuse", "overlay", BRIDGE_FILTER];
const BRIDGE_FILTER: &str = "br_netfilter";

const AT_BOOT: &str =
    "# ONEDock: what disks and security groups of VMs need.\nloop\nfuse\noverlay\nbr_netfilter\n";

/// The modules, now and at each boot.
pub(super) fn steps() -> Steps {
    let mut steps = vec![load_step()];
    let folder = PathBuf::from("/etc/modules-load.d");
    if find_local("modprobe").is_some() && folder.is_dir() {
        steps.push(PutFile::new(
            folder.join("onedock.conf"),
            AT_BOOT,
            0o644,
            Owner::root(),
        ));
    }
    steps
}

fn load_step() -> Box<dyn Step> {
    action(
        "kernel modules for disks and security groups",
        || {
            let lacking = lacking();
            Ok(State::needed_if(
                !lacking.is_empty() && find_local("modprobe").is_some(),
                format!("load {}", lacking.join(", ")),
            ))
        },
        || {
            for module in lacking() {
                // A kernel that has none of them anywhere serves VMs without what needs them; the
                // notes at the end name it.
                let _ = Command::local("modprobe")
                    .args(["-q", "--", module])
                    .run()?;
            }
            Ok(())
        },
    )
}

/// Those of which the kernel has nothing yet.
fn lacking() -> Vec<&'static str> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let bridge_filter = Path::new("/proc/sys/net/bridge").exists();
    not_in_kernel(
        &read("/proc/filesystems"),
        &read("/proc/devices"),
        bridge_filter,
    )
}

fn not_in_kernel(filesystems: &str, devices: &str, bridge_filter: bool) -> Vec<&'static str> {
    MODULES
        .into_iter()
        .filter(|module| match *module {
            // The node /dev/loop-control is there before the driver is.
            "loop" => !devices.lines().any(|l| l.trim() == "7 loop"),
            BRIDGE_FILTER => !bridge_filter,
            other => !has_file_system(filesystems, other),
        })
        .collect()
}

/// Whether `/proc/filesystems` has a file system.
pub(super) fn has_file_system(filesystems: &str, name: &str) -> bool {
    filesystems
        .lines()
        .any(|line| line.split_whitespace().next_back() == Some(name))
}

/// Remarks about what could not be loaded, and whether security groups can work.
pub(super) fn notes() -> Vec<String> {
    let mut notes = Vec::new();
    let mut lacking = lacking();
    lacking.retain(|module| *module != BRIDGE_FILTER);
    if !lacking.is_empty() {
        notes.push(format!(
            "WARNING: the kernel has no {}: disks beside the root disk need them.",
            lacking.join(", ")
        ));
    }
    let read =
        |tool: &str| fs::read_to_string(format!("/proc/sys/net/bridge/bridge-nf-call-{tool}")).ok();
    notes.push(describe_filter(
        read("iptables").as_deref(),
        read("ip6tables").as_deref(),
    ));
    notes
}

/// Whether bridged packets pass iptables, for IPv4 and IPv6.
fn describe_filter(ipv4: Option<&str>, ipv6: Option<&str>) -> String {
    let is_on = |setting: Option<&str>| setting.is_some_and(|text| text.trim() == "1");
    let off = |tool: &str| {
        format!(
            "WARNING: net.bridge.bridge-nf-call-{tool} is 0: security groups filter nothing of it; \
             set it to 1 in /etc/sysctl.d."
        )
    };
    if ipv4.is_none() {
        "WARNING: the kernel has no br_netfilter: security groups filter nothing.".into()
    } else if !is_on(ipv4) {
        off("iptables")
    } else if !is_on(ipv6) {
        off("ip6tables")
    } else {
        "br_netfilter is on: bridged packets pass iptables, security groups work.".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_is_not_loaded_is_known_by_its_node() {
        let devices = "Character devices:\n 10 misc\n\nBlock devices:\n  7 loop\n 77 loopy\n";
        let filesystems = "nodev\tfuse\n\tfuseblk\nnodev\toverlay\n\text4\n";
        let none = Vec::<&str>::new();
        assert_eq!(not_in_kernel(filesystems, devices, true), none);
        assert_eq!(not_in_kernel(filesystems, devices, false), [BRIDGE_FILTER]);
        assert_eq!(not_in_kernel("\tfuseblk\n", " 77 loopy\n", false), MODULES);
    }

    #[test]
    fn every_module_is_loaded_at_each_boot() {
        let lines = AT_BOOT.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(lines.collect::<Vec<_>>(), MODULES);
    }

    #[test]
    fn security_groups_need_both_switches_of_the_bridge_filter() {
        let on = Some("1\n");
        assert!(describe_filter(on, on).contains("is on"));
        assert!(describe_filter(Some("0\n"), on).contains("call-iptables is 0"));
        assert!(describe_filter(on, Some("0\n")).contains("call-ip6tables is 0"));
        assert!(describe_filter(None, None).contains("has no br_netfilter"));
    }
}
