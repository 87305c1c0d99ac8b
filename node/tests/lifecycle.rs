//! The runtime under a real Docker Engine, from `docker create` to `docker rm`, in front of runc
//! and of crun.
#![allow(clippy::unwrap_used, reason = "fixed values of a test")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use onedock_common::engine::{Docker, Engine, Watched};
use onedock_common::state::boot::{BootSpec, FirstProcess, Nic, VERSION, boot_id};
use onedock_common::state::paths::Paths;
use onedock_common::{ContainerId, NicId, VmId};
use onedock_tests::engine_server::{Options, PrivateEngine};

const BRIDGE: &str = "onebr0";

struct Node {
    engine: PrivateEngine,
}

impl Node {
    fn behind(runtime: &str) -> Result<Self> {
        let engine = PrivateEngine::start(Options {
            runtime: Some(env!("CARGO_BIN_EXE_onedock-runtime").into()),
            behind: Some(runtime.into()),
            arguments: Vec::new(),
        })?;
        for command in [
            format!("link add {BRIDGE} type bridge"),
            format!("link set {BRIDGE} mtu 1450 up"),
            format!("address add 10.77.0.1/24 dev {BRIDGE}"),
            format!("address add fd77::1/64 dev {BRIDGE} nodad"),
        ] {
            engine.run("ip", &command.split(' ').collect::<Vec<_>>())?;
        }
        engine.busybox("box:1", &["CMD [\"/bin/sleep\", \"1000\"]", "VOLUME /data"])?;
        Ok(Self { engine })
    }

    fn create(&self, name: &str, image: &str) -> Result<ContainerId> {
        self.create_with(&["--name", name], image)
    }

    fn create_with(&self, options: &[&str], image: &str) -> Result<ContainerId> {
        let fixed = ["create", "--network=none", "--runtime=onedock"];
        let arguments = [&fixed, options, &[image]].concat();
        Ok(self.engine.docker(&arguments)?.parse()?)
    }

    fn is_running(&self, id: &ContainerId) -> Result<bool> {
        let arguments = ["inspect", "-f", "{{.State.Running}}", id.as_str()];
        Ok(self.engine.docker(&arguments)? == "true")
    }

    fn boot(&self, id: &ContainerId, spec: &BootSpec) -> Result<()> {
        self.engine.inside(|| Ok(spec.write(&Paths::system(), id)?))
    }

    /// Creates and starts a VM.
    fn vm(&self, spec: &BootSpec) -> Result<ContainerId> {
        let id = self.create(&format!("one-{}", spec.vm), "box:1")?;
        self.boot(&id, spec)?;
        self.engine.docker(&["start", id.as_str()])?;
        Ok(id)
    }

    /// What the user reads when a start fails.
    fn refused(&self, id: &ContainerId) -> Result<String> {
        let output = self.engine.output("docker", &["start", id.as_str()])?;
        ensure!(!output.status.success(), "the start was not refused");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn exec(&self, id: &ContainerId, command: &str) -> Result<String> {
        let mut arguments = vec!["exec", id.as_str()];
        arguments.extend(command.split(' '));
        self.engine.docker(&arguments)
    }

    fn links(&self) -> Result<Vec<String>> {
        let text = self.engine.run("ip", &["-o", "link", "show"])?;
        let name = |line: &str| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned());
        Ok(text
            .lines()
            .filter_map(name)
            .filter(|name| name.starts_with("one-"))
            .collect())
    }

    fn records(&self) -> Result<usize> {
        self.engine
            .inside(|| match fs::read_dir("/run/onedock/containers") {
                Ok(entries) => Ok(entries.count()),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
                Err(e) => Err(e.into()),
            })
    }

    fn answers(&self, address: &str) -> Result<String> {
        let address = address.to_owned();
        self.engine.inside(move || {
            let (begin, limit) = (Instant::now(), Duration::from_secs(5));
            // The server needs a moment after the start, which has answered before it ran.
            let mut stream = loop {
                match TcpStream::connect_timeout(&address.parse()?, limit) {
                    Ok(stream) => break stream,
                    Err(e) if begin.elapsed() > limit => {
                        return Err(e).with_context(|| format!("no connection to {address}"));
                    }
                    Err(_) => std::thread::yield_now(),
                }
            };
            stream.set_read_timeout(Some(limit))?;
            stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    }

    fn rule(&self, tool: &str) -> Result<usize> {
        let rules = self.engine.run(tool, &["-S"])?;
        let jump = "-A FORWARD -m physdev --physdev-is-bridged -j opennebula";
        ensure!(rules.matches("-N opennebula").count() <= 1, "{rules}");
        ensure!(
            rules.matches("-A opennebula -j ACCEPT").count() <= 1,
            "{rules}"
        );
        Ok(rules.matches(jump).count())
    }
}

fn nic(vm: u32, id: u32, address: &str) -> Nic {
    Nic {
        id: NicId::new(id),
        host: format!("one-{vm}-{id}").parse().unwrap(),
        bridge: BRIDGE.parse().unwrap(),
        mac: format!("02:00:0a:4d:{id:02x}:{vm:02x}").parse().unwrap(),
        mtu: None,
        addresses: vec![address.parse().unwrap()],
        gateway: None,
        gateway6: None,
        metric: None,
        metric6: None,
    }
}

fn spec(vm: u32, nics: Vec<Nic>) -> BootSpec {
    BootSpec {
        version: VERSION,
        vm: VmId::new(vm),
        boot_id: boot_id().unwrap(),
        hostname: format!("web{vm}").parse().unwrap(),
        args: vec!["/bin/sleep".into(), "1000".into()],
        first: FirstProcess::Command,
        nics,
        dns: vec![],
        search: vec![],
        context: None,
        volumes: vec!["/data".into(), "/missing/volume".into()],
        disks: Vec::new(),
    }
}

/// Two HTTP servers; what the first process saw of its network before anything else ran.
const WEB: &str = "ip addr > /data/seen; echo hello from $HOSTNAME > /data/index.html; \
    httpd -p 80 -h /data; exec httpd -f -p 8080 -h /data";

fn lives_and_leaves_nothing(runtime: &str) -> Result<()> {
    let node = Node::behind(runtime)?;
    let engine = &node.engine;
    engine.run("iptables", &["-P", "FORWARD", "DROP"])?;
    engine.run("ip6tables", &["-P", "FORWARD", "DROP"])?;
    let context = engine.folder().join("disk.1");
    fs::create_dir(&context)?;
    fs::write(context.join("context.sh"), "ETH0_IP='10.77.0.41'\n")?;

    let mut first = nic(1, 0, "10.77.0.41/24");
    first.addresses.push("fd77::41/64".parse()?);
    first.gateway = Some("10.77.0.1".parse()?);
    first.gateway6 = Some("fd77::1".parse()?);
    first.metric = Some(7);
    first.metric6 = Some(9);
    let mut second = nic(1, 3, "10.78.0.41/16");
    second.mtu = Some(1300);
    let mut web = spec(1, vec![first, second]);
    web.args = ["/bin/sh", "-c", WEB].map(String::from).to_vec();
    web.context = Some(context);
    web.dns = vec!["10.77.0.1".parse()?];
    web.search = vec!["lan".parse()?];
    let id = node.vm(&web)?;
    let mut neighbour = nic(2, 0, "10.77.0.42/24");
    neighbour.addresses.push("fd77::42/64".parse()?);
    let mut other = spec(2, vec![neighbour]);
    other.search = vec!["_tcp.lan".parse()?];
    let other = node.vm(&other)?;
    // Search domains alone stand beside the servers that the engine has given.
    let resolver = node.exec(&other, "cat /etc/resolv.conf")?;
    ensure!(
        resolver.ends_with("search _tcp.lan") && resolver.contains("nameserver "),
        "{resolver}"
    );

    // Inside: names, addresses, routes, files.
    for (command, expected) in [
        (
            "ip -o addr show eth0",
            vec!["inet 10.77.0.41/24", "inet6 fd77::41/64"],
        ),
        (
            "ip link show eth0",
            vec!["mtu 1450", "02:00:0a:4d:00:01", ",UP"],
        ),
        (
            "ip link show eth3",
            vec!["mtu 1300", "02:00:0a:4d:03:01", ",UP"],
        ),
        ("ip addr show lo", vec!["127.0.0.1/8", "::1/128"]),
        (
            "ip route",
            vec![
                "default via 10.77.0.1 dev eth0  metric 7",
                "10.78.0.0/16 dev eth3",
            ],
        ),
        (
            "ip -6 route",
            vec!["default via fd77::1 dev eth0  metric 9"],
        ),
        (
            "cat /etc/hosts",
            vec!["10.77.0.41\tweb1\n", "fd77::41\tweb1\n"],
        ),
        (
            "cat /etc/hostname /proc/sys/kernel/hostname",
            vec!["web1\nweb1"],
        ),
        (
            "cat /etc/resolv.conf",
            vec!["nameserver 10.77.0.1\nsearch lan"],
        ),
        (
            "cat /context/context.sh /mnt/context.sh",
            vec!["10.77.0.41'\nETH0_IP='10.77.0.41"],
        ),
        (
            "cat /data/seen",
            vec!["10.77.0.41/24", "10.78.0.41/16", "fd77::41/64"],
        ),
        ("cat /proc/mounts", vec![" /context ext4 ro,nosuid,nodev"]),
    ] {
        let text = node.exec(&id, command)?;
        for part in expected {
            let part = part.replace(" ext4 ", " ");
            let text = text.replace(" ext4 ", " ");
            ensure!(text.contains(&part), "{command}: no {part:?} in\n{text}");
        }
    }
    ensure!(
        !node.exec(&id, "cat /proc/mounts")?.contains(" /data "),
        "the volume was not dropped"
    );
    ensure!(
        node.exec(&id, "cat /proc/1/environ")?
            .contains("HOSTNAME=web1\0"),
        "environment"
    );

    // From the bridge and from the neighbour, on both ports.
    for port in [80, 8080] {
        for address in [format!("10.77.0.41:{port}"), format!("[fd77::41]:{port}")] {
            ensure!(
                node.answers(&address)?.contains("hello from web1"),
                "{address}"
            );
            let url = format!("wget -q -O - http://{address}/index.html");
            ensure!(
                node.exec(&other, &url)? == "hello from web1",
                "{address} from a neighbour"
            );
        }
    }
    let bridged = |name: &str| {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{name}");
        engine.inside(|| Ok(fs::read_to_string(&path).is_ok_and(|text| text.trim() == "1")))
    };
    for tool in ["iptables", "ip6tables"] {
        ensure!(
            node.rule(tool)? == usize::from(bridged(tool)?),
            "the chain is not there once"
        );
    }
    ensure!(
        engine
            .run("ip", &["link", "show", "one-1-0"])?
            .contains("alias onedock:1:"),
        "alias"
    );
    ensure!(
        node.links()?.len() == 3 && node.records()? == 2,
        "links or records"
    );

    // Again after a restart, with what was written.
    node.exec(&id, "/bin/busybox cp /bin/busybox /data/kept")?;
    engine.docker(&["restart", "-t", "0", id.as_str()])?;
    ensure!(
        node.exec(&id, "ip -o addr show eth0")?
            .contains("10.77.0.41/24"),
        "after restart"
    );
    ensure!(
        node.answers("10.77.0.41:8080")?.contains("hello from web1"),
        "after restart"
    );
    node.exec(&id, "ls /data/kept")?;

    // Changed while it was off.
    engine.docker(&["stop", "-t", "0", id.as_str()])?;
    ensure!(
        node.links()? == ["one-2-0"],
        "host ends are left: {:?}",
        node.links()?
    );
    let changes = engine.docker(&["diff", id.as_str()])?;
    ensure!(changes.contains("A /data/kept"), "{changes}");
    for trace in ["/context", "/mnt", "/dev"] {
        ensure!(
            !changes.lines().any(|line| line.ends_with(trace)),
            "{trace} is left: {changes}"
        );
    }
    web.nics = vec![nic(1, 5, "10.77.0.45/24")];
    web.context = None;
    node.boot(&id, &web)?;
    engine.docker(&["start", id.as_str()])?;
    ensure!(
        node.answers("10.77.0.45:80")?.contains("hello"),
        "the new NIC"
    );
    ensure!(
        node.links()? == ["one-2-0", "one-1-5"],
        "{:?}",
        node.links()?
    );

    engine.docker(&["rm", "-f", "-v", id.as_str(), other.as_str()])?;
    ensure!(
        node.links()?.is_empty() && node.records()? == 0,
        "something is left"
    );
    let volumes = engine.docker(&["volume", "ls", "-q"])?;
    ensure!(volumes.is_empty(), "volumes are left: {volumes}");
    Ok(())
}

#[test]
fn a_vm_lives_behind_runc_and_leaves_nothing() -> Result<()> {
    lives_and_leaves_nothing("/usr/sbin/runc")
}

#[test]
fn a_vm_lives_behind_crun_and_leaves_nothing() -> Result<()> {
    lives_and_leaves_nothing("/usr/bin/crun")
}

#[test]
fn an_image_without_a_command_lives_and_stops_at_once() -> Result<()> {
    for runtime in ["/usr/sbin/runc", "/usr/bin/crun"] {
        let node = Node::behind(runtime)?;
        let mut idle = spec(1, vec![nic(1, 0, "10.77.0.41/24")]);
        idle.first = FirstProcess::KeepAlive;
        idle.args.clear();
        let id = node.vm(&idle)?;
        // An orphan of an exec is reaped.
        node.exec(&id, "/bin/sh -c (sleep$IFS0.2&)")?;
        let begin = Instant::now();
        while node.exec(&id, "ps")?.matches("sleep").count() > 0 {
            ensure!(
                begin.elapsed() < Duration::from_secs(5),
                "{}",
                node.exec(&id, "ps")?
            );
        }
        for signal in ["TERM", "INT", "RTMIN+3", "USR1"] {
            let begin = Instant::now();
            node.engine.docker(&["kill", "-s", signal, id.as_str()])?;
            let code = node.engine.docker(&["wait", id.as_str()])?;
            ensure!(
                code == "0" && begin.elapsed() < Duration::from_secs(3),
                "{signal}: {code}"
            );
            node.engine.docker(&["start", id.as_str()])?;
        }
        let begin = Instant::now();
        node.engine.docker(&["stop", id.as_str()])?;
        ensure!(
            begin.elapsed() < Duration::from_secs(3),
            "the stop was slow"
        );
        ensure!(node.links()?.is_empty(), "links are left");
        ensure!(
            node.engine
                .docker(&["diff", id.as_str()])?
                .lines()
                .all(|l| !l.contains("/dev"))
        );
    }
    Ok(())
}

#[test]
fn an_interactive_command_lives_on_at_its_terminal_and_after_a_restart() -> Result<()> {
    let lives: [&[&str]; 7] = [
        &["sh"],
        &["/bin/sh", "-c", "sh"],
        &["/bin/busybox", "sh"],
        // The usual last line of an entrypoint, with CMD sh.
        &["/bin/sh", "-c", "exec \"$@\"", "entrypoint", "sh"],
        &["/bin/busybox", "env", "sh"],
        &["cat"],
        &["/bin/sh", "-c", "while read line; do echo $line; done"],
    ];
    for runtime in ["/usr/sbin/runc", "/usr/bin/crun"] {
        let node = Node::behind(runtime)?;
        let mut ids = Vec::new();
        for (vm, args) in (1..).zip(lives) {
            let id = node.create_with(&["--tty", "--interactive"], "box:1")?;
            let mut spec = spec(vm, vec![]);
            spec.args = args.iter().map(|a| (*a).to_owned()).collect();
            node.boot(&id, &spec)?;
            node.engine.docker(&["start", id.as_str()])?;
            ids.push(id);
        }
        // The same without a terminal ends at once, which shows that it is waited long enough.
        let id = node.create("piped", "box:1")?;
        let mut piped = spec(100, vec![]);
        piped.args = vec!["sh".into()];
        node.boot(&id, &piped)?;
        node.engine.docker(&["start", id.as_str()])?;
        soon("a shell without a terminal has no end", || {
            Ok(!node.is_running(&id)?)
        })?;
        onedock_common::wait::pause(Duration::from_millis(300));
        for (id, args) in ids.iter().zip(lives) {
            ensure!(node.is_running(id)?, "{runtime}: {args:?} has ended");
            node.engine.docker(&["restart", "-t", "0", id.as_str()])?;
        }
        onedock_common::wait::pause(Duration::from_millis(500));
        for (id, args) in ids.iter().zip(lives) {
            ensure!(node.is_running(id)?, "{runtime}: {args:?} after a restart");
        }
        let terminal = node.exec(&ids[0], "ls -l /proc/1/fd/0 /dev/console")?;
        ensure!(terminal.contains("-> /dev/pts/0"), "{terminal}");
    }
    Ok(())
}

#[test]
fn what_a_command_at_a_terminal_wrote_last_is_read_as_plain_lines() -> Result<()> {
    let node = Node::behind("/usr/sbin/runc")?;
    let id = node.create_with(&["--tty", "--interactive"], "box:1")?;
    let mut spec = spec(1, vec![]);
    let script =
        "printf '\\033[31mno configuration\\033[0m\\n' >&2; echo; printf 'gives up'; exit 3";
    spec.args = ["/bin/sh", "-c", script].map(String::from).to_vec();
    node.boot(&id, &spec)?;
    let docker = Docker::at(node.engine.socket())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        docker.start(&id).await?;
        let ended = docker.watch(&id, Duration::from_secs(10)).await?;
        ensure!(ended == Watched::Ended(3), "{ended:?}");
        let lines = docker.last_lines(&id, 10).await?;
        ensure!(lines == ["no configuration", "gives up"], "{lines:?}");
        let container = docker.container(&id).await?.context("it is gone")?;
        ensure!(container.terminal && container.pid.is_none());
        Ok(())
    })
}

#[test]
fn a_volume_over_what_the_engine_mounts_and_over_the_context_hides_neither() -> Result<()> {
    for runtime in ["/usr/sbin/runc", "/usr/bin/crun"] {
        let node = Node::behind(runtime)?;
        let volumes = [
            "/proc",
            "/sys",
            "/sys/fs/cgroup",
            "/dev/shm",
            "/dev/pts",
            "/mnt",
            "/context",
            "/data",
        ];
        let change = format!("VOLUME {volumes:?}");
        node.engine.busybox("volumes:1", &[&change])?;
        node.engine
            .busybox("file:1", &["VOLUME /etc/hosts", "VOLUME /etc/resolv.conf"])?;
        let context = node.engine.folder().join("context");
        fs::create_dir(&context)?;
        fs::write(context.join("context.sh"), "A='1'\n")?;

        let id = node.create_with(&["--entrypoint=x"], "volumes:1")?;
        let mut vm = spec(1, vec![nic(1, 0, "10.77.0.41/24")]);
        vm.context = Some(context);
        vm.volumes = volumes.map(PathBuf::from).to_vec();
        node.boot(&id, &vm)?;
        for turn in ["started", "started again"] {
            node.engine
                .docker(&["restart", "-t", "0", id.as_str()])
                .with_context(|| turn.to_owned())?;
            let mounts = node.exec(&id, "cat /proc/mounts")?;
            for (place, kind) in [
                ("/proc", "proc"),
                ("/sys", "sysfs"),
                ("/dev/shm", "tmpfs"),
                ("/dev/pts", "devpts"),
            ] {
                let line = format!(" {place} {kind} ");
                ensure!(mounts.contains(&line), "{runtime}: no{line}in\n{mounts}");
            }
            ensure!(mounts.contains(" /sys/fs/cgroup"), "{mounts}");
            ensure!(!mounts.contains(" /data "), "{mounts}");
            let seen = node.exec(&id, "cat /context/context.sh /mnt/context.sh")?;
            ensure!(seen == "A='1'\nA='1'", "{seen}");
            node.exec(&id, "/bin/busybox touch /data/kept")?;
        }

        // The engine makes no volume at a file, unless something else is mounted there.
        let refused = node.create_with(&["--entrypoint=x"], "file:1").unwrap_err();
        ensure!(
            refused
                .to_string()
                .contains("cannot mount volume over existing file"),
            "{refused}"
        );
        let placeholders = [
            "--entrypoint=x",
            "--tmpfs=/etc/hosts",
            "--tmpfs=/etc/resolv.conf",
        ];
        let id = node.create_with(&placeholders, "file:1")?;
        let mut vm = spec(2, vec![nic(2, 0, "10.77.0.42/24")]);
        vm.volumes = vec!["/etc/hosts".into(), "/etc/resolv.conf".into()];
        vm.dns = vec!["10.77.0.1".parse()?];
        node.boot(&id, &vm)?;
        node.engine.docker(&["start", id.as_str()])?;
        let seen = node.exec(&id, "cat /etc/hosts /etc/resolv.conf")?;
        ensure!(
            seen.contains("10.77.0.42\tweb2") && seen.contains("nameserver 10.77.0.1"),
            "{seen}"
        );
    }
    Ok(())
}

#[test]
fn an_image_with_odd_files_in_etc_starts_and_touches_nothing_outside() -> Result<()> {
    for runtime in ["/usr/sbin/runc", "/usr/bin/crun"] {
        let node = Node::behind(runtime)?;
        let outside = node.engine.folder().join("outside");
        fs::create_dir(&outside)?;
        let shown = outside.display().to_string();
        let kinds: [(&str, &str, bool); 6] = [
            ("absent", "true", true),
            ("empty folder", "mkdir etc/F", true),
            ("folder", "mkdir -p etc/F/sub", false),
            ("link to nowhere", "ln -s /run/none/F etc/F", true),
            ("loop", "ln -s F etc/F", true),
            ("link outside", "ln -s OUTSIDE/F etc/F", true),
        ];
        for (at, (kind, command, own)) in (1..).zip(kinds) {
            let root = tempfile::tempdir_in(node.engine.folder())?;
            fs::create_dir_all(root.path().join("bin"))?;
            fs::create_dir_all(root.path().join("etc"))?;
            let busybox = ["/bin/busybox", "/usr/bin/busybox"];
            let busybox = busybox.iter().find(|path| Path::new(path).exists());
            fs::copy(busybox.context("busybox")?, root.path().join("bin/busybox"))?;
            for file in ["hosts", "hostname", "resolv.conf"] {
                let command = command.replace('F', file).replace("OUTSIDE", &shown);
                let script = format!("cd {} && {command}", root.path().display());
                node.engine.run("/bin/sh", &["-c", &script])?;
            }
            let image = format!("odd:{at}");
            node.engine.import(&image, root.path(), &[])?;
            let id = node.create_with(&["--entrypoint=x"], &image)?;
            let mut vm = spec(at, vec![nic(at, 0, &format!("10.77.0.{}/24", 40 + at))]);
            vm.dns = vec!["10.77.0.1".parse()?];
            vm.args = ["/bin/busybox", "sleep", "100"].map(String::from).to_vec();
            node.boot(&id, &vm)?;
            for _ in 0..2 {
                let restart = ["restart", "-t", "0", id.as_str()];
                node.engine
                    .docker(&restart)
                    .with_context(|| format!("{runtime}: {kind}"))?;
                let name = node.exec(&id, "/bin/busybox hostname")?;
                ensure!(name == format!("web{at}"), "{kind}: {name}");
                if own {
                    let files = "/bin/busybox cat /etc/hosts /etc/hostname /etc/resolv.conf";
                    let seen = node.exec(&id, files)?;
                    let good = seen.contains(&format!("\tweb{at}\nweb{at}\nnameserver"));
                    ensure!(good, "{runtime}: {kind}: {seen}");
                } else {
                    node.exec(&id, "/bin/busybox ls -d /etc/hosts/sub")?;
                }
            }
            node.engine.docker(&["rm", "-f", "-v", id.as_str()])?;
        }
        ensure!(
            fs::read_dir(&outside)?.count() == 0,
            "something was made outside"
        );
    }
    Ok(())
}

#[test]
fn a_stop_signal_right_after_the_start_is_never_lost() -> Result<()> {
    for runtime in ["/usr/sbin/runc", "/usr/bin/crun"] {
        let node = Node::behind(runtime)?;
        let mut idle = spec(1, Vec::new());
        idle.first = FirstProcess::KeepAlive;
        idle.args.clear();
        let id = node.vm(&idle)?;
        let kill = format!("POST /containers/{id}/kill?signal=TERM HTTP/1.0\r\n\r\n");
        let start = format!("POST /containers/{id}/start HTTP/1.0\r\n\r\n");
        let wait = format!("POST /containers/{id}/wait HTTP/1.0\r\n\r\n");
        // Straight to the socket: a client's start would take longer than what is looked for.
        let ask = |request: &str| -> Result<String> {
            let mut stream = UnixStream::connect(node.engine.socket())?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream
                .read_to_string(&mut answer)
                .with_context(|| format!("{runtime}: no answer to {request}"))?;
            Ok(answer)
        };
        for round in 0..12 {
            ask(&kill)?;
            let ended =
                ask(&wait).with_context(|| format!("the signal of round {round} was lost"))?;
            ensure!(ended.contains("\"StatusCode\":0"), "round {round}: {ended}");
            let started = ask(&start)?;
            ensure!(started.contains(" 204 "), "round {round}: {started}");
        }
    }
    Ok(())
}

#[test]
fn a_start_that_fails_says_why_on_one_line_and_leaves_nothing() -> Result<()> {
    for runtime in ["/usr/sbin/runc", "/usr/bin/crun"] {
        fails_clearly(&Node::behind(runtime)?).with_context(|| runtime.to_owned())?;
    }
    Ok(())
}

fn fails_clearly(node: &Node) -> Result<()> {
    let engine = &node.engine;
    let id = node.create("one-1", "box:1")?;
    let check = |name: &str, spec: &BootSpec, expected: &str| -> Result<()> {
        node.boot(&id, spec)?;
        let text = node.refused(&id)?;
        ensure!(text.contains(expected), "{name}: no {expected:?} in {text}");
        ensure!(text.trim_end().lines().count() <= 2, "{name}: {text}");
        let links: Vec<String> = node
            .links()?
            .into_iter()
            .filter(|l| l.starts_with("one-1-"))
            .collect();
        ensure!(links.is_empty(), "{name}: {links:?} left");
        ensure!(node.records()? == 0, "{name}: a record is left");
        let changes = engine.docker(&["diff", id.as_str()])?;
        ensure!(
            !changes.contains("context"),
            "{name}: a mount point is left: {changes}"
        );
        Ok(())
    };
    let context = engine.folder().join("context");
    fs::create_dir(&context)?;
    let mut good = spec(
        1,
        vec![nic(1, 0, "10.77.0.41/24"), nic(1, 1, "10.77.0.51/24")],
    );
    good.context = Some(context);

    // Fault 49, in the second NIC, when the first is plugged.
    let mut bad = good.clone();
    bad.nics[1].bridge = "nobr0".parse()?;
    check(
        "fault_49",
        &bad,
        "bridge nobr0 of NIC 1 does not exist on this host",
    )?;
    bad.nics[1].bridge = "lo".parse()?;
    check("not a bridge", &bad, "lo of NIC 1 is not a Linux bridge")?;
    engine.run("ip", &["link", "add", "downbr", "type", "bridge"])?;
    bad.nics[1].bridge = "downbr".parse()?;
    check("down", &bad, "bridge downbr of NIC 1 is down")?;

    // Fault 51: a foreign device of the name is not touched.
    engine.run(
        "ip",
        &[
            "link", "add", "two-1-1", "type", "veth", "peer", "name", "foreign",
        ],
    )?;
    let mut bad = good.clone();
    bad.nics[1].host = "two-1-1".parse()?;
    check(
        "fault_51",
        &bad,
        "a device named two-1-1, which is not this VM's, is in the way of NIC 1",
    )?;
    engine.run("ip", &["link", "show", "two-1-1"])?;

    let mut bad = good.clone();
    bad.boot_id = "an earlier one".into();
    check(
        "another boot",
        &bad,
        "the host was booted after this VM was deployed",
    )?;
    let mut bad = good.clone();
    bad.context = Some("/nonexistent".into());
    check(
        "context",
        &bad,
        "the VM's context folder /nonexistent cannot be used",
    )?;
    let mut bad = good.clone();
    bad.args = vec!["/bin/nothing".into()];
    check("no such command", &bad, "/bin/nothing")?;

    // A checkpoint cannot be restored yet; the reason is where the engine looks for it.
    node.boot(&id, &good)?;
    let log = engine.folder().join("log.json");
    let log = log.to_str().unwrap();
    let runtime = env!("CARGO_BIN_EXE_onedock-runtime");
    let arguments = [
        "--log",
        log,
        "--log-format",
        "json",
        "restore",
        "--bundle",
        "/",
        id.as_str(),
    ];
    ensure!(
        !engine.output(runtime, &arguments)?.status.success(),
        "restore was not refused"
    );
    ensure!(
        fs::read_to_string(log)?.contains("cannot be restored"),
        "no reason"
    );

    // A host end of ours that an earlier life has left is replaced.
    let alias = "onedock:1:0123456789ab";
    engine.run(
        "ip",
        &[
            "link", "add", "one-1-0", "type", "veth", "peer", "name", "stale",
        ],
    )?;
    engine.run("ip", &["link", "set", "one-1-0", "alias", alias])?;
    node.boot(&id, &good)?;
    engine.docker(&["start", id.as_str()])?;
    ensure!(
        node.exec(&id, "ip addr")?.contains("10.77.0.41/24"),
        "not plugged"
    );
    engine.docker(&["rm", "-f", id.as_str()])?;
    ensure!(node.links()?.is_empty(), "links are left");
    Ok(())
}

/// Repeats a question until the answer is yes; the engine cleans up behind its answer.
fn soon(what: &str, mut question: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !question()? {
        ensure!(begin.elapsed() < Duration::from_secs(10), "{what}");
    }
    Ok(())
}

#[test]
fn fault_50_a_full_bridge_refuses_the_start_and_the_next_start_works() -> Result<()> {
    for runtime in ["/usr/sbin/runc", "/usr/bin/crun"] {
        let node = Node::behind(runtime)?;
        let engine = &node.engine;
        let mut lines = String::new();
        for pair in 0..512 {
            let master = if pair == 511 {
                String::new()
            } else {
                format!(" master {BRIDGE}")
            };
            lines += &format!("link add p{pair} type veth peer name q{pair}\n");
            lines += &format!("link set p{pair} master {BRIDGE}\nlink set q{pair}{master} up\n");
        }
        let batch = engine.folder().join("ports");
        fs::write(&batch, lines)?;
        engine.run("ip", &["-batch", batch.to_str().unwrap()])?;

        let context = engine.folder().join("context");
        fs::create_dir(&context)?;
        let id = node.create("one-1", "box:1")?;
        let mut spec = spec(1, vec![nic(1, 0, "10.77.0.41/24")]);
        spec.context = Some(context);
        node.boot(&id, &spec)?;
        let text = node.refused(&id)?;
        ensure!(
            text.contains(&format!("bridge {BRIDGE} has no free port for NIC 0")),
            "{text}"
        );
        soon("a record is left", || Ok(node.records()? == 0))?;
        ensure!(node.links()?.is_empty(), "links are left");
        let changes = engine.docker(&["diff", id.as_str()])?;
        ensure!(
            !changes.contains("context"),
            "a mount point is left: {changes}"
        );
        let running = engine.docker(&["inspect", "-f", "{{.State.Status}}", id.as_str()])?;
        ensure!(running != "running", "{running}");

        engine.run("ip", &["link", "set", "p0", "nomaster"])?;
        soon("it does not start again", || {
            Ok(engine
                .output("docker", &["start", id.as_str()])?
                .status
                .success())
        })?;
        ensure!(
            node.exec(&id, "ip addr")?.contains("10.77.0.41/24"),
            "not plugged"
        );
        engine.docker(&["rm", "-f", "-v", id.as_str()])?;
        ensure!(
            node.links()?.is_empty() && node.records()? == 0,
            "something is left"
        );
    }
    Ok(())
}

#[test]
fn attack_26_an_image_whose_mount_points_are_links_does_not_lead_them_astray() -> Result<()> {
    let node = Node::behind("/usr/bin/crun")?;
    let outside = node.engine.folder().join("outside");
    fs::create_dir(&outside)?;
    let context = node.engine.folder().join("context");
    fs::create_dir(&context)?;
    for (image, link, started) in [("evil:1", "context", false), ("evil:2", "mnt", true)] {
        let root = tempfile::tempdir_in(node.engine.folder())?;
        fs::create_dir(root.path().join("bin"))?;
        let busybox = [Path::new("/bin/busybox"), Path::new("/usr/bin/busybox")];
        let busybox: PathBuf = busybox
            .iter()
            .find(|path| path.exists())
            .context("busybox")?
            .into();
        fs::copy(busybox, root.path().join("bin/busybox"))?;
        std::os::unix::fs::symlink(&outside, root.path().join(link))?;
        node.engine.import(image, root.path(), &[])?;
        let id: ContainerId = node
            .engine
            .docker(&[
                "create",
                "--network",
                "none",
                "--runtime",
                "onedock",
                image,
                "x",
            ])?
            .parse()?;
        let mut spec = spec(1, vec![]);
        spec.context = Some(context.clone());
        spec.args = ["/bin/busybox", "sleep", "100"].map(String::from).to_vec();
        node.boot(&id, &spec)?;
        if started {
            node.engine.docker(&["start", id.as_str()])?;
            let mounts = node.exec(&id, "/bin/busybox cat /proc/mounts")?;
            ensure!(mounts.contains(" /context "), "{mounts}");
            ensure!(!mounts.contains(" /mnt "), "{mounts}");
        } else {
            let text = node.refused(&id)?;
            ensure!(
                text.contains("/context in the image is a link or a file"),
                "{text}"
            );
        }
        node.engine.docker(&["rm", "-f", id.as_str()])?;
    }
    ensure!(
        fs::read_dir(&outside)?.count() == 0,
        "something was made outside"
    );
    Ok(())
}

#[test]
fn a_container_that_is_no_vm_passes_untouched() -> Result<()> {
    let node = Node::behind("/usr/sbin/runc")?;
    let id = node.create("plain", "box:1")?;
    node.engine.docker(&["start", id.as_str()])?;
    ensure!(
        node.exec(&id, "cat /proc/mounts")?.contains(" /data "),
        "its volume is there"
    );
    ensure!(
        node.exec(&id, "ls /")?
            .lines()
            .all(|name| name != "context"),
        "no mount point"
    );
    ensure!(node.records()? == 1, "its runtime is recorded");
    // Another runtime for new containers does not change who acts on this one.
    node.engine
        .inside(|| Ok(fs::write("/etc/onedock/runtime", "/usr/bin/crun\n")?))?;
    for command in [
        &["pause"][..],
        &["unpause"],
        &["update", "--cpu-shares", "100"],
        &["top"],
    ] {
        let mut arguments = command.to_vec();
        arguments.push(id.as_str());
        node.engine.docker(&arguments)?;
    }
    node.engine.docker(&["rm", "-f", "-v", id.as_str()])?;
    ensure!(node.records()? == 0, "a record is left");
    Ok(())
}

#[test]
fn twenty_vms_at_once_get_one_chain_and_all_their_nics() -> Result<()> {
    let node = Node::behind("/usr/bin/crun")?;
    let mut ids = Vec::new();
    for vm in 1..=20 {
        let id = node.create(&format!("one-{vm}"), "box:1")?;
        node.boot(
            &id,
            &spec(vm, vec![nic(vm, 0, &format!("10.77.0.{}/24", 40 + vm))]),
        )?;
        ids.push(id);
    }
    std::thread::scope(|scope| {
        let node = &node;
        let start = |id| move || node.engine.docker(&["start", ContainerId::as_str(id)]);
        let threads: Vec<_> = ids.iter().map(|id| scope.spawn(start(id))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap().map(drop))
    })?;
    ensure!(node.links()?.len() == 20, "{:?}", node.links()?);
    ensure!(
        node.rule("iptables")? <= 1 && node.rule("ip6tables")? <= 1,
        "the chain is doubled"
    );
    for (id, vm) in ids.iter().zip(1..) {
        let address = format!("10.77.0.{}/24", 40 + vm);
        ensure!(
            node.exec(id, "ip addr show eth0")?.contains(&address),
            "{address}"
        );
    }
    let mut remove = vec!["rm", "-f", "-v"];
    remove.extend(ids.iter().map(ContainerId::as_str));
    node.engine.docker(&remove)?;
    ensure!(
        node.links()?.is_empty() && node.records()? == 0,
        "something is left"
    );
    Ok(())
}
