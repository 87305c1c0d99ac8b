//! What the bench of disks works on: an engine with a registry, a front-end and the image of its VMs.

use std::path::Path;

use anyhow::{Result, ensure};
use onedock_tests::engine_server::PrivateEngine;

use crate::front::Front;

/// Half of it random, half of it a program over and over: neither all nor nothing can be packed.
const CHANGES: &str = "dd if=/dev/urandom of=/data/random bs=1M count=50 2>/dev/null; \
    for n in $(seq 26); do cat /bin/busybox; done > /data/programs; sync";
pub(crate) const CHECK: &str = "cat /data/random /data/programs | sha256sum";

pub(crate) struct Bench<'a> {
    pub(crate) engine: &'a PrivateEngine,
    pub(crate) programs: &'a Path,
    pub(crate) registry: String,
    pub(crate) image: String,
    pub(crate) front: Front,
}

impl Bench<'_> {
    /// New changes, on disk; answers what they are.
    pub(crate) fn change(&self, container: &str) -> Result<String> {
        self.engine
            .docker(&["exec", container, "/bin/sh", "-c", CHANGES])?;
        self.engine
            .docker(&["exec", container, "/bin/sh", "-c", CHECK])
    }

    /// The container has the changes.
    pub(crate) fn same(&self, container: &str, sum: &str) -> Result<()> {
        let found = self
            .engine
            .docker(&["exec", container, "/bin/sh", "-c", CHECK])?;
        ensure!(
            found == sum,
            "the changes are lost: {found} in place of {sum}"
        );
        Ok(())
    }

    /// All images but the one that every VM stands on: what is pulled has to come again.
    pub(crate) fn forget_images(&self) -> Result<()> {
        let all = self.engine.docker(&["image", "ls", "-q", "--no-trunc"])?;
        let own = self
            .engine
            .docker(&["image", "inspect", "--format", "{{.Id}}", &self.image])?;
        for image in all.lines().filter(|id| *id != own) {
            // One that a container uses stays.
            self.engine.output("docker", &["rmi", "-f", image])?;
        }
        // What was removed and written before is no part of what comes after.
        self.engine.run("sync", &[]).map(drop)
    }
}
