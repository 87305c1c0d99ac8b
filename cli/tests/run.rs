//! `onedock run` calls the drivers in `oned`'s order, undoes what fails, and forgets nothing. The
//! drivers here only write down how they were called: the real ones are played by the sandbox.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const RECORDER: &str = "#!/bin/sh
here=${0%/*}; folder=${here%/*/*}
echo \"${0#\"$folder\"/} $*\" >> \"$folder/calls\"
cat > \"$folder/stdin\"
if [ -e \"$folder/fails\" ] && grep -qx \"${0##*/}\" \"$folder/fails\"; then
    echo 'INFO: has begun' >&2; echo 'bridge br9 does not exist.' >&2; exit 1
fi
case ${0##*/} in
stat) echo 7 ;;
cp) echo \"docker://host:5000/onedock/img-$1@sha256:00 raw\" ;;
deploy) echo \"one-$3\" ;;
esac
";

const TEMPLATE: &str = "NAME=web\nCPU=0.5\nMEMORY=64\nDISK=[IMAGE=\"docker://host:5000/web\"]\n\
    NIC=[BRIDGE=br9,IP=10.0.0.5]\nCONTEXT=[NETWORK=YES]\n";

struct RecordingDrivers {
    dir: tempfile::TempDir,
}

impl RecordingDrivers {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let remotes = dir.path().join("remotes");
        for (folder, names) in [
            ("datastore/onedock", &["stat", "cp", "rm"][..]),
            ("tm/onedock", &["clone", "ln", "context", "delete", "mvds"]),
            ("vmm/onedock", &["deploy", "cancel", "shutdown"]),
            ("vnm/bridge", &["pre", "post", "clean"]),
        ] {
            fs::create_dir_all(remotes.join(folder)).unwrap();
            for name in names {
                let path = remotes.join(folder).join(name);
                fs::write(&path, RECORDER).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        fs::write(dir.path().join("web.one"), TEMPLATE).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_onedock"))
            .args(["run", "--oneadmin", "root", "--state"])
            .arg(self.path("state"))
            .arg("--remotes")
            .arg(self.path("remotes"))
            .args(arguments)
            .output()
            .unwrap()
    }

    fn play(&self) -> Output {
        let template = self.path("web.one");
        self.run(&[template.to_str().unwrap()])
    }

    /// The names of the calls since the last question.
    fn calls(&self) -> Vec<String> {
        let path = self.path("remotes/calls");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.lines()
            .map(|line| line.replace(self.dir.path().to_str().unwrap(), ""))
            .collect()
    }

    fn names(&self) -> Vec<String> {
        let first = |line: String| line.split(' ').next().unwrap().replace("/onedock", "");
        self.calls().into_iter().map(first).collect()
    }
}

fn output_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

fn folders(path: &Path) -> usize {
    fs::read_dir(path).map_or(0, |entries| entries.count())
}

#[test]
fn a_vm_is_played_and_ended_by_oned_s_calls_in_oned_s_order() {
    let drivers = RecordingDrivers::new();
    let played = drivers.play();
    assert!(played.status.success(), "{}", output_of(&played));
    let calls = drivers.calls();
    let system = "/state/datastores/1000001/1000000";
    let image = calls[1].rsplit(' ').next().unwrap().to_owned();
    assert_eq!(
        calls,
        [
            "datastore/onedock/stat 0".to_owned(),
            format!("datastore/onedock/cp {image}"),
            format!(
                "tm/onedock/clone docker://host:5000/onedock/img-{image}@sha256:00 localhost:{system}/disk.0 1000000 1000000"
            ),
            format!(
                "tm/onedock/context /state/vms/1000000/context.sh localhost:{system}/disk.1 1000000 1000001"
            ),
            "vnm/bridge/pre ".to_owned(),
            format!("vmm/onedock/deploy {system}/deployment.0 localhost 1000000 localhost"),
            "vnm/bridge/post one-1000000 localhost".to_owned(),
        ]
    );
    let stopped = drivers.run(&["--stop", "1000000", "--remove-image"]);
    assert!(stopped.status.success(), "{}", output_of(&stopped));
    assert_eq!(
        drivers.calls(),
        [
            "vmm/onedock/shutdown one-1000000 localhost 1000000 localhost".to_owned(),
            "vnm/bridge/clean localhost".to_owned(),
            format!("tm/onedock/delete localhost:{system}/disk.0 1000000 1000000"),
            format!("tm/onedock/delete localhost:{system} 1000000 1000001"),
            format!("datastore/onedock/rm {image}"),
        ]
    );
    for kind in ["vms", "images"] {
        assert_eq!(folders(&drivers.path("state").join(kind)), 0, "{kind}");
    }
}

#[test]
fn an_image_is_registered_once_and_an_address_is_used_once() {
    let drivers = RecordingDrivers::new();
    assert!(drivers.play().status.success());
    drivers.calls();
    let again = drivers.play();
    assert!(
        output_of(&again).contains("10.0.0.5 belongs to VM 1000000"),
        "{}",
        output_of(&again)
    );
    assert!(drivers.calls().is_empty());
    assert!(drivers.run(&["--stop", "1000000"]).status.success());
    drivers.calls();
    assert!(drivers.play().status.success());
    assert_eq!(drivers.names()[0], "tm/clone");
    assert!(output_of(&drivers.run(&["--list"])).contains("web"));
}

#[test]
fn what_fails_is_reported_in_the_driver_s_line_and_undone() {
    for (fails, undone) in [
        ("stat", &["datastore/stat"][..]),
        (
            "clone",
            &[
                "datastore/stat",
                "datastore/cp",
                "tm/clone",
                "tm/delete",
                "tm/delete",
            ],
        ),
        (
            "deploy",
            &[
                "datastore/stat",
                "datastore/cp",
                "tm/clone",
                "tm/context",
                "vnm/bridge/pre",
                "vmm/deploy",
                "vmm/cancel",
                "vnm/bridge/clean",
                "tm/delete",
                "tm/delete",
            ],
        ),
    ] {
        let drivers = RecordingDrivers::new();
        fs::write(drivers.path("remotes/fails"), format!("{fails}\n")).unwrap();
        let failed = drivers.play();
        let text = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(!failed.status.success());
        assert!(
            text.ends_with(&format!(" {fails}: bridge br9 does not exist.\n")),
            "{text}"
        );
        assert_eq!(drivers.names(), undone, "{fails}");
        assert_eq!(folders(&drivers.path("state/vms")), 0, "{fails}");
    }
}

#[test]
fn an_image_whose_copy_failed_is_copied_again_under_its_number() {
    let drivers = RecordingDrivers::new();
    fs::write(drivers.path("remotes/fails"), "cp\n").unwrap();
    assert!(!drivers.play().status.success());
    let first = drivers.calls();
    fs::remove_file(drivers.path("remotes/fails")).unwrap();
    assert!(drivers.play().status.success());
    assert_eq!(drivers.calls()[0], first[1]);
}

#[test]
fn a_vm_that_cannot_be_ended_stays_and_can_be_ended_again() {
    let drivers = RecordingDrivers::new();
    assert!(drivers.play().status.success());
    fs::write(drivers.path("remotes/fails"), "shutdown\n").unwrap();
    assert!(!drivers.run(&["--stop", "1000000"]).status.success());
    assert!(output_of(&drivers.run(&["--list"])).contains("EPILOG"));
    fs::remove_file(drivers.path("remotes/fails")).unwrap();
    assert!(drivers.run(&["--stop", "1000000"]).status.success());
    let unknown = drivers.run(&["--stop", "1000000"]);
    assert!(
        output_of(&unknown).contains("was not played here"),
        "{}",
        output_of(&unknown)
    );
}
