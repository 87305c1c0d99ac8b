//! The arguments of an action. `one_vmm_exec` always appends `<vm id> <host>`
//! (`src/vmm_mad/exec/one_vmm_exec.rb`).

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use onedock_common::types::decimal::parse_whole;
use onedock_common::types::nic::Bandwidth;
use onedock_common::{ContainerName, DiskId, IfName, Mac, VmId};

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
        let (system_dir, _) = beneath(file, "the deployment file")?;
        let vm = vm.parse().context("the VM's id among deploy's arguments")?;
        Ok(Self { system_dir, vm })
    }
}

/// `<deploy id> … <vm id> <host>`: shutdown, cancel, reboot, reset, resize, prereconfigure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DeployedRequest {
    pub(crate) name: ContainerName,
}

impl DeployedRequest {
    pub(crate) fn parse(action: &str, arguments: &[String]) -> anyhow::Result<Self> {
        let [deploy_id, .., vm, _] = arguments else {
            bail!(
                "{action} needs <deploy id> … <vm id> <host>, got {} arguments",
                arguments.len()
            );
        };
        Ok(Self {
            name: name(action, deploy_id, vm)?,
        })
    }
}

/// `<deploy id> <path of the disk> <target> <index> [<document>] <vm id> <host>`: attach_disk and
/// detach_disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DiskRequest {
    pub(crate) name: ContainerName,
    pub(crate) system_dir: PathBuf,
    pub(crate) disk: DiskId,
}

impl DiskRequest {
    pub(crate) fn parse(action: &str, arguments: &[String]) -> anyhow::Result<Self> {
        let [deploy_id, path, _, _, .., vm, _] = arguments else {
            bail!(
                "{action} needs <deploy id> <disk> <target> <index> … <vm id> <host>, got {} arguments",
                arguments.len()
            );
        };
        let (system_dir, file) = beneath(path, "the disk")?;
        let disk = file
            .strip_prefix("disk.")
            .and_then(|id| id.parse().ok())
            .with_context(|| format!("\"{path}\" is not the path of a disk (…/disk.<id>)"))?;
        Ok(Self {
            name: name(action, deploy_id, vm)?,
            system_dir,
            disk,
        })
    }
}

/// `<deploy id> <mac> [<bridge> <model> <network driver> <target>] <vm id> <host>`: attach_nic and
/// detach_nic.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NicRequest {
    pub(crate) name: ContainerName,
    pub(crate) mac: Mac,
}

impl NicRequest {
    pub(crate) fn parse(action: &str, arguments: &[String]) -> anyhow::Result<Self> {
        let [deploy_id, mac, .., vm, _] = arguments else {
            bail!(
                "{action} needs <deploy id> <mac> … <vm id> <host>, got {} arguments",
                arguments.len()
            );
        };
        Ok(Self {
            name: name(action, deploy_id, vm)?,
            mac: mac
                .parse()
                .with_context(|| format!("the MAC among {action}'s arguments"))?,
        })
    }
}

/// `<deploy id> <target> <inbound> <outbound>`, each direction as `<average>,<peak>,<amount>` in the
/// units of the NIC's attributes, empty where there is none: set_qos.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QosRequest {
    pub(crate) name: ContainerName,
    pub(crate) target: IfName,
    pub(crate) inbound: Option<Bandwidth>,
    pub(crate) outbound: Option<Bandwidth>,
}

impl QosRequest {
    pub(crate) fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let [deploy_id, target, inbound, outbound] = arguments else {
            bail!(
                "set_qos needs <deploy id> <target> <inbound> <outbound>, got {} arguments",
                arguments.len()
            );
        };
        let bandwidth = |text: &str| {
            bandwidth_of(text).with_context(|| format!("\"{text}\" among set_qos's arguments"))
        };
        Ok(Self {
            name: deploy_id.parse()?,
            target: target.parse()?,
            inbound: bandwidth(inbound)?,
            outbound: bandwidth(outbound)?,
        })
    }
}

fn bandwidth_of(text: &str) -> anyhow::Result<Option<Bandwidth>> {
    let [average, peak, burst] = text.split(',').collect::<Vec<_>>()[..] else {
        bail!("this is not <average>,<peak>,<amount>");
    };
    Bandwidth::from_kilobytes(average, peak, burst).map_err(anyhow::Error::msg)
}

/// `<deploy id> <disk id> <MiB> <document> <host> <vm id> <host>`: resize_disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ResizeDiskRequest {
    pub(crate) name: ContainerName,
    pub(crate) disk: DiskId,
    pub(crate) size_mib: u64,
}

impl ResizeDiskRequest {
    pub(crate) fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let [deploy_id, disk, size, _, .., vm, _] = arguments else {
            bail!(
                "resize_disk needs <deploy id> <disk id> <size> <document> <host> <vm id> <host>, got {} arguments",
                arguments.len()
            );
        };
        Ok(Self {
            name: name("resize_disk", deploy_id, vm)?,
            disk: disk
                .parse()
                .context("the disk's id among resize_disk's arguments")?,
            size_mib: parse_whole(size).context("the size among resize_disk's arguments")?,
        })
    }
}

/// `<deploy id> <checkpoint> <host> <vm id> <host>`: save.
/// `<checkpoint> <host> <deploy id> <vm id> <host>`: restore.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CheckpointRequest {
    pub(crate) name: ContainerName,
    pub(crate) system_dir: PathBuf,
    pub(crate) checkpoint: PathBuf,
}

impl CheckpointRequest {
    pub(crate) fn of_save(arguments: &[String]) -> anyhow::Result<Self> {
        match arguments {
            [deploy_id, checkpoint, _, vm, _] => Self::new("save", deploy_id, checkpoint, vm),
            _ => bail!(
                "save needs <deploy id> <checkpoint> <host> <vm id> <host>, got {} arguments",
                arguments.len()
            ),
        }
    }

    pub(crate) fn of_restore(arguments: &[String]) -> anyhow::Result<Self> {
        match arguments {
            [checkpoint, _, deploy_id, vm, _] => Self::new("restore", deploy_id, checkpoint, vm),
            _ => bail!(
                "restore needs <checkpoint> <host> <deploy id> <vm id> <host>, got {} arguments",
                arguments.len()
            ),
        }
    }

    fn new(action: &str, deploy_id: &str, checkpoint: &str, vm: &str) -> anyhow::Result<Self> {
        let (system_dir, file) = beneath(checkpoint, "the checkpoint")?;
        Ok(Self {
            name: name(action, deploy_id, vm)?,
            checkpoint: system_dir.join(file),
            system_dir,
        })
    }
}

/// `<deploy id> <target> <context disk> <vm id> <host>`: reconfigure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReconfigureRequest {
    pub(crate) name: ContainerName,
    pub(crate) disk: PathBuf,
}

impl ReconfigureRequest {
    pub(crate) fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let [deploy_id, _, disk, vm, _] = arguments else {
            bail!(
                "reconfigure needs <deploy id> <target> <context disk> <vm id> <host>, got {} arguments",
                arguments.len()
            );
        };
        let (system_dir, file) = beneath(disk, "the context disk")?;
        Ok(Self {
            name: name("reconfigure", deploy_id, vm)?,
            disk: system_dir.join(file),
        })
    }
}

/// The container that a deploy id names, which must be the VM's.
fn name(action: &str, deploy_id: &str, vm: &str) -> anyhow::Result<ContainerName> {
    let vm: VmId = vm
        .parse()
        .with_context(|| format!("the VM's id among {action}'s arguments"))?;
    // A deploy that failed left no id behind, and the clean-up still has to be done.
    if deploy_id.is_empty() || deploy_id == "-" {
        return Ok(ContainerName::of(vm));
    }
    let name: ContainerName = deploy_id.parse()?;
    ensure!(
        name.vm() == vm,
        "deploy id {name} belongs to another VM than {vm}; nothing was done"
    );
    Ok(name)
}

/// A path of the VM's folder, as the folder and the file's name.
fn beneath<'a>(file: &'a str, what: &str) -> anyhow::Result<(PathBuf, &'a str)> {
    let path = normal(Path::new(file));
    let folder = path
        .parent()
        .filter(|dir| dir.is_absolute())
        .with_context(|| format!("{what} \"{file}\" has no absolute path"))?;
    ensure!(
        !path.components().any(|c| c == Component::ParentDir),
        "{what} \"{file}\" must not contain \"..\""
    );
    let name = Path::new(file).file_name().and_then(|n| n.to_str());
    let name = name.with_context(|| format!("{what} \"{file}\" has no name"))?;
    Ok((folder.to_owned(), name))
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
    fn arguments_are_text_or_refused() {
        use std::os::unix::ffi::OsStringExt as _;
        let given = ["one-5", ""].map(OsString::from).to_vec();
        assert_eq!(texts(given).unwrap(), ["one-5", ""]);
        assert!(texts(vec![OsString::from_vec(vec![0xff])]).is_err());
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
    fn the_traced_calls_about_disks_and_checkpoints_are_read() {
        let dir = "/var/lib/one//datastores/101/5";
        let attach = words(&format!("one-5 {dir}/disk.6 sdg 6 PFZNTV9= 5 node1"));
        let detach = words(&format!("one-5 {dir}/disk.6 sdg 6 5 node1"));
        for arguments in [attach, detach] {
            let request = DiskRequest::parse("attach_disk", &arguments).unwrap();
            assert_eq!(request.disk, DiskId::new(6));
            assert_eq!(
                request.system_dir,
                Path::new("/var/lib/one/datastores/101/5")
            );
        }
        let resize = ResizeDiskRequest::parse(&words("one-5 1 80 PFZ= node1 5 node1")).unwrap();
        assert_eq!((resize.disk, resize.size_mib), (DiskId::new(1), 80));
        let save = words(&format!("one-5 {dir}/checkpoint node1 5 node1"));
        let restore = words(&format!("{dir}/checkpoint node1 one-5 5 node1"));
        let save = CheckpointRequest::of_save(&save).unwrap();
        assert_eq!(CheckpointRequest::of_restore(&restore).unwrap(), save);
        let reconfigure = words(&format!("one-5 sdd {dir}/disk.5 5 node1"));
        assert!(ReconfigureRequest::parse(&reconfigure).is_ok());
        let resize = DeployedRequest::parse("resize", &words("one-5 5 node1")).unwrap();
        assert_eq!(resize.name.vm(), VmId::new(5));
        for bad in [
            "one-5 disk.6 sdg 6 5 node1",
            "one-5 /a/../disk.6 sdg 6 5 node1",
            "one-5 /a/disk.x sdg 6 5 node1",
            "one-5 /a/vda sdg 6 5 node1",
            "one-6 /a/disk.6 sdg 6 5 node1",
        ] {
            assert!(
                DiskRequest::parse("attach_disk", &words(bad)).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_traced_calls_about_nics_are_read_and_nothing_else_is() {
        let attach = words("one-5 02:00:0a:4d:00:19 onebr0 - bridge one-5-3 5 node1");
        let detach = words("one-5 02:00:0a:4d:00:19 5 node1");
        let request = NicRequest::parse("attach_nic", &attach).unwrap();
        assert_eq!(request.mac.to_string(), "02:00:0a:4d:00:19");
        assert_eq!(NicRequest::parse("detach_nic", &detach).unwrap(), request);
        for bad in [
            "one-6 02:00:0a:4d:00:19 5 node1",
            "one-5 02:00:0a 5 node1",
            "one-5 5 node1",
        ] {
            assert!(
                NicRequest::parse("detach_nic", &words(bad)).is_err(),
                "{bad}"
            );
        }
        let qos = QosRequest::parse(&words("one-5 one-5-0 1000,2000,50 ,,")).unwrap();
        let bandwidth = Bandwidth {
            average: 1_000_000,
            peak: Some(2_000_000),
            burst: Some(51_200),
        };
        assert_eq!((qos.inbound, qos.outbound), (Some(bandwidth), None));
        for bad in [
            "one-5 one-5-0 1000,2000,50",
            "one-5 one-5-0 1000,2000 ,,",
            "one-5 one-5-0 x,, ,,",
            "one-5 one-5-0 ,2000, ,,",
            "one-5 ../x ,, ,,",
            "web one-5-0 ,, ,,",
        ] {
            assert!(QosRequest::parse(&words(bad)).is_err(), "{bad}");
        }
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
