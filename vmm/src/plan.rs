//! From the VM's description to what is asked of the engine and of the runtime. Pure: the same
//! input gives the same plan, and nothing is touched.

pub mod disks;
mod made_with;
mod nics;

use std::path::Path;

use anyhow::{Context as _, ensure};
use onedock_common::engine::{CreateSpec, Limits};
use onedock_common::opennebula::config::Config;
use onedock_common::opennebula::context::Context;
use onedock_common::opennebula::vm::Vm;
use onedock_common::options::Options;
use onedock_common::state::boot::{self, BootSpec, FirstProcess};
use onedock_common::state::descriptor::Descriptor;
use onedock_common::types::image_config::ImageConfig;
use onedock_common::{ContainerName, Hostname, NameServer, SearchDomain};
use serde_json::Map;

use crate::labels;
pub use made_with::{Changed, changed};
pub use nics::nics;

/// The runtime's name in `daemon.json`.
pub const RUNTIME: &str = "onedock";

/// What the engine is given where an image has no command: it refuses to create a container
/// without one. The runtime puts the real first process in its place at every start.
const NO_COMMAND: &str = "/dev/onedock-init";

/// Where every engine mounts a file of its own.
const ENGINE_FILES: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// The container to make.
pub fn container(
    vm: &Vm,
    descriptor: &Descriptor,
    image: &ImageConfig,
    config: &Config,
    options: &Options,
) -> CreateSpec {
    let nothing = image.entrypoint.is_empty() && image.cmd.is_empty();
    CreateSpec {
        name: ContainerName::of(vm.id),
        image: descriptor.image.clone(),
        hostname: hostname(vm, options),
        labels: labels::of(descriptor, options.engine.text()),
        cmd: nothing.then(|| vec![NO_COMMAND.to_owned()]),
        runtime: RUNTIME,
        terminal: options.terminal.unwrap_or(true),
        no_volume_at: ENGINE_FILES
            .into_iter()
            .filter(|file| image.volumes.iter().any(|path| path == Path::new(file)))
            .collect(),
        limits: limits(vm, config, options),
        body: options.engine.body.clone(),
        host: options.engine.host.clone(),
        storage_mib: vm.disk(descriptor.disk).and_then(disks::bound),
    }
}

/// The name inside: the option's, else the VM's.
fn hostname(vm: &Vm, options: &Options) -> Hostname {
    options.hostname.clone().unwrap_or_else(|| vm.hostname())
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
        terminal: false,
        no_volume_at: ENGINE_FILES.to_vec(),
        limits: Limits {
            cpu_shares: 0,
            cpu_quota_us: 0,
            memory: 0,
            swap: 0,
            pids: 0,
        },
        body: Map::new(),
        host: Map::new(),
        storage_mib: vm.disk(descriptor.disk).and_then(disks::bound),
    }
}

/// The boot spec of such a container, whose start only lets the runtime record its layers.
pub fn boot_tree(vm: &Vm, boot_id: &str) -> BootSpec {
    BootSpec {
        version: boot::VERSION,
        vm: vm.id,
        boot_id: boot_id.to_owned(),
        hostname: vm.hostname(),
        args: Vec::new(),
        first: FirstProcess::Never,
        give_way: false,
        nics: Vec::new(),
        dns: Vec::new(),
        search: Vec::new(),
        dns_options: Vec::new(),
        hosts: Vec::new(),
        domain: None,
        cpus: None,
        memory_nodes: None,
        drop_capabilities: Vec::new(),
        environment: Vec::new(),
        context: None,
        volumes: Vec::new(),
        disks: Vec::new(),
    }
}

/// Weight of 1024 a CPU; VCPU, where it is given, bounds hard; memory with as much swap as the
/// VM's swap disks have; and as many processes as the site allows each VM. Options stand over them, where the
/// policy lets a user have them.
#[expect(
    clippy::cast_possible_truncation,
    reason = "CPU is at most 4096 and MEMORY 2^30 MiB"
)]
pub fn limits(vm: &Vm, config: &Config, options: &Options) -> Limits {
    let capacity = &vm.capacity;
    let asked = &options.limits;
    let shares = (capacity.cpu * 1024.0).round() as i64;
    let quota = capacity.vcpu.map_or(0, |n| i64::from(n) * 100_000);
    let memory = asked.memory.unwrap_or((capacity.memory_mib as i64) << 20);
    let swap = asked.memory_and_swap.map_or_else(
        || disks::swap(vm.disks.iter()),
        |both| both.saturating_sub(memory).max(0),
    );
    Limits {
        // The kernel takes 2 to 262144.
        cpu_shares: asked.cpu_shares.unwrap_or(shares).clamp(2, 262_144),
        cpu_quota_us: asked.cpu_quota_us.unwrap_or(quota),
        memory,
        swap,
        // The site's bound is for every VM.
        pids: match (asked.pids, i64::from(config.pids)) {
            (Some(pids), 0) => pids,
            (Some(pids), most) => pids.min(most),
            (None, most) => most,
        },
    }
}

/// The boot spec of the next start, without its disks and the context's folder. `terminal` is whether the
/// container has one.
pub fn boot(
    vm: &Vm,
    descriptor: &Descriptor,
    image: &ImageConfig,
    config: &Config,
    options: &Options,
    terminal: bool,
    boot_id: &str,
) -> anyhow::Result<BootSpec> {
    let mut args = command(vm, descriptor, image, config, options)?;
    let is_idle = is_nothing(&args) || (!terminal && is_bare(&args) && options.terminal.is_none());
    if is_idle {
        args.clear();
    }
    let first = match is_idle || options.keep_alive {
        true => FirstProcess::KeepAlive,
        false => of_command(vm, options),
    };
    Ok(BootSpec {
        version: boot::VERSION,
        vm: vm.id,
        boot_id: boot_id.to_owned(),
        hostname: hostname(vm, options),
        args,
        first,
        give_way: options.init == Some(false),
        nics: nics(vm)?,
        dns: dns(vm, config, options),
        search: search(vm, options),
        dns_options: options.dns_options.clone(),
        hosts: options.hosts.clone(),
        domain: options.domain.clone(),
        cpus: vm.pinning.cpus.clone(),
        memory_nodes: vm.pinning.memory_nodes.clone(),
        drop_capabilities: Vec::new(),
        environment: options.environment.clone(),
        context: None,
        volumes: image.volumes.clone(),
        disks: Vec::new(),
    })
}

/// Who is process 1 of a VM with a command: `onedock-init` where the context asks for something inside, or
/// an option for it.
fn of_command(vm: &Vm, options: &Options) -> FirstProcess {
    match options.init == Some(true) || vm.context.as_ref().is_some_and(Context::asks_inside) {
        true => FirstProcess::Init,
        false => FirstProcess::Command,
    }
}

/// Takes into the boot spec of a VM that is rebooted what its user may have changed since
/// (`onevm updateconf`, `onevm rename`) and a machine would read again as it boots: its name, its
/// name servers, and its NICs' addresses and routes, which CONTEXT can overrule. NICs themselves
/// come and go by actions of their own.
pub fn renew(
    spec: &mut BootSpec,
    vm: &Vm,
    config: &Config,
    options: &Options,
) -> anyhow::Result<()> {
    if matches!(spec.first, FirstProcess::Command | FirstProcess::Init) {
        spec.first = of_command(vm, options);
    }
    spec.environment = options.environment.clone();
    renew_names(spec, vm, config, options);
    let nics = nics(vm)?;
    let plugs = |nics: &[boot::Nic]| -> Vec<_> {
        let plug = |nic: &boot::Nic| (nic.id, nic.host.clone(), nic.bridge.clone());
        nics.iter().map(plug).collect()
    };
    if plugs(&nics) == plugs(&spec.nics) {
        spec.nics = nics;
    }
    Ok(())
}

/// The same of a VM that runs: its name, its name servers and domains.
pub fn renew_names(spec: &mut BootSpec, vm: &Vm, config: &Config, options: &Options) {
    spec.hostname = hostname(vm, options);
    spec.dns = dns(vm, config, options);
    spec.search = search(vm, options);
    spec.dns_options = options.dns_options.clone();
    spec.hosts = options.hosts.clone();
    spec.domain = options.domain.clone();
}

/// The option's name servers, the VM's, then those of the site, each once.
fn dns(vm: &Vm, config: &Config, options: &Options) -> Vec<NameServer> {
    let own = vm.dns();
    let all = options.dns.iter().chain(&own).chain(&config.override_dns);
    each_once(all)
}

/// The option's search domains, then the VM's.
fn search(vm: &Vm, options: &Options) -> Vec<SearchDomain> {
    let own = vm.search_domains();
    each_once(options.search.iter().chain(&own))
}

fn each_once<'a, T: Clone + PartialEq + 'a>(items: impl Iterator<Item = &'a T>) -> Vec<T> {
    let mut all = Vec::new();
    for item in items {
        if !all.contains(item) {
            all.push(item.clone());
        }
    }
    all
}

/// Entrypoint and command. The entrypoint is the option's, else the image's; the command is the option's,
/// else DOCKERRUN of the disk, else the one stored with the image, else ONEDOCK_DEFAULT_DOCKERRUN, else the
/// image's command, which belongs to its own entrypoint alone, as with `docker run --entrypoint`.
fn command(
    vm: &Vm,
    descriptor: &Descriptor,
    image: &ImageConfig,
    config: &Config,
    options: &Options,
) -> anyhow::Result<Vec<String>> {
    let entrypoint = options.entrypoint.as_ref().unwrap_or(&image.entrypoint);
    let with = |words: &[String]| entrypoint.iter().chain(words).cloned().collect();
    if let Some(words) = &options.command {
        return Ok(with(words));
    }
    let wished = vm
        .disk(descriptor.disk)
        .and_then(|disk| disk.dockerrun.as_deref())
        .or(descriptor.dockerrun.as_deref())
        .or(config.default_dockerrun.as_deref());
    let words = match wished {
        None if options.entrypoint.is_some() => Vec::new(),
        None => image.cmd.clone(),
        Some(text) => {
            let words = shell_words::split(text)
                .with_context(|| format!("DOCKERRUN \"{text}\" cannot be split into words"))?;
            ensure!(!words.is_empty(), "DOCKERRUN has no word in it");
            words
        }
    };
    Ok(with(&words))
}

/// Whether the image has no command: onedock-init waits in its place.
fn is_nothing(args: &[String]) -> bool {
    args.first().is_none_or(|program| program == NO_COMMAND)
}

/// A shell that would end at once without a terminal, which the containers that former versions
/// made do not have: there onedock-init waits in its place, as it did. With a terminal a command
/// lives as long as it wants to, whatever its name is.
fn is_bare(args: &[String]) -> bool {
    let Some((program, options)) = args.split_first() else {
        return false;
    };
    let name = program.rsplit('/').next().unwrap_or(program);
    matches!(name, "sh" | "ash" | "bash" | "dash" | "ksh" | "zsh")
        && options
            .iter()
            .all(|o| matches!(o.as_str(), "-l" | "--login" | "-i" | "-il" | "-li"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use onedock_common::opennebula::nic::DEFAULT_PREFIX;

    const RECORDED: &str = include_str!("../../common/testdata/deploy-7.4.0.xml");

    fn vm() -> Vm {
        Vm::from_deployment(RECORDED.as_bytes(), DEFAULT_PREFIX).unwrap()
    }

    fn descriptor() -> Descriptor {
        let source: onedock_common::types::reference::Source = format!(
            "docker://front:5000/onedock/img-6@sha256:{}",
            "ab".repeat(32)
        )
        .parse()
        .unwrap();
        Descriptor {
            version: onedock_common::state::descriptor::VERSION,
            vm: vm().id,
            disk: onedock_common::DiskId::new(0),
            image: source.clone(),
            source,
            image_config: None,
            persistent: false,
            dockerrun: None,
            container: None,
            snapshots: Vec::new(),
        }
    }

    fn image(entrypoint: &[&str], cmd: &[&str]) -> ImageConfig {
        let texts = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
        ImageConfig {
            entrypoint: texts(entrypoint),
            cmd: texts(cmd),
            volumes: vec!["/data".into()],
        }
    }

    fn spec(vm: &Vm, descriptor: &Descriptor, image: &ImageConfig) -> BootSpec {
        boot(
            vm,
            descriptor,
            image,
            &Config::default(),
            &Options::default(),
            true,
            "b",
        )
        .unwrap()
    }

    #[test]
    fn the_traced_vm_becomes_limits_and_a_boot_spec() {
        let limits = limits(&vm(), &Config::default(), &Options::default());
        assert_eq!(
            limits,
            Limits {
                cpu_shares: 512,
                cpu_quota_us: 100_000,
                memory: 256 << 20,
                swap: 32 << 20,
                pids: 4096,
            }
        );
        let spec = spec(&vm(), &descriptor(), &image(&["/entry"], &["serve"]));
        assert_eq!(spec.args, ["/entry", "serve"]);
        assert_eq!(spec.first, FirstProcess::Init);
        assert_eq!(spec.hostname.as_str(), "web01");
        assert_eq!(spec.volumes, [std::path::Path::new("/data")]);
        assert_eq!(
            spec.nics
                .iter()
                .map(|n| (n.metric, n.metric6))
                .collect::<Vec<_>>(),
            [(None, None), (Some(100), None)]
        );
    }

    #[test]
    fn the_command_is_the_disk_s_then_the_kept_one_then_the_default_then_the_image_s() {
        let mut vm = vm();
        let mut descriptor = descriptor();
        let image = image(&[], &["own"]);
        let mut config = Config::default();
        let args = |vm: &Vm, d: &Descriptor, c: &Config| {
            command(vm, d, &image, c, &Options::default()).unwrap()
        };
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
        assert!(command(&vm, &descriptor, &image, &config, &Options::default()).is_err());
    }

    #[test]
    fn a_command_is_run_as_it_is_and_only_what_has_none_or_no_terminal_is_kept_alive() {
        let first = |terminal: bool, cmd: &[&str]| {
            let image = image(&[], cmd);
            let (mut vm, descriptor, config) = (vm(), descriptor(), Config::default());
            vm.context = None;
            let spec = boot(
                &vm,
                &descriptor,
                &image,
                &config,
                &Options::default(),
                terminal,
                "b",
            );
            spec.unwrap().first
        };
        for cmd in [&["/bin/sh"][..], &["bash"], &["/bin/bash", "-l"]] {
            assert_eq!(first(true, cmd), FirstProcess::Command, "{cmd:?}");
            assert_eq!(first(false, cmd), FirstProcess::KeepAlive, "{cmd:?}");
        }
        for cmd in [&["sh", "-c", "true"][..], &["httpd"], &["/x/bashful"]] {
            assert_eq!(first(true, cmd), FirstProcess::Command, "{cmd:?}");
            assert_eq!(first(false, cmd), FirstProcess::Command, "{cmd:?}");
        }
        for cmd in [&[][..], &["/dev/onedock-init"]] {
            assert_eq!(first(true, cmd), FirstProcess::KeepAlive, "{cmd:?}");
        }
        let made = container(
            &vm(),
            &descriptor(),
            &image(&[], &[]),
            &Config::default(),
            &Options::default(),
        );
        assert_eq!(
            made.cmd.as_deref(),
            Some(&["/dev/onedock-init".to_owned()][..])
        );
        assert_eq!(
            container(
                &vm(),
                &descriptor(),
                &image(&[], &["x"]),
                &Config::default(),
                &Options::default()
            )
            .cmd,
            None
        );
        assert!(made.terminal && !tree(&vm(), &descriptor()).terminal);
    }

    #[test]
    fn a_context_that_asks_for_something_inside_has_init_before_the_command() {
        let image = image(&[], &["httpd"]);
        let first = |text: &str| {
            let vm = Vm::from_deployment(text.as_bytes(), DEFAULT_PREFIX).unwrap();
            let mut spec = spec(&vm, &descriptor(), &image);
            let first = spec.first;
            spec.first = FirstProcess::KeepAlive;
            renew(&mut spec, &vm, &Config::default(), &Options::default()).unwrap();
            assert_eq!(spec.first, FirstProcess::KeepAlive);
            spec.first = FirstProcess::Command;
            renew(&mut spec, &vm, &Config::default(), &Options::default()).unwrap();
            assert_eq!(spec.first, first);
            first
        };
        assert_eq!(first(RECORDED), FirstProcess::Init);
        let plain = RECORDED
            .replace("START_SCRIPT>", "X1>")
            .replace("SSH_PUBLIC_KEY>", "X2>");
        assert_eq!(first(&plain), FirstProcess::Command);
        assert_eq!(
            first(&plain.replace("X1>", "TIMEZONE>")),
            FirstProcess::Init
        );
    }

    #[test]
    fn the_site_s_name_servers_stand_behind_the_vm_s_and_each_once() {
        let (vm, site) = (vm(), "10.9.9.9".parse::<NameServer>().unwrap());
        let own = vm.dns();
        assert!(!own.is_empty());
        let config = Config {
            override_dns: vec![own[0].clone(), site.clone(), site.clone()],
            ..Config::default()
        };
        let mut expected = own;
        expected.push(site);
        assert_eq!(dns(&vm, &config, &Options::default()), expected);
    }

    #[test]
    fn a_volume_at_a_file_of_the_engine_is_not_made() {
        let mut image = image(&[], &["x"]);
        assert!(
            container(
                &vm(),
                &descriptor(),
                &image,
                &Config::default(),
                &Options::default()
            )
            .no_volume_at
            .is_empty()
        );
        image.volumes = vec![
            "/etc/hosts".into(),
            "/etc/resolv.conf/".into(),
            "/srv".into(),
        ];
        let made = container(
            &vm(),
            &descriptor(),
            &image,
            &Config::default(),
            &Options::default(),
        );
        assert_eq!(made.no_volume_at, ["/etc/hosts", "/etc/resolv.conf"]);
    }
}
