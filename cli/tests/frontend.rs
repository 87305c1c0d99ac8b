//! `onedock setup frontend` on an installation in a folder of its own. One test, so that no
//! other thread forks while it writes programs that it then runs.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

const DRIVERS: [&str; 4] = [
    "onedock-vmm",
    "onedock-tm",
    "onedock-datastore",
    "onedock-im",
];

fn golden(release: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(release)
        .join(name)
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn output_of(program: &Path, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Every file with its content, and every folder.
fn snapshot(folder: &Path, into: &mut Vec<(PathBuf, Vec<u8>)>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            into.push((path.clone(), Vec::new()));
            snapshot(&path, into);
        } else {
            into.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
}

fn state(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    snapshot(folder, &mut all);
    all
}

#[test]
fn an_installation_gets_the_drivers_once_and_its_shims_call_them() {
    let dir = tempfile::tempdir().unwrap();
    let (root, from) = (dir.path().join("root"), dir.path().join("from"));
    fs::create_dir(&from).unwrap();
    for name in DRIVERS {
        fs::copy("/proc/self/exe", from.join(name)).unwrap();
    }
    let onedock = PathBuf::from(env!("CARGO_BIN_EXE_onedock"));
    // 7.4 as a system-wide installation, 6.10 as one in a folder of its own.
    for (release, one_location) in [("7.4", None), ("6.10", Some("/srv/one"))] {
        let (etc, var) = match one_location {
            None => (root.join("etc/one"), root.join("var/lib/one")),
            Some(_) => (root.join("srv/one/etc"), root.join("srv/one/var")),
        };
        let remotes = var.join("remotes");
        fs::create_dir_all(remotes.join("vmm")).unwrap();
        fs::create_dir_all(remotes.join("vnm")).unwrap();
        let ssh = give_to_oneadmin(&root, &remotes);
        write(
            &etc.join("oned.conf"),
            &fs::read_to_string(golden(release, "oned.conf")).unwrap(),
            0o640,
        );
        write(
            &etc.join("monitord.conf"),
            "DB = [ CONNECTIONS = 15 ]\n",
            0o640,
        );
        write(
            &etc.join("vmm_exec/vmm_execrc"),
            "LIVE_DISK_SNAPSHOTS=\"kvm-ssh\"\n",
            0o640,
        );

        let words = [
            "setup",
            "frontend",
            "--root",
            root.to_str().unwrap(),
            "--from",
        ];
        let mut words = [
            &words[..],
            &[from.to_str().unwrap(), "--registry", "fe:5000"],
        ]
        .concat();
        if let Some(folder) = one_location {
            words.extend(["--one-location", folder]);
        }
        let before = state(&root);
        let dry = [&words[..], &["--dry-run"]].concat();
        assert!(output_of(&onedock, &dry).contains("would do"));
        assert_eq!(
            state(&root),
            before,
            "a dry run of {release} wrote something"
        );

        assert!(!output_of(&onedock, &words).contains("\n0 done, "));
        let after = state(&root);
        assert_eq!(
            fs::read_to_string(etc.join("oned.conf")).unwrap(),
            fs::read_to_string(golden(release, "oned.conf.after")).unwrap()
        );
        let mode = fs::metadata(etc.join("oned.conf"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o640);
        assert_eq!(
            after
                .iter()
                .filter(|(p, _)| is_backup(p) && p.starts_with(&etc))
                .count(),
            3
        );
        let config = fs::read_to_string(&ssh).unwrap();
        assert!(
            config.starts_with("Host mine\n  User me\n\n# ONEDock begin"),
            "{config}"
        );
        assert_eq!(config.matches("ControlMaster auto").count(), 1);
        let meta = fs::metadata(&ssh).unwrap();
        assert_eq!(meta.uid(), fs::metadata(&remotes).unwrap().uid());
        assert!(output_of(&onedock, &words).contains("\n0 done, "));
        assert!(
            state(&root) == after,
            "a second run of {release} wrote something"
        );
        shims_call_their_binaries(&remotes);
    }
    let old = Command::new(&onedock)
        .args(["setup", "frontend", "--root", "/nonexistent", "--from"])
        .arg(&from)
        .env_remove("ONE_LOCATION")
        .output()
        .unwrap();
    let line = String::from_utf8(old.stderr).unwrap();
    assert!(line.starts_with("onedock: no OpenNebula front-end") && line.lines().count() == 1);
}

/// The remotes belong to a user that is not root where the test can choose; its ssh knows a host.
fn give_to_oneadmin(root: &Path, remotes: &Path) -> PathBuf {
    let config = root.join("var/lib/one/.ssh/config");
    let mut uid = fs::metadata(remotes).unwrap().uid();
    if uid == 0 {
        uid = 9869;
        chown(remotes, Some(uid), Some(uid)).unwrap();
    }
    let passwd = format!("oneadmin:x:{uid}:{uid}::/var/lib/one:/bin/bash\n");
    write(&root.join("etc/passwd"), &passwd, 0o644);
    if !config.exists() {
        write(&config, "Host mine\n  User me\n", 0o600);
        chown(&config, Some(uid), None).unwrap();
    }
    config
}

fn is_backup(path: &Path) -> bool {
    path.to_string_lossy().ends_with(".before-onedock")
}

fn shims_call_their_binaries(remotes: &Path) {
    for name in DRIVERS {
        let binary = remotes
            .join("onedock")
            .join(std::env::consts::ARCH)
            .join(name);
        assert!(binary.is_file());
        write(
            &binary,
            "#!/bin/sh\nprintf '<%s>' \"${0##*/}\" \"$@\"\n",
            0o755,
        );
    }
    let mut count = 0;
    for (folder, binary) in [
        ("vmm/onedock", "onedock-vmm"),
        ("tm/onedock", "onedock-tm"),
        ("datastore/onedock", "onedock-datastore"),
    ] {
        for entry in fs::read_dir(remotes.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let action = path.file_name().unwrap().to_str().unwrap().to_owned();
            assert_eq!(
                output_of(&path, &["a b", "", "'\"$x"]),
                format!("<{binary}><{action}><a b><><'\"$x>")
            );
            count += 1;
        }
    }
    assert_eq!(count, 24 + 25 + 3 * 11 + 15);
    // run_monitord_client calls it by a path without its folder.
    for (words, text) in [
        (vec!["onedock", "0"], "<onedock-im><start><onedock><0>"),
        (vec!["stop", "onedock"], "<onedock-im><stop><onedock>"),
    ] {
        let output = Command::new("./monitord-client_control.sh")
            .args(words)
            .current_dir(remotes.join("im/onedock.d"))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
    }
}

/// The network drivers' side of the plug-in, for either parent of a NIC class: it registers,
/// answers the target as the tap, hands bandwidths to the driver, and an environment that it does not
/// know makes it no error.
#[test]
fn the_nic_plug_in_registers_and_raises_only_what_the_driver_has_answered() {
    let remotes = tempfile::tempdir().unwrap();
    let folder = |path: &str| {
        let folder = remotes.path().join(path);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    };
    let plugin = folder("vnm/vnmmad-load.d").join("onedock.rb");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/vnmmad-onedock.rb");
    std::fs::copy(shipped, &plugin).unwrap();
    let driver = folder("vmm/onedock").join("set_qos");
    std::fs::write(
        &driver,
        "#!/bin/sh\necho \"$#:$*\" >\"${0%/*}/called\"\n[ \"$1\" = one-5 ] || { echo no VM >&2; exit 1; }\n",
    )
    .unwrap();
    std::fs::set_permissions(&driver, std::fs::Permissions::from_mode(0o755)).unwrap();
    let known = "module VNMMAD; module VNMNetwork; HYPERVISORS = {}; PARENT end; end; load ARGV[0]; \
                 n = VNMMAD::VNMNetwork::HYPERVISORS['onedock'].new; n[:target] = 'one-5-0'; \
                 n[:inbound_avg_bw] = '1000'; n[:inbound_peak_kb] = '50'; n[:outbound_peak_bw] = ' 7'; \
                 n.get_info(nil); n.set_qos(nil); n.set_qos(VM); \
                 print n.get_tap(nil)[:tap], n.get_tap(nil).class.superclass";
    let run = |program: &str| {
        let output = Command::new("ruby")
            .arg("-e")
            .arg(program)
            .arg(&plugin)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        match output.status.success() {
            true => Ok(text(output.stdout)),
            false => Err(text(output.stderr)),
        }
    };
    let known = known.replace("VM)", "'one-5')");
    let lxc = known.replace("PARENT", "class NicLXC < Hash; end");
    assert_eq!(run(&lxc).unwrap(), "one-5-0VNMMAD::VNMNetwork::NicLXC");
    assert_eq!(run(&known.replace("PARENT", "")).unwrap(), "one-5-0Hash");
    let called = std::fs::read_to_string(driver.with_file_name("called")).unwrap();
    assert_eq!(called, "4:one-5 one-5-0 1000,,50 ,7,\n");
    let other = known.replace("PARENT", "").replace("'one-5')", "'one-6')");
    let error = run(&other).unwrap_err();
    assert!(error.contains("no VM"), "{error}");
    assert_eq!(run("load ARGV[0]; print 1").unwrap(), "1");
}
