//! The host keeps its hands off the loop devices of VMs, and makes none because a tenant opened a
//! node (docs/decisions/0017-loop-devices.md).

use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::file_step::PutFile;
use crate::host::Host;
use crate::owner::Owner;
use crate::step::{Step, Steps, action};
use onedock_common::process::{Command, find_local};

/// What the host's udev leaves alone.
const UDEV: &str = include_str!("../../../../packaging/udev-onedock.rules");
const UDEV_PATH: &str = "/etc/udev/rules.d/50-onedock.rules";

/// How many loop devices the kernel makes by itself.
const MODPROBE: &str = include_str!("../../../../packaging/modprobe-onedock.conf");
const MODPROBE_PATH: &str = "/etc/modprobe.d/onedock.conf";

/// From this index on, loop devices are containers' own (`onedock-node`, `disks/loops.rs`).
const RESERVED: u32 = 65_536;
/// What a kernel answers when nothing was set: 0, or, in newer ones, the number of devices at the
/// start (`CONFIG_BLK_DEV_LOOP_MIN_COUNT`, 0 or 8), which then bounds nothing.
const NOT_SET: [u32; 2] = [0, 8];

/// udevd answers at once, or is not there.
const RELOADED: Duration = Duration::from_secs(10);

/// Both files. They come before the module is loaded, which reads its options only then.
pub(super) fn steps(host: &Host) -> Steps {
    files(host, &Owner::root())
}

fn files(host: &Host, owner: &Owner) -> Steps {
    let file = |path, text| PutFile::new(host.path(path), text, 0o644, owner.clone());
    vec![
        file(MODPROBE_PATH, MODPROBE),
        rules_step(file(UDEV_PATH, UDEV), host.is_running()),
    ]
}

fn rules_step(file: Box<PutFile>, running: bool) -> Box<dyn Step> {
    let subject = file.subject();
    let file = Rc::new(file);
    let found = Rc::clone(&file);
    action(
        subject,
        move || found.check(),
        move || {
            file.apply()?;
            if running && find_local("udevadm").is_some() {
                // It fails where no udevd runs (in a container); one that starts later reads the
                // rules by itself.
                let _ = Command::local("udevadm")
                    .args(["control", "--reload"])
                    .within(RELOADED)
                    .run();
            }
            Ok(())
        },
    )
}

/// The remark when the running kernel does not have the bound yet.
pub(super) fn notes() -> Option<String> {
    let module = Path::new("/sys/module/loop");
    let bound = fs::read_to_string(module.join("parameters/max_loop")).ok()?;
    // Only a module that was loaded has a state (Documentation/ABI/stable/sysfs-module).
    describe(&bound, !module.join("initstate").exists())
}

fn describe(bound: &str, built_in: bool) -> Option<String> {
    let bound: u32 = bound.trim().parse().unwrap_or(0);
    if bound <= RESERVED && !NOT_SET.contains(&bound) {
        return None;
    }
    let what_to_do = if built_in {
        "the driver is built into this kernel: add loop.max_loop=16 to its command line and reboot"
            .to_owned()
    } else {
        format!("the module was loaded without it: reboot, and {MODPROBE_PATH} sets it")
    };
    Some(format!(
        "WARNING: max_loop of the loop driver is not set, so a process in a VM can make the \
         kernel create loop devices that the host may take for free ones; {what_to_do}."
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::step::{Mode, run};

    #[test]
    fn both_files_are_written_once_and_a_dry_run_writes_none() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let owner = Owner::of(dir.path()).unwrap();
        let changed = |mode| {
            let done = run(&files(&host, &owner), mode, &mut Vec::new());
            done.unwrap().changed()
        };
        assert_eq!(changed(Mode::DryRun), 2);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(changed(Mode::Apply), 2);
        for (path, text) in [(UDEV_PATH, UDEV), (MODPROBE_PATH, MODPROBE)] {
            let path = host.path(path);
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o644);
        }
        assert_eq!(changed(Mode::Apply), 0);
        fs::write(host.path(UDEV_PATH), "# an earlier version\n").unwrap();
        assert_eq!(changed(Mode::Apply), 1);
        assert_eq!(fs::read_to_string(host.path(UDEV_PATH)).unwrap(), UDEV);
    }

    fn lines(text: &str) -> Vec<&str> {
        let lines = text.lines().map(str::trim);
        lines
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
            .collect()
    }

    #[test]
    fn attack_the_rules_are_read_before_blkid_and_their_nowatch_is_final() {
        // Rules are read in the order of their names; udev-default is the first of systemd's own.
        assert!(UDEV_PATH.rsplit('/').next().unwrap() < "50-udev-default.rules");
        let lines = lines(UDEV);
        assert!(lines.contains(&"OPTIONS:=\"nowatch\""));
        assert!(lines.contains(&"ENV{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}=\"1\""));
        for line in &lines {
            if let Some((_, label)) = line.split_once("GOTO=") {
                assert!(lines.contains(&format!("LABEL={label}").as_str()), "{line}");
            }
        }
    }

    #[test]
    fn the_bound_of_the_module_is_the_one_line_of_its_file() {
        assert_eq!(lines(MODPROBE), ["options loop max_loop=16"]);
    }

    #[test]
    fn attack_a_kernel_without_the_bound_is_named_with_what_to_do() {
        assert_eq!(describe("16\n", false), None);
        assert_eq!(describe("64\n", true), None);
        for bound in ["0\n", "8\n", "100000\n", "?"] {
            let text = describe(bound, false).unwrap();
            assert!(text.contains("reboot, and /etc/modprobe.d/onedock.conf"));
        }
        let text = describe("8\n", true).unwrap();
        assert!(text.contains("loop.max_loop=16 to its command line"));
    }
}
