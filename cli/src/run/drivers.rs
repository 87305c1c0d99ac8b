//! Calling the driver executables as `oned` does: the files in the remotes folder, as oneadmin
//! with its groups, values as arguments, never a shell.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use onedock::error::{Error, Result};
use onedock_common::opennebula::oned::call::TRANSFER_DEADLINE;
use onedock_common::opennebula::oned::{Reply, call};
use onedock_common::process::Command;

/// The drivers in a remotes folder.
#[derive(Debug, Clone)]
pub(crate) struct Drivers {
    remotes: PathBuf,
    user: String,
}

impl Drivers {
    /// The drivers of `remotes`, run as `user` when root calls.
    pub(crate) fn at(remotes: &Path, user: &str) -> Self {
        Self {
            remotes: remotes.to_owned(),
            user: user.to_owned(),
        }
    }

    /// The remotes folder.
    pub(crate) fn remotes(&self) -> &Path {
        &self.remotes
    }

    /// An action of the datastore.
    pub(crate) fn datastore(&self, action: &str, id: &str, request: String) -> Result<Reply> {
        self.run(&format!("datastore/onedock/{action}"), |call| {
            let call = call.args([id]).input(request);
            match action {
                "cp" => call.within(TRANSFER_DEADLINE),
                _ => call,
            }
        })
    }

    /// A script of the transfer manager.
    pub(crate) fn tm<S: AsRef<OsStr>>(
        &self,
        script: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Reply> {
        self.run(&format!("tm/onedock/{script}"), |call| {
            call.args(arguments).within(TRANSFER_DEADLINE)
        })
    }

    /// An action of the hypervisor.
    pub(crate) fn vmm<S: AsRef<OsStr>>(
        &self,
        action: &str,
        arguments: impl IntoIterator<Item = S>,
        document: String,
    ) -> Result<Reply> {
        self.run(&format!("vmm/onedock/{action}"), |call| {
            call.args(arguments).input(document)
        })
    }

    /// A script of a network driver; nothing where OpenNebula's scripts are not installed.
    pub(crate) fn vnm<S: AsRef<OsStr>>(
        &self,
        driver: &str,
        script: &str,
        arguments: impl IntoIterator<Item = S>,
        document: String,
    ) -> Result<Option<Reply>> {
        let name = format!("vnm/{driver}/{script}");
        if !self.remotes.join(&name).is_file() {
            return Ok(None);
        }
        self.run(&name, |call| call.args(arguments).input(document))
            .map(Some)
    }

    /// A probe of the monitor, by its own program: it is called once and not left running.
    pub(crate) fn probe(&self, probe: &str) -> Result<String> {
        let arch = std::env::consts::ARCH;
        let name = format!("onedock/{arch}/onedock-im");
        self.run(&name, |call| call.args(["probe", probe]))
            .map(|reply| reply.stdout.clone())
    }

    /// The error of a driver is its own line, as it is, behind the name of the call.
    fn run(&self, name: &str, complete: impl FnOnce(Command) -> Command) -> Result<Reply> {
        let path = self.remotes.join(name);
        if !path.is_file() {
            return Err(Error::refused(format!(
                "the drivers are not complete: there is no {}",
                path.display()
            )));
        }
        let failed = |what: String| Error::Program {
            program: name.replace("/onedock/", " ").replace('/', " "),
            what,
        };
        let output = complete(call(&path, &self.user))
            .run()
            .map_err(|e| failed(e.to_string()))?;
        let reply = Reply::from(output);
        if reply.succeeded() {
            return Ok(reply);
        }
        Err(failed(reply.failure()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_that_are_not_there_are_named() {
        let error = Drivers::at(Path::new("/none"), "root")
            .tm("clone", ["x"])
            .unwrap_err();
        assert!(error.line().contains("/none/tm/onedock/clone"), "{error}");
        assert!(
            Drivers::at(Path::new("/none"), "root")
                .vnm("bridge", "pre", ["x"], String::new())
                .unwrap()
                .is_none()
        );
    }
}
