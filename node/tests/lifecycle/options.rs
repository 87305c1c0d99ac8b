//! Options of Docker, from a template to the inside of a VM on a real engine.

use std::time::Duration;

use anyhow::{Result, ensure};
use onedock_common::engine::{CreateSpec, Docker, Engine, Limits, Watched};
use onedock_common::opennebula::nic::DEFAULT_PREFIX;
use onedock_common::opennebula::vm::Vm;
use onedock_common::options::policy::Policy;
use onedock_common::options::{self, Options};
use onedock_common::state::boot::BootSpec;
use onedock_common::{ContainerId, ContainerName, VmId};
use onedock_tests::registry_server::{RegistryServer, Setup};
use onedock_tests::test_host::{CRUN, RUNC, TestHost};

use crate::{host_behind, spec};

/// A host with a registry, from which an engine knows an image as the drivers name it.
struct Host {
    host: TestHost,
    image: String,
    _registry: RegistryServer,
    runtime: tokio::runtime::Runtime,
    docker: Docker,
}

impl Host {
    fn start(behind: &str) -> Result<Self> {
        let host = host_behind(behind)?;
        let registry = host
            .engine
            .inside(|| RegistryServer::start(&Setup::default()))?;
        let name = format!("{}/box:1", registry.address());
        let applets = [
            "sh", "sleep", "cat", "id", "grep", "pwd", "touch", "df", "ps", "tty", "mount", "date",
        ];
        let root = host.engine.busybox_root(&applets)?;
        host.engine
            .import(&name, root.path(), &["CMD [\"/bin/sleep\", \"1000\"]"])?;
        host.engine.docker(&["push", "--quiet", &name])?;
        let digest = host
            .engine
            .docker(&["inspect", "-f", "{{index .RepoDigests 0}}", &name])?;
        Ok(Self {
            docker: Docker::at(host.engine.socket())?,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            image: format!("docker://{digest}"),
            host,
            _registry: registry,
        })
    }

    /// A VM that was made as the driver makes it.
    fn create(&self, options: &Options) -> Result<ContainerId> {
        let asked = CreateSpec {
            name: ContainerName::of(VmId::new(1)),
            image: self.image.parse()?,
            hostname: "web1".parse()?,
            labels: Default::default(),
            cmd: None,
            runtime: "onedock",
            terminal: options.terminal.unwrap_or(true),
            no_volume_at: Vec::new(),
            limits: Limits {
                cpu_shares: 512,
                cpu_quota_us: 0,
                memory: 64 << 20,
                swap: 0,
                pids: 100,
            },
            body: options.engine.body.clone(),
            host: options.engine.host.clone(),
            storage_mib: None,
        };
        Ok(self.runtime.block_on(self.docker.create(&asked))?)
    }

    /// The same, started with this boot spec.
    fn vm(&self, options: &Options, boot: &BootSpec) -> Result<ContainerId> {
        let id = self.create(options)?;
        self.host.write_boot_spec(&id, boot)?;
        self.runtime.block_on(self.docker.start(&id))?;
        Ok(id)
    }

    fn remove(&self, id: &ContainerId) -> Result<()> {
        self.host
            .engine
            .docker(&["rm", "-f", id.as_str()])
            .map(drop)
    }
}

/// The options of a template with this DOCKER section, where a policy allows all.
fn asked(section: &str) -> Result<Options> {
    let document = format!(
        "<VM><ID>1</ID><TEMPLATE><MEMORY>64</MEMORY></TEMPLATE>\
         <USER_TEMPLATE><DOCKER>{section}</DOCKER></USER_TEMPLATE></VM>"
    );
    let vm = Vm::from_deployment(document.as_bytes(), DEFAULT_PREFIX)?;
    let policy = Policy::parse("[default]\nallow = [\"*\"]", "policy.toml".as_ref())?;
    Ok(options::of_vm(&vm, None, &policy)?)
}

#[test]
fn each_option_is_in_force_inside_the_vm() -> Result<()> {
    let options = asked(
        "<USER>1000:100</USER><WORKING_DIR>/srv/app</WORKING_DIR><ENV>A='x y' PATH=/bin</ENV>\
         <CAP_ADD>SYS_TIME</CAP_ADD><CAP_DROP>MKNOD</CAP_DROP><SECURITY_OPT>no-new-privileges</SECURITY_OPT>\
         <READ_ONLY>YES</READ_ONLY><TMPFS>/scratch:size=1m,mode=1777</TMPFS><SHM_SIZE>3m</SHM_SIZE>\
         <ULIMITS>nofile=100:200</ULIMITS><SYSCTLS>net.ipv4.ip_default_ttl=42</SYSCTLS><GROUP_ADD>7</GROUP_ADD>\
         <BINDS>/var/lib/shared:/shared:ro</BINDS><DEVICES>/dev/fuse</DEVICES><LABELS>a=b</LABELS>\
         <OOM_SCORE_ADJ>500</OOM_SCORE_ADJ><EXTRA_HOSTS>db:10.0.0.7</EXTRA_HOSTS><STOP_SIGNAL>USR1</STOP_SIGNAL>\
         <MEMORY_RESERVATION>32m</MEMORY_RESERVATION><CPUSET>0</CPUSET><TERMINAL>NO</TERMINAL>",
    )?;
    for behind in [RUNC, CRUN] {
        let host = Host::start(behind)?;
        host.host.engine.inside(|| {
            std::fs::create_dir_all("/var/lib/shared")?;
            Ok(std::fs::write("/var/lib/shared/file", "of the host")?)
        })?;
        let boot = BootSpec {
            environment: options.environment.clone(),
            hosts: options.hosts.clone(),
            ..spec(1, Vec::new())
        };
        let id = host.vm(&options, &boot)?;
        let sh = |script: &str| host.host.sh(&id, script);
        for (script, expected) in [
            ("id -u; id -g; id -G", "1000\n100\n100 7"),
            ("echo $PWD", "/srv/app"),
            ("grep NoNewPrivs /proc/1/status", "NoNewPrivs:\t1"),
            ("grep CapEff /proc/1/status", "CapEff:\t0000000000000000"),
            // The default 0xa80425fb with SYS_TIME (25) and without MKNOD (27).
            ("grep CapBnd /proc/1/status", "CapBnd:\t00000000a20425fb"),
            ("ulimit -n; ulimit -Hn", "100\n200"),
            ("cat /proc/sys/net/ipv4/ip_default_ttl", "42"),
            ("cat /shared/file", "of the host"),
            (
                "touch /shared/x 2>/dev/null; touch /x 2>/dev/null; touch /scratch/x; echo $?",
                "0",
            ),
            ("cat /proc/1/oom_score_adj", "500"),
            ("grep db /etc/hosts", "10.0.0.7\tdb"),
            (
                "grep Cpus_allowed_list /proc/1/status",
                "Cpus_allowed_list:\t0",
            ),
            ("test -c /dev/fuse; echo $?", "0"),
            ("echo $A", "x y"),
            ("cat /proc/1/environ | tr '\\0' '\\n' | grep A=", "A=x y"),
        ] {
            let found = sh(script)?;
            ensure!(found == expected, "{behind}: {script}: {found}");
        }
        let mounts = sh("mount")?;
        for part in [
            "/scratch type tmpfs",
            "size=1024k",
            "/dev/shm type tmpfs",
            "size=3072k",
        ] {
            ensure!(mounts.contains(part), "{mounts}");
        }
        ensure!(
            mounts
                .lines()
                .any(|line| line.contains(" on / ") && line.contains("(ro")),
            "{mounts}"
        );
        let inspected = host.host.engine.docker(&[
            "inspect", "-f",
            "{{index .Config.Labels \"a\"}} {{.Config.StopSignal}} {{.HostConfig.MemoryReservation}} {{.Config.Tty}}",
            id.as_str(),
        ])?;
        ensure!(inspected == "b USR1 33554432 false", "{inspected}");
        host.remove(&id)?;
    }
    Ok(())
}

#[test]
fn what_the_engine_gave_and_a_vm_may_have_no_more_is_gone_with_its_next_start() -> Result<()> {
    for behind in [RUNC, CRUN] {
        let host = Host::start(behind)?;
        let options = asked("<CAP_ADD>NET_ADMIN</CAP_ADD>")?;
        let id = host.vm(&options, &spec(1, Vec::new()))?;
        let has = || -> Result<bool> {
            let line = host.host.exec(&id, "grep CapEff /proc/1/status")?;
            let mask = u64::from_str_radix(line.trim_start_matches("CapEff:").trim(), 16)?;
            Ok(mask >> 12 & 1 == 1)
        };
        ensure!(has()?, "{behind}: the capability was not given");
        host.host.engine.docker(&["kill", id.as_str()])?;
        let fewer = BootSpec {
            drop_capabilities: vec!["NET_ADMIN".parse()?],
            ..spec(1, Vec::new())
        };
        host.host.write_boot_spec(&id, &fewer)?;
        host.host.start_container(&id)?;
        ensure!(!has()?, "{behind}: the capability is still there");
    }
    Ok(())
}

#[test]
fn a_vm_that_fails_comes_back_as_often_as_it_may() -> Result<()> {
    let host = Host::start(RUNC)?;
    let options = asked("<RESTART>on-failure:2</RESTART>")?;
    let mut boot = spec(1, vec![crate::nic(1, 0, "10.77.0.41/24")]);
    boot.args = ["/bin/sh", "-c", "echo up; exit 3"]
        .map(String::from)
        .to_vec();
    let id = host.create(&options)?;
    host.host.write_boot_spec(&id, &boot)?;
    host.host.start_container(&id)?;
    let count = || {
        host.host.engine.docker(&[
            "inspect",
            "-f",
            "{{.RestartCount}} {{.State.Status}}",
            id.as_str(),
        ])
    };
    onedock_tests::wait::wait_until("the last try has ended", || Ok(count()? == "2 exited"))?;
    let ended = host
        .runtime
        .block_on(host.docker.watch(&id, Duration::from_secs(5)))?;
    ensure!(ended == Watched::Ended(3), "{ended:?}");
    ensure!(crate::links(&host.host)?.is_empty(), "links are left");
    Ok(())
}
