//! That nothing is left of a VM: asked of the kernel, the engines, the registry's storage and the
//! folders.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::cloud::{Cloud, Node};
use super::inspect::{STATE, names};

impl Node {
    /// Nothing of any VM is left on the node. A staged image may stay.
    pub fn check_nothing_left(&self, mounts: &BTreeSet<String>) -> Result<()> {
        for (what, words) in [
            ("containers", &["ps", "-aq"][..]),
            ("volumes", &["volume", "ls", "-q"]),
        ] {
            let left = self.engine.docker(words)?;
            ensure!(left.is_empty(), "{what} are left: {left}");
        }
        let ends = self.host_ends()?;
        ensure!(ends.is_empty(), "host ends are left: {ends:?}");
        let left: Vec<_> = self.mounts()?.difference(mounts).cloned().collect();
        ensure!(left.is_empty(), "mounts are left: {left:?}");
        let datastores = self.var.join("datastores");
        self.engine.inside(|| {
            for folder in ["boot", "journal"].map(|n| Path::new(STATE).join(n)) {
                let left = names(&folder)?;
                ensure!(left.is_empty(), "{}: {left:?}", folder.display());
            }
            let left = names(Path::new("/run/onedock/containers"))?;
            ensure!(left.is_empty(), "records are left: {left:?}");
            check_datastores(&datastores)?;
            check_state(Path::new(STATE))
        })?;
        self.check_no_device()
    }

    /// No loop device shows a file of the datastores, and no program serves one.
    fn check_no_device(&self) -> Result<()> {
        let folder = self.var.join("datastores");
        let device = self
            .engine
            .inside(|| Ok(folder.metadata()?.dev()))
            .context("no datastores")?;
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let wanted = format!("{major}:{minor}");
        let begin = Instant::now();
        loop {
            let list = self.engine.run(
                "losetup",
                &[
                    "--list",
                    "--noheadings",
                    "-O",
                    "NAME,BACK-MAJ:MIN,BACK-FILE",
                ],
            )?;
            let loops: Vec<&str> = list
                .lines()
                .filter(|line| line.split_whitespace().nth(1) == Some(&wanted))
                .collect();
            let daemons: Vec<String> = self
                .engine
                .machine()
                .processes()
                .iter()
                .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok())
                .filter(|name| name.starts_with("qemu-"))
                .collect();
            if loops.is_empty() && daemons.is_empty() {
                return Ok(());
            }
            // The kernel frees a loop device a moment after the last who used it.
            ensure!(
                begin.elapsed() < Duration::from_secs(3),
                "loop devices {loops:?} and programs {daemons:?} are left"
            );
            onedock_common::wait::pause(Duration::from_millis(20));
        }
    }
}

impl Cloud {
    /// No tag of a VM's state, in any image's repository.
    pub fn check_no_vm_tags(&self) -> Result<()> {
        let folder = self.registry.storage().join("repositories/onedock");
        for image in names(&folder)? {
            let tags = names(&folder.join(&image).join("_manifests/tags"))?;
            for tag in tags.iter().filter(|tag| tag.starts_with("vm-")) {
                let link = folder.join(format!("{image}/_manifests/tags/{tag}/current/link"));
                ensure!(!link.exists(), "tag {tag} of {image} is left");
            }
        }
        Ok(())
    }

    /// Nothing of any VM is left anywhere.
    pub fn check_nothing_left(&self, mounts: &[BTreeSet<String>; 2]) -> Result<()> {
        for (node, mounts) in self.nodes.iter().zip(mounts) {
            node.check_nothing_left(mounts)
                .with_context(|| format!("on {}", node.name))?;
        }
        let datastores = self.var.join("datastores");
        self.front
            .inside(|| {
                check_datastores(&datastores)?;
                check_state(Path::new(STATE))
            })
            .context("on the front-end")?;
        self.check_no_vm_tags()
    }
}

/// No VM's folder in any datastore.
fn check_datastores(datastores: &Path) -> Result<()> {
    for datastore in names(datastores)? {
        let left = names(&datastores.join(&datastore))?;
        ensure!(
            left.iter().all(|name| name == ".monitor"),
            "{datastore}: {left:?}"
        );
    }
    Ok(())
}

/// What the drivers keep on a node belongs to no VM.
fn check_state(folder: &Path) -> Result<()> {
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        for name in names(&folder)? {
            let path = folder.join(&name);
            if path.is_dir() && !path.is_symlink() {
                todo.push(path);
                continue;
            }
            let expected = name.starts_with("onedock.log") || folder.ends_with("lock");
            ensure!(expected, "{} is left", path.display());
        }
    }
    Ok(())
}
