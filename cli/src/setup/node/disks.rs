//! What the disks of VMs have on this node (their programs stand in `setup/distribution.rs`, the
//! kernel's modules in `modules.rs`). A node that lacks something serves every VM that does not ask
//! for it, so this is a remark and no error.

use std::fs;
use std::path::Path;

use super::engine::{Engine, Info};
use super::modules::has_file_system;
use onedock_common::process::Command;

/// The file systems that a disk may have.
const FILE_SYSTEMS: [&str; 4] = ["ext4", "xfs", "btrfs", "iso9660"];

/// Remarks about what this node cannot do, once the steps are done.
pub(super) fn notes(engine: &Engine) -> Vec<String> {
    let mut notes = Vec::new();
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    notes.extend(describe(&|name| {
        has_file_system(&filesystems, name) || loads(name)
    }));
    if let Ok(info) = engine.info() {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        notes.extend(info.loss().map(str::to_owned));
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
