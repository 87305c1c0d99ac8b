//! The host keeps its hands off the loop devices of VMs, and makes none because a tenant opened a
//! node (docs/decisions/0017-loop-devices.md).

use std::fs;
use std::rc::Rc;
use std::time::Duration;

use crate::file_step::PutFile;
use crate::host::Host;
use crate::owner::Owner;
use crate::step::{State, Step, Steps, action};
use onedock_common::disk_file::LoopBound;
use onedock_common::process::{Command, find_local};

/// What the host's udev leaves alone.
const UDEV: &str = include_str!("../../../../packaging/udev-onedock.rules");
const UDEV_PATH: &str = "/etc/udev/rules.d/50-onedock.rules";

/// How many loop devices the kernel makes by itself.
const MODPROBE: &str = include_str!("../../../../packaging/modprobe-onedock.conf");
const MODPROBE_PATH: &str = "/etc/modprobe.d/onedock.conf";

/// The file by which an administrator allows disks as devices without the bound; `onedock-runtime` asks
/// for it (`node/src/disks/slots.rs`).
const ALLOWED_PATH: &str = "/etc/onedock/unbounded-loops";
const ALLOWED: &str =
    "# Disks are shown as devices although the loop driver has no bound (decision 17).\n";

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

/// Allows disks as devices on a host without the bound.
pub(super) fn allow_step(host: &Host) -> Box<dyn Step> {
    PutFile::new(host.path(ALLOWED_PATH), ALLOWED, 0o644, Owner::root())
}

/// Loads a driver that nobody uses again, with its bound.
pub(super) fn reload_step() -> Box<dyn Step> {
    action(
        "the bound of the loop driver",
        || {
            let unused = fs::read_to_string("/sys/module/loop/refcnt");
            let unused = unused.is_ok_and(|count| count.trim() == "0");
            let unset = LoopBound::of_kernel() == Some(LoopBound::UnsetInModule);
            let can = unset && unused && find_local("modprobe").is_some();
            Ok(State::needed_if(can, "load the driver again"))
        },
        || {
            for arguments in [["-r", "loop"], ["-q", "loop"]] {
                // Somebody may have begun to use it; the notes name what is lacking.
                let _ = Command::local("modprobe").args(arguments).run()?;
            }
            Ok(())
        },
    )
}

/// The remark when the running kernel does not have the bound.
pub(super) fn notes(host: &Host) -> Option<String> {
    describe(LoopBound::of_kernel()?, host.path(ALLOWED_PATH).exists())
}

fn describe(bound: LoopBound, allowed: bool) -> Option<String> {
    let what_to_do = match bound {
        LoopBound::InForce => return None,
        LoopBound::UnsetInKernel => {
            "the driver is built into this kernel: add loop.max_loop=16 to its command line and \
             reboot"
                .to_owned()
        }
        LoopBound::UnsetInModule => {
            format!("the module was loaded without it: reboot, and {MODPROBE_PATH} sets it")
        }
    };
    Some(match allowed {
        false => format!(
            "WARNING: max_loop of the loop driver is not set, so a process in a VM could make the \
             kernel create loop devices that the host may take for free ones. Disks are not shown \
             as devices (DEVICE=YES, or no file system) until it is: {what_to_do}. Where this host \
             uses no loop devices of its own, --allow-unbounded-loops allows them now."
        ),
        true => format!(
            "WARNING: max_loop of the loop driver is not set, so a process in a VM can make the \
             kernel create loop devices that the host may take for free ones; {ALLOWED_PATH} \
             allows it; {what_to_do}."
        ),
    })
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
        assert_eq!(describe(LoopBound::InForce, false), None);
        for (allowed, says) in [(false, "are not shown as devices"), (true, "allows it")] {
            let text = describe(LoopBound::UnsetInModule, allowed).unwrap();
            assert!(text.contains("reboot, and /etc/modprobe.d/onedock.conf"));
            assert!(text.contains(says), "{text}");
            let text = describe(LoopBound::UnsetInKernel, allowed).unwrap();
            assert!(text.contains("loop.max_loop=16 to its command line"));
        }
    }
}
