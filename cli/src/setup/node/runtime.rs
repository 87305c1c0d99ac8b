//! The runtime behind ours: crun, else runc, chosen by really running a container with each.
//! crun refuses a hybrid cgroup layout with a controller in the v2 tree, which shows only then.
//!
//! A choice that works stays: a container made by one runtime cannot be deleted by another.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;

use super::engine::Engine;
use crate::error::{Error, Result};
use crate::file_step::put;
use crate::host::Host;
use crate::owner::Owner;
use crate::step::{State, Step, action};
use onedock_common::process::{Command, find_local};

/// Where the choice is written: one line, an absolute path.
const CHOICE: &str = "/etc/onedock/runtime";

/// The runtimes in the order of preference.
const CANDIDATES: [&str; 2] = ["crun", "runc"];

/// Remarks for the end.
pub(super) type Remarks = Rc<RefCell<Vec<String>>>;

/// The choice; why a better one was not made goes to the remarks.
pub(super) fn choice_step(host: &Host, engine: &Engine, remarks: &Remarks) -> Box<dyn Step> {
    let remarks = Rc::clone(remarks);
    let path = host.path(CHOICE);
    let (at, engine) = (path.clone(), engine.clone());
    let found = move || read_choice(&at);
    let at = path.clone();
    action(
        path.display().to_string(),
        move || {
            let stands = found().is_some_and(|runtime| runtime.is_file());
            Ok(State::needed_if(
                !stands,
                "choose a runtime by trying crun, then runc",
            ))
        },
        move || {
            let systemd = engine.info()?.uses_systemd();
            let mut refusals = Vec::new();
            for name in CANDIDATES {
                let Some(runtime) = find_local(name) else {
                    refusals.push(format!("{name} is not installed"));
                    continue;
                };
                match try_out(&runtime, systemd) {
                    Ok(()) => {
                        let chosen = format!("The runtime is {}.", runtime.display());
                        remarks.borrow_mut().push(
                            std::iter::once(chosen)
                                .chain(
                                    refusals
                                        .iter()
                                        .map(|why| format!("It is not the first choice: {why}.")),
                                )
                                .collect::<Vec<_>>()
                                .join(" "),
                        );
                        let line = format!("{}\n", runtime.display());
                        return put(&at, line.as_bytes(), 0o644, &Owner::root());
                    }
                    Err(why) => refusals.push(why.line()),
                }
            }
            Err(Error::refused(format!(
                "no runtime works on this machine: {}",
                refusals.join("; ")
            )))
        },
    )
}

/// The runtime that was chosen for this node.
pub(super) fn chosen(host: &Host) -> Option<PathBuf> {
    read_choice(&host.path(CHOICE))
}

fn read_choice(path: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(path).ok()?;
    Some(PathBuf::from(text.trim())).filter(|p| p.is_absolute())
}

/// Runs `true` in a container of its own with limits, as the engine would have it.
fn try_out(runtime: &Path, systemd: bool) -> Result<()> {
    let bundle = tempfile::Builder::new()
        .prefix("onedock-try")
        .tempdir_in("/run")
        .map_err(Error::file("make a folder in", Path::new("/run")))?;
    let name = format!("onedock-try-{}", std::process::id());
    make_bundle(bundle.path(), &name, systemd)?;
    let state = bundle.path().join("state");
    let call = |words: &[&str]| {
        let mut call = Command::local(runtime)
            .args([Path::new("--root"), &state])
            .within(Duration::from_secs(20));
        if systemd {
            call = call.args(["--systemd-cgroup"]);
        }
        call.args(words)
    };
    let folder = bundle.path().display().to_string();
    let answer = call(&["run", "--bundle", &folder, &name]).checked();
    // What failed half-way leaves a container behind; what went well leaves none.
    let _ = call(&["delete", "--force", &name]).run();
    Ok(answer.map(drop)?)
}

/// A bundle with the host's own programs in it, read-only, so that no image is needed.
fn make_bundle(bundle: &Path, name: &str, systemd: bool) -> Result<()> {
    let root = bundle.join("rootfs");
    let make = |path: &Path| fs::create_dir_all(path).map_err(Error::file("make", path));
    make(&root.join("proc"))?;
    // crun wants a /dev to be there.
    make(&root.join("dev"))?;
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]
        }),
    ];
    for folder in ["usr", "bin", "lib", "lib32", "lib64", "nix", "gnu"] {
        let source = Path::new("/").join(folder);
        let inside = root.join(folder);
        if let Ok(target) = fs::read_link(&source) {
            std::os::unix::fs::symlink(target, &inside).map_err(Error::file("make", &inside))?;
        } else if source.is_dir() {
            make(&inside)?;
            mounts.push(json!({
                "destination": source, "type": "bind", "source": source,
                "options": ["rbind", "ro"]
            }));
        }
    }
    let cgroup = if systemd {
        format!("system.slice:onedock:{name}")
    } else {
        format!("/{name}")
    };
    let namespaces = ["pid", "mount", "ipc", "uts", "network"];
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/bin/true"],
            "env": ["PATH=/usr/bin:/bin"], "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "onedock-try",
        "mounts": mounts,
        "linux": {
            "cgroupsPath": cgroup,
            "resources": {"memory": {"limit": 67_108_864}, "cpu": {"shares": 1024}},
            "namespaces": namespaces.map(|kind| json!({"type": kind})),
        }
    });
    let path = bundle.join("config.json");
    fs::write(&path, config.to_string()).map_err(Error::file("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_one_absolute_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runtime");
        assert_eq!(read_choice(&path), None);
        fs::write(&path, "/usr/bin/crun\n").unwrap();
        assert_eq!(read_choice(&path), Some("/usr/bin/crun".into()));
        fs::write(&path, "crun\n").unwrap();
        assert_eq!(read_choice(&path), None);
    }

    #[test]
    fn what_is_no_runtime_is_found_out_by_trying() {
        let truth = find_local("false").unwrap();
        assert!(try_out(&truth, false).is_err());
    }

    #[test]
    fn one_of_the_runtimes_works_on_this_machine() {
        // Where crun refuses the machine's cgroups it must be for that and for nothing else.
        let tried: Vec<_> = CANDIDATES
            .iter()
            .filter_map(|name| find_local(name))
            .map(|runtime| try_out(&runtime, false).map_err(|e| e.line()))
            .collect();
        assert!(tried.iter().any(|answer| answer.is_ok()), "{tried:?}");
        let refused = tried.iter().filter_map(|answer| answer.as_ref().err());
        assert!(
            refused.into_iter().all(|why| why.contains("cgroup")),
            "{tried:?}"
        );
    }
}
