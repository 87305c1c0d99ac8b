//! What OpenNebula's remotes tree has to hold so that `run_monitord_client` finds the agent.
//! `setup frontend` writes these; the agent itself needs none of them.

/// Where [`CONTROL_SHIM`] lies below `remotes/`; it must be executable.
pub const CONTROL_SHIM_PATH: &str = "im/onedock.d/monitord-client_control.sh";

/// `run_monitord_client` calls it with `<im_mad> <host id> <host name>` and
/// `stop_monitord_client` with `stop` before these, both with `im/onedock.d` as current folder.
/// It must say nothing on stderr when all is well: both streams are one for its caller.
pub const CONTROL_SHIM: &str = r#"#!/bin/sh
# Starts and stops this host's monitor agent: called by im/run_monitord_client and im/stop_monitord_client.
[ "$1" = stop ] || set -- start "$@"
exec "${0%/*}/../../onedock/$(uname -m)/onedock-im" "$@"
"#;

/// The probe folders that the releases insist on, below `remotes/` (`vm/execution` from 7.2
/// on; a missing one puts the host in ERROR as soon as a stock client runs). The agent leaves
/// them empty: it has the probes inside.
pub const PROBE_DIRS: &[&str] = &[
    "im/onedock-probes.d/host/beacon",
    "im/onedock-probes.d/host/monitor",
    "im/onedock-probes.d/host/system",
    "im/onedock-probes.d/vm/execution",
    "im/onedock-probes.d/vm/monitor",
    "im/onedock-probes.d/vm/snapshot",
    "im/onedock-probes.d/vm/status",
];

/// A file of this name, not executable, keeps each of [`PROBE_DIRS`] alive through git and
/// packages; clients run executable files only.
pub const KEEP: &str = ".keep";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::process::Command;

    #[test]
    fn all_seven_probe_folders_are_named_once() {
        let names: BTreeSet<_> = PROBE_DIRS.iter().collect();
        assert_eq!((names.len(), PROBE_DIRS.len()), (7, 7));
        assert!(
            PROBE_DIRS
                .iter()
                .all(|d| d.starts_with("im/onedock-probes.d/"))
        );
    }

    #[test]
    fn the_shim_calls_start_and_stop_with_the_arguments_as_they_are() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let arch = Command::new("uname").arg("-m").output().unwrap().stdout;
        let arch = String::from_utf8(arch).unwrap();
        let bin = dir.path().join("onedock").join(arch.trim());
        std::fs::create_dir_all(&bin).unwrap();
        let shim = dir.path().join(CONTROL_SHIM_PATH);
        std::fs::create_dir_all(shim.parent().unwrap()).unwrap();
        let put = |path: &std::path::Path, text: &str| {
            std::fs::write(path, text).unwrap();
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        };
        put(&shim, CONTROL_SHIM);
        put(&bin.join("onedock-im"), "#!/bin/sh\nprintf '<%s>' \"$@\"\n");
        let run = |args: &[&str]| {
            let out = Command::new("./monitord-client_control.sh")
                .args(args)
                .current_dir(shim.parent().unwrap())
                .output()
                .unwrap();
            assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
            String::from_utf8(out.stdout).unwrap()
        };
        assert_eq!(run(&["onedock", "3", "a b"]), "<start><onedock><3><a b>");
        assert_eq!(run(&["stop", "onedock", "3", "h"]), "<stop><onedock><3><h>");
    }
}
