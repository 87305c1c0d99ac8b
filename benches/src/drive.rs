//! The calls that `oned` makes, with the real programs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use onedock_common::opennebula::oned::Reply;
use onedock_common::opennebula::oned::call::TRANSFER_DEADLINE;
use onedock_common::process::Command;

use crate::bench::Bench;

impl Bench<'_> {
    pub(crate) fn clone_and_deploy(&self, vm: u32) -> Result<()> {
        let folder = self.folder(vm);
        fs::create_dir_all(folder.parent().context("no parent")?)?;
        let source = format!("docker://{}", self.image);
        self.tm(&[
            "clone",
            &source,
            &self.disk("localhost", &folder),
            &vm.to_string(),
            "1",
        ])?;
        self.deploy(vm)
    }

    pub(crate) fn deploy(&self, vm: u32) -> Result<()> {
        let file = self.folder(vm).join("deployment.0");
        let file = file.to_str().context("not text")?;
        let arguments = ["deploy", file, "localhost", &vm.to_string(), "localhost"];
        let reply = self.driver("onedock-vmm", &arguments, &document(vm))?;
        ensure!(reply.deploy_id()? == format!("one-{vm}"), "{reply:?}");
        Ok(())
    }

    pub(crate) fn shutdown(&self, vm: u32) -> Result<()> {
        let name = format!("one-{vm}");
        let arguments = ["shutdown", &name, "localhost", &vm.to_string(), "localhost"];
        self.driver("onedock-vmm", &arguments, &document(vm))?;
        Ok(())
    }

    pub(crate) fn snapshot(&self, vm: u32) -> Result<()> {
        let disk = self.disk("localhost", &self.folder(vm));
        self.tm(&["snap_create_live", &disk, "0", &vm.to_string(), "1"])?;
        Ok(())
    }

    /// Saves the disk as a new image; answers a reference of it.
    pub(crate) fn save(&self, vm: u32) -> Result<String> {
        let disk = self.disk("localhost", &self.folder(vm));
        let repository = format!("{}/onedock/img-{vm}", self.registry);
        // What `mkfs` reserves is named by a digest that only tells it from others.
        let reserved = format!("docker://{repository}@sha256:{vm:064x}");
        self.tm(&["cpds", &disk, &reserved, "-1", &vm.to_string(), "1"])?;
        Ok(format!("{repository}:latest"))
    }

    /// As `oned` moves a VM: each disk, then the folder.
    pub(crate) fn moved(&self, vm: u32, from: (&str, &Path), to: (&str, &Path)) -> Result<()> {
        if let Some(datastore) = to.1.parent() {
            fs::create_dir_all(datastore)?;
        }
        let number = vm.to_string();
        let (source, target) = (self.disk(from.0, from.1), self.disk(to.0, to.1));
        self.tm(&["mv", &source, &target, &number, "1"])?;
        let folder = |(host, path): (&str, &Path)| format!("{host}:{}", path.display());
        self.tm(&["mv", &folder(from), &folder(to), &number, "0"])?;
        ensure!(to.1.join("disk.0").is_file(), "the disk has not arrived");
        ensure!(
            !from.1.join("disk.0").exists(),
            "the disk is still at its source"
        );
        Ok(())
    }

    pub(crate) fn tm(&self, arguments: &[&str]) -> Result<Reply> {
        self.driver("onedock-tm", arguments, "")
    }

    pub(crate) fn driver(&self, program: &str, arguments: &[&str], input: &str) -> Result<Reply> {
        let folder = self.engine.folder();
        let call = Command::local(self.programs.join(program))
            .args(arguments)
            .env("DOCKER_HOST", self.engine.docker_host())
            .env("ONEDOCK_CONF", folder.join("onedock.conf"))
            .env("ONEDOCK_LOGFILE", folder.join("driver.log"))
            .env("ONE_LOCATION", self.front.location())
            .input(input)
            .within(TRANSFER_DEADLINE);
        let reply = Reply::from(self.engine.inside(|| Ok(call.run()?))?);
        ensure!(
            reply.succeeded(),
            "{program} {}: {}",
            arguments.join(" "),
            reply.failure()
        );
        Ok(reply)
    }

    pub(crate) fn folder(&self, vm: u32) -> PathBuf {
        self.engine.folder().join(format!("datastores/0/{vm}"))
    }

    pub(crate) fn away(&self, vm: u32) -> PathBuf {
        self.engine
            .folder()
            .join(format!("front/datastores/0/{vm}"))
    }

    pub(crate) fn disk(&self, host: &str, folder: &Path) -> String {
        format!("{host}:{}", folder.join("disk.0").display())
    }
}

/// A VM with one disk and no NIC.
fn document(vm: u32) -> String {
    crate::document::vm(
        vm,
        "256",
        "docker://localhost:5000/onedock/img-1",
        Vec::new(),
    )
}
