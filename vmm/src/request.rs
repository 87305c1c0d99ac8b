//! The arguments of an action. `one_vmm_exec` always appends `<vm id> <host>`
//! (`src/vmm_mad/exec/one_vmm_exec.rb`).

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use onedock_common::{ContainerName, VmId};

/// Arguments as text; anything else was not written by `oned`.
pub(crate) fn texts(arguments: Vec<OsString>) -> anyhow::Result<Vec<String>> {
    arguments
        .into_iter()
        .map(|a| {
            a.into_string()
                .map_err(|a| anyhow::anyhow!("argument {} is not UTF-8", a.display()))
        })
        .collect()
}

/// `<system_dir>/deployment.<n> <host> <vm id> <host>`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DeployRequest {
    pub(crate) system_dir: PathBuf,
    pub(crate) vm: VmId,
}

impl DeployRequest {
    pub(crate) fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let [file, _, vm, ..] = arguments else {
            bail!(
                "deploy needs <deployment file> <host> <vm id> <host>, got {} arguments",
                arguments.len()
            );
        };
        let path = normal(Path::new(file));
        let system_dir = path
            .parent()
            .filter(|dir| dir.is_absolute())
            .with_context(|| format!("the deployment file \"{file}\" has no absolute path"))?;
        ensure!(
            !path.components().any(|c| c == Component::ParentDir),
            "the deployment file \"{file}\" must not contain \"..\""
        );
        let vm = vm.parse().context("the VM's id among deploy's arguments")?;
        Ok(Self {
            system_dir: system_dir.to_owned(),
            vm,
        })
    }
}

/// `<deploy id> <host> <vm id> <host>`: shutdown, cancel, reboot, reset.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DeployedRequest {
    pub(crate) name: ContainerName,
}

impl DeployedRequest {
    pub(crate) fn parse(action: &str, arguments: &[String]) -> anyhow::Result<Self> {
        let [deploy_id, _, vm, ..] = arguments else {
            bail!(
                "{action} needs <deploy id> <host> <vm id> <host>, got {} arguments",
                arguments.len()
            );
        };
        let vm: VmId = vm
            .parse()
            .with_context(|| format!("the VM's id among {action}'s arguments"))?;
        // A deploy that failed left no id behind, and the clean-up still has to be done.
        if deploy_id.is_empty() || deploy_id == "-" {
            return Ok(Self {
                name: ContainerName::of(vm),
            });
        }
        let name: ContainerName = deploy_id.parse()?;
        ensure!(
            name.vm() == vm,
            "deploy id {name} belongs to another VM than {vm}; nothing was done"
        );
        Ok(Self { name })
    }
}

/// Without double slashes: `oned` writes `/var/lib/one//datastores/…`.
fn normal(path: &Path) -> PathBuf {
    path.components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_traced_deploy_names_the_vm_and_its_folder() {
        let request = DeployRequest::parse(&words(
            "/var/lib/one//datastores/101/5/deployment.0 node1 5 node1",
        ))
        .unwrap();
        assert_eq!(
            request,
            DeployRequest {
                system_dir: "/var/lib/one/datastores/101/5".into(),
                vm: VmId::new(5)
            }
        );
    }

    #[test]
    fn attack_10_a_deploy_id_of_another_vm_or_form_is_refused() {
        let parse = |text: &str| DeployedRequest::parse("cancel", &words(text));
        assert_eq!(
            parse("one-5 node1 5 node1").unwrap().name.vm(),
            VmId::new(5)
        );
        assert_eq!(parse("- node1 5 node1").unwrap().name.vm(), VmId::new(5));
        for bad in [
            "one-6 node1 5 node1",
            "one-5/../x node1 5 node1",
            "web node1 5 node1",
            "one-5 node1 x node1",
            "one-5",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(DeployRequest::parse(&words("deployment.0 n 5 n")).is_err());
        assert!(DeployRequest::parse(&words("/a/../../etc/deployment.0 n 5 n")).is_err());
    }
}
