//! What disks beside the root disk need of a node's kernel (their programs stand in
//! `setup/distribution.rs`). A node that lacks a module serves every VM that does not ask for it,
//! so this is a remark and no error.

use std::fs;
use std::path::{Path, PathBuf};

use super::engine::{Engine, Info};
use crate::file_step::PutFile;
use crate::owner::Owner;
use crate::step::{State, Step, Steps, action};
use onedock_common::process::{Command, find_local};

/// What is loaded at each boot: loop devices for disks in files, FUSE for qcow2, overlay for the
/// trees of images. The file systems load with their first mount.
const MODULES: [&str; 3] = ["loop", "fuse", "overlay"];

const AT_BOOT: &str = "# ONEDock: what disks of VMs need.\nloop\nfuse\noverlay\n";

/// The file systems that a disk may have.
const FILE_SYSTEMS: [&str; 4] = ["ext4", "xfs", "btrfs", "iso9660"];

/// The modules, now and at each boot.
pub(super) fn steps() -> Steps {
    let mut steps = vec![modules_step()];
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

fn modules_step() -> Box<dyn Step> {
    action(
        "kernel modules for disks",
        || {
            let lacking = modules_lacking();
            Ok(State::needed_if(
                !lacking.is_empty() && find_local("modprobe").is_some(),
                format!("load {}", lacking.join(", ")),
            ))
        },
        || {
            for module in modules_lacking() {
                // A kernel that has none of them anywhere serves VMs without such disks; the
                // notes at the end name it.
                let _ = Command::local("modprobe")
                    .args(["-q", "--", module])
                    .run()?;
            }
            Ok(())
        },
    )
}

fn modules_lacking() -> Vec<&'static str> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    not_in_kernel(&read("/proc/filesystems"), &read("/proc/devices"))
}

fn not_in_kernel(filesystems: &str, devices: &str) -> Vec<&'static str> {
    MODULES
        .into_iter()
        .filter(|module| match *module {
            // The node /dev/loop-control is there before the driver is.
            "loop" => !devices.lines().any(|l| l.trim() == "7 loop"),
            other => !has_file_system(filesystems, other),
        })
        .collect()
}

fn has_file_system(filesystems: &str, name: &str) -> bool {
    filesystems
        .lines()
        .any(|line| line.split_whitespace().next_back() == Some(name))
}

/// Remarks about what this node cannot do, once the steps are done.
pub(super) fn notes(engine: &Engine) -> Vec<String> {
    let mut notes = Vec::new();
    let lacking = modules_lacking();
    if !lacking.is_empty() {
        notes.push(format!(
            "WARNING: the kernel has no {}: disks beside the root disk need them.",
            lacking.join(", ")
        ));
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    notes.extend(describe(&|name| {
        has_file_system(&filesystems, name) || loads(name)
    }));
    if let Ok(info) = engine.info() {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        notes.push(root_bound(
            &info.driver,
            has_project_quota(&mounts, layers_folder(&info)),
        ));
    }
    notes
}

/// Where the engine has its layers: a containerd that is a service of its own keeps them itself.
fn layers_folder(info: &Info) -> &str {
    const CONTAINERD: &str = "/var/lib/containerd";
    if info.driver == "overlayfs" && Path::new("/run/containerd/containerd.sock").exists() {
        CONTAINERD
    } else {
        &info.docker_root_dir
    }
}

/// Whether the kernel would find the file system at its first mount.
fn loads(name: &str) -> bool {
    let alias = format!("fs-{name}");
    Command::local("modprobe")
        .args(["-n", "-q", "--", &alias])
        .run()
        .is_ok_and(|answer| answer.succeeded())
}

fn describe(has: &dyn Fn(&str) -> bool) -> Option<String> {
    let (there, not): (Vec<&str>, Vec<&str>) = FILE_SYSTEMS.into_iter().partition(|fs| has(fs));
    if not.is_empty() {
        return None;
    }
    let instead: Vec<String> = not
        .iter()
        .map(|fs| match *fs {
            "iso9660" => "the files of a CD are unpacked instead".to_owned(),
            other => format!("a disk with {other} is shown as a device only"),
        })
        .collect();
    Some(format!(
        "The kernel mounts {}; {}.",
        there.join(", "),
        instead.join("; ")
    ))
}

/// Whether SIZE of a root disk is a bound here.
fn root_bound(driver: &str, project_quota: bool) -> String {
    if matches!(driver, "overlay2" | "overlayfs") && project_quota {
        "The engine's storage keeps quotas: SIZE bounds a root disk.".into()
    } else {
        "The engine's storage keeps no quota: SIZE does not bound a root disk (for that the \
         engine's folder must be on xfs mounted with pquota, or on ext4 with prjquota)."
            .into()
    }
}

/// Whether the file system of `folder` is one with project quotas (proc_pid_mountinfo(5)).
fn has_project_quota(mountinfo: &str, folder: &str) -> bool {
    let mut best: Option<(usize, bool)> = None;
    for line in mountinfo.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else {
            continue;
        };
        let Some(point) = mount.split(' ').nth(4) else {
            continue;
        };
        let beneath = point == "/"
            || folder
                .strip_prefix(point)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        // A later mount on the same point hides an earlier one.
        if beneath && best.is_none_or(|(length, _)| point.len() >= length) {
            let quota = (kind.starts_with("xfs ") || kind.starts_with("ext4 "))
                && kind
                    .rsplit(' ')
                    .next()
                    .is_some_and(|o| o.split(',').any(|o| o == "prjquota" || o == "pquota"));
            best = Some((point.len(), quota));
        }
    }
    best.is_some_and(|(_, quota)| quota)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_is_not_loaded_is_known_by_its_node() {
        let devices = "Character devices:\n 10 misc\n\nBlock devices:\n  7 loop\n 77 loopy\n";
        let filesystems = "nodev\tfuse\n\tfuseblk\nnodev\toverlay\n\text4\n";
        assert_eq!(not_in_kernel(filesystems, devices), Vec::<&str>::new());
        assert_eq!(not_in_kernel("\tfuseblk\n", " 77 loopy\n"), MODULES);
    }

    #[test]
    fn what_the_kernel_lacks_is_said_with_what_happens_instead() {
        assert_eq!(describe(&|_| true), None);
        let text = describe(&|fs| fs == "ext4" || fs == "xfs").unwrap();
        assert_eq!(
            text,
            "The kernel mounts ext4, xfs; a disk with btrfs is shown as a device only; the files \
             of a CD are unpacked instead."
        );
    }

    #[test]
    fn the_quota_is_that_of_the_mount_in_which_the_engine_keeps_its_layers() {
        let info = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                    30 22 7:0 / /var/lib/docker rw shared:1 - xfs /dev/loop0 rw,attr2,prjquota\n\
                    31 22 7:1 / /var/lib/docker2 rw - xfs /dev/loop1 rw,noquota\n";
        assert!(has_project_quota(info, "/var/lib/docker"));
        assert!(has_project_quota(info, "/var/lib/docker/1000.1000"));
        assert!(!has_project_quota(info, "/var/lib/docker2"));
        assert!(!has_project_quota(info, "/var/lib/dockers"));
        assert!(!has_project_quota("", "/var/lib/docker"));
        assert!(root_bound("overlay2", true).contains("bounds a root disk"));
        assert!(root_bound("vfs", true).contains("does not bound"));
    }
}
