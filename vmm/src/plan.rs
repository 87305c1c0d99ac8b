//! From the VM's description to what is asked of the engine and of the runtime. Pure: the same
//! input gives the same plan, and nothing is touched.

pub mod disks;

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use onedock_common::boot::{self, BootSpec, FirstProcess};
use onedock_common::config::Config;
use onedock_common::descriptor::Descriptor;
use onedock_common::engine::{CreateSpec, ImageInfo, Limits};
use onedock_common::nic::{BridgeKind, Method};
use onedock_common::vm::Vm;
use onedock_common::{ContainerName, IfName, VmId};

use crate::labels;

/// The runtime's name in `daemon.json`.
pub const RUNTIME: &str = "onedock";

/// What the engine is given where an image has no command: it refuses to create a container
/// without one. The runtime puts the real first process in its place at every start.
const NO_COMMAND: &str = "/dev/onedock-init";

/// The container to make.
pub fn container(vm: &Vm, descriptor: &Descriptor, image: &ImageInfo) -> CreateSpec {
    let nothing = image.entrypoint.is_empty() && image.cmd.is_empty();
    CreateSpec {
        name: ContainerName::of(vm.id),
        image: descriptor.image.clone(),
        hostname: vm.hostname(),
        labels: labels::of(descriptor),
        cmd: nothing.then(|| vec![NO_COMMAND.to_owned()]),
        runtime: RUNTIME,
        limits: limits(vm),
        storage_mib: vm.disk(descriptor.disk).and_then(disks::bound),
    }
}

/// The container whose layer is the tree of a further disk. It never runs, so that its command
/// and its limits mean nothing.
pub fn tree(vm: &Vm, descriptor: &Descriptor) -> CreateSpec {
    CreateSpec {
        name: ContainerName::of_tree(vm.id, descriptor.disk),
        image: descriptor.image.clone(),
        hostname: vm.hostname(),
        labels: labels::of_tree(descriptor),
        cmd: Some(vec![NO_COMMAND.to_owned()]),
        runtime: RUNTIME,
        limits: Limits {
            cpu_shares: 0,
            cpu_quota_us: 0,
            memory: 0,
            swap: 0,
        },
        storage_mib: vm.disk(descriptor.disk).and_then(disks::bound),
    }
}

/// Weight of 1024 a CPU; VCPU, where it is given, bounds hard; memory with as much swap as the
/// VM's swap disks have.
#[expect(
    clippy::cast_possible_truncation,
    reason = "CPU is at most 4096 and MEMORY 2^30 MiB"
)]
pub fn limits(vm: &Vm) -> Limits {
    let capacity = &vm.capacity;
    let shares = (capacity.cpu * 1024.0).round() as i64;
    Limits {
        // The kernel takes 2 to 262144.
        cpu_shares: shares.clamp(2, 262_144),
        cpu_quota_us: capacity.vcpu.map_or(0, |n| i64::from(n) * 100_000),
        memory: i64::try_from(capacity.memory_mib).unwrap_or(i64::MAX >> 20) << 20,
        swap: disks::swap(vm.disks.iter()),
    }
}

/// The boot spec of the next start. `context` is the folder of the context files.
pub fn boot(
    vm: &Vm,
    descriptor: &Descriptor,
    image: &ImageInfo,
    config: &Config,
    context: Option<PathBuf>,
    disks: Vec<boot::Disk>,
    boot_id: &str,
) -> anyhow::Result<BootSpec> {
    let args = command(vm, descriptor, image, config)?;
    let first = if is_bare(&args) {
        FirstProcess::KeepAlive
    } else {
        FirstProcess::Command
    };
    let mut dns = vm.dns();
    for server in &config.override_dns {
        if !dns.contains(server) {
            dns.push(server.clone());
        }
    }
    Ok(BootSpec {
        version: boot::VERSION,
        vm: vm.id,
        boot_id: boot_id.to_owned(),
        hostname: vm.hostname(),
        args,
        first,
        nics: nics(vm)?,
        dns,
        search: vm.search_domains(),
        context,
        volumes: image.volumes.clone(),
        disks,
    })
}

/// Entrypoint of the image, then DOCKERRUN of the disk, else as it was kept with the image, else
/// ONEDOCK_DEFAULT_DOCKERRUN, else the image's command, as in ONEDock.
fn command(
    vm: &Vm,
    descriptor: &Descriptor,
    image: &ImageInfo,
    config: &Config,
) -> anyhow::Result<Vec<String>> {
    let wished = vm
        .disk(descriptor.disk)
        .and_then(|disk| disk.dockerrun.as_deref())
        .or(descriptor.dockerrun.as_deref())
        .or(config.default_dockerrun.as_deref());
    let words = match wished {
        None => image.cmd.clone(),
        Some(text) => {
            let words = shell_words::split(text)
                .with_context(|| format!("DOCKERRUN \"{text}\" cannot be split into words"))?;
            ensure!(!words.is_empty(), "DOCKERRUN has no word in it");
            words
        }
    };
    Ok(image.entrypoint.iter().cloned().chain(words).collect())
}

/// No command, or a shell that would end at once without a terminal.
fn is_bare(args: &[String]) -> bool {
    let Some((program, options)) = args.split_first() else {
        return true;
    };
    if program == NO_COMMAND {
        return true;
    }
    let name = program.rsplit('/').next().unwrap_or(program);
    matches!(name, "sh" | "ash" | "bash" | "dash" | "ksh" | "zsh")
        && options
            .iter()
            .all(|o| matches!(o.as_str(), "-l" | "--login" | "-i" | "-il" | "-li"))
}

/// Of several default routes the first NIC's counts; the others get a worse metric, where the
/// template names none, because the kernel takes one route of a metric only.
fn nics(vm: &Vm) -> anyhow::Result<Vec<boot::Nic>> {
    let mut routes = 0;
    vm.nics.iter()
        .map(|nic| {
            if let Some(other) = named_after(&nic.target).filter(|other| *other != vm.id) {
                bail!(
                    "NIC {} has TARGET={}, the name of an interface of VM {other}; take TARGET out of the template",
                    nic.id, nic.target
                );
            }
            if nic.bridge_kind != BridgeKind::Linux {
                bail!(
                    "NIC {} is on the Open vSwitch bridge {}, which this version of the driver does not serve; use a network on a Linux bridge",
                    nic.id, nic.bridge
                );
            }
            if nic.method == Method::Dhcp {
                bail!(
                    "NIC {} asks for METHOD=dhcp, which this version of the driver does not serve; use static or skip",
                    nic.id
                );
            }
            let is_static = nic.method == Method::Static;
            let gateway = nic.gateway.filter(|_| is_static && nic.addresses.iter().any(|a| a.is_ipv4()));
            let gateway6 = nic.gateway6.filter(|_| is_static && nic.addresses.iter().any(|a| a.is_ipv6()));
            let metric = if gateway.is_some() || gateway6.is_some() {
                routes += 1;
                nic.metric.or((routes > 1).then_some((routes - 1) * 100))
            } else {
                nic.metric
            };
            Ok(boot::Nic {
                id: nic.id,
                host: nic.target.clone(),
                bridge: nic.bridge.clone(),
                mac: nic.mac,
                mtu: nic.mtu,
                addresses: nic.addresses.clone(),
                gateway,
                gateway6,
                metric,
            })
        })
        .collect()
}

/// The VM of a name of the form that `oned` gives (`one-<vm>-<nic>`): a template that says TARGET
/// must not take the name of another VM's interface.
fn named_after(target: &IfName) -> Option<VmId> {
    let mut parts = target.as_str().strip_prefix("one-")?.split('-');
    let vm = parts.next()?.parse().ok()?;
    parts.next().map(|_| vm)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACED: &str = include_str!("../../common/testdata/deploy-7.4.0.xml");

    fn vm() -> Vm {
        Vm::from_deployment(TRACED.as_bytes()).unwrap()
    }

    fn descriptor() -> Descriptor {
        let source: onedock_common::reference::Source = format!(
            "docker://front:5000/onedock/img-6@sha256:{}",
            "ab".repeat(32)
        )
        .parse()
        .unwrap();
        Descriptor {
            version: onedock_common::descriptor::VERSION,
            vm: vm().id,
            disk: onedock_common::DiskId::new(0),
            image: source.clone(),
            source,
            persistent: false,
            dockerrun: None,
            container: None,
            snapshots: Vec::new(),
        }
    }

    fn image(entrypoint: &[&str], cmd: &[&str]) -> ImageInfo {
        let texts = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
        ImageInfo {
            entrypoint: texts(entrypoint),
            cmd: texts(cmd),
            volumes: vec!["/data".into()],
        }
    }

    fn spec(vm: &Vm, descriptor: &Descriptor, image: &ImageInfo) -> BootSpec {
        boot(
            vm,
            descriptor,
            image,
            &Config::default(),
            Some("/ds/101/5/disk.5".into()),
            Vec::new(),
            "b",
        )
        .unwrap()
    }

    #[test]
    fn the_traced_vm_becomes_limits_and_a_boot_spec() {
        let limits = limits(&vm());
        assert_eq!(
            limits,
            Limits {
                cpu_shares: 512,
                cpu_quota_us: 100_000,
                memory: 256 << 20,
                swap: 32 << 20,
            }
        );
        let spec = spec(&vm(), &descriptor(), &image(&["/entry"], &["serve"]));
        assert_eq!(spec.args, ["/entry", "serve"]);
        assert_eq!(spec.first, FirstProcess::Command);
        assert_eq!(
            spec.context.as_deref(),
            Some(std::path::Path::new("/ds/101/5/disk.5"))
        );
        assert_eq!(spec.hostname.as_str(), "web01");
        assert_eq!(spec.volumes, [std::path::Path::new("/data")]);
        assert_eq!(
            spec.nics.iter().map(|n| n.metric).collect::<Vec<_>>(),
            [None, Some(100)]
        );
    }

    #[test]
    fn attack_48_the_name_of_another_vm_s_interface_is_refused() {
        let mut vm = vm();
        for (target, good) in [
            ("one-5-1", true),
            ("web", true),
            ("one-web", true),
            ("one-6", true),
            ("one-6-0", false),
            ("one-06-0", false),
        ] {
            vm.nics[1].target = target.parse().unwrap();
            assert_eq!(nics(&vm).is_ok(), good, "{target}");
        }
    }

    #[test]
    fn the_command_is_the_disk_s_then_the_kept_one_then_the_default_then_the_image_s() {
        let mut vm = vm();
        let mut descriptor = descriptor();
        let image = image(&[], &["own"]);
        let mut config = Config::default();
        let args = |vm: &Vm, d: &Descriptor, c: &Config| command(vm, d, &image, c).unwrap();
        assert_eq!(args(&vm, &descriptor, &config), ["own"]);
        config.default_dockerrun = Some("/bin/bash".into());
        assert_eq!(args(&vm, &descriptor, &config), ["/bin/bash"]);
        descriptor.dockerrun = Some("nginx -g 'daemon off;'".into());
        assert_eq!(
            args(&vm, &descriptor, &config),
            ["nginx", "-g", "daemon off;"]
        );
        vm.disks[0].dockerrun = Some("sleep 5".into());
        assert_eq!(args(&vm, &descriptor, &config), ["sleep", "5"]);
        vm.disks[0].dockerrun = Some("echo $(id); rm -rf / 'x".into());
        assert!(command(&vm, &descriptor, &image, &config).is_err());
    }

    #[test]
    fn an_image_without_a_command_or_with_a_bare_shell_is_kept_alive() {
        let first = |image: &ImageInfo| spec(&vm(), &descriptor(), image).first;
        for cmd in [
            &[][..],
            &["/bin/sh"],
            &["bash"],
            &["/bin/bash", "-l"],
            &["/dev/onedock-init"],
        ] {
            assert_eq!(first(&image(&[], cmd)), FirstProcess::KeepAlive, "{cmd:?}");
        }
        for cmd in [&["sh", "-c", "true"][..], &["httpd"], &["/x/bashful"]] {
            assert_eq!(first(&image(&[], cmd)), FirstProcess::Command, "{cmd:?}");
        }
        assert_eq!(first(&image(&["/entry"], &["sh"])), FirstProcess::Command);
        let made = container(&vm(), &descriptor(), &image(&[], &[]));
        assert_eq!(
            made.cmd.as_deref(),
            Some(&["/dev/onedock-init".to_owned()][..])
        );
        assert_eq!(
            container(&vm(), &descriptor(), &image(&[], &["x"])).cmd,
            None
        );
    }
}
