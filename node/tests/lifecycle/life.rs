//! A VM from its creation to its removal, and containers that are no VMs.

use std::fs;

use anyhow::{Result, ensure};
use onedock_common::ContainerId;
use onedock_tests::test_host::{CRUN, IMAGE, RUNC};

use crate::{answer, chain_jumps, host_behind, links, nic, records, spec};

/// Two HTTP servers; the network of the first process before anything else ran.
const WEB: &str = "ip addr > /data/at-start; echo hello from $HOSTNAME > /data/index.html; \
    httpd -p 80 -h /data; exec httpd -f -p 8080 -h /data";

fn lives_and_leaves_nothing(runtime: &str) -> Result<()> {
    let host = host_behind(runtime)?;
    let engine = &host.engine;
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
    let id = host.start_vm(&web)?;
    let mut neighbour = nic(2, 0, "10.77.0.42/24");
    neighbour.addresses.push("fd77::42/64".parse()?);
    let mut other = spec(2, vec![neighbour]);
    other.search = vec!["_tcp.lan".parse()?];
    let other = host.start_vm(&other)?;
    // Search domains alone stand beside the servers that the engine has given.
    let resolver = host.exec(&other, "cat /etc/resolv.conf")?;
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
            "cat /data/at-start",
            vec!["10.77.0.41/24", "10.78.0.41/16", "fd77::41/64"],
        ),
        ("cat /proc/mounts", vec![" /context ext4 ro,nosuid,nodev"]),
    ] {
        let text = host.exec(&id, command)?;
        for part in expected {
            let part = part.replace(" ext4 ", " ");
            let text = text.replace(" ext4 ", " ");
            ensure!(text.contains(&part), "{command}: no {part:?} in\n{text}");
        }
    }
    ensure!(
        !host.exec(&id, "cat /proc/mounts")?.contains(" /data "),
        "the volume was not dropped"
    );
    ensure!(
        host.exec(&id, "cat /proc/1/environ")?
            .contains("HOSTNAME=web1\0"),
        "environment"
    );

    // From the bridge and from the neighbour, on both ports.
    for port in [80, 8080] {
        for address in [format!("10.77.0.41:{port}"), format!("[fd77::41]:{port}")] {
            ensure!(
                answer(&host, &address)?.contains("hello from web1"),
                "{address}"
            );
            let url = format!("wget -q -O - http://{address}/index.html");
            ensure!(
                host.exec(&other, &url)? == "hello from web1",
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
            chain_jumps(&host, tool)? == usize::from(bridged(tool)?),
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
        links(&host)?.len() == 3 && records(&host)? == 2,
        "links or records"
    );

    // Again after a restart, with what was written.
    host.exec(&id, "/bin/busybox cp /bin/busybox /data/written")?;
    engine.docker(&["restart", "-t", "0", id.as_str()])?;
    ensure!(
        host.exec(&id, "ip -o addr show eth0")?
            .contains("10.77.0.41/24"),
        "after restart"
    );
    ensure!(
        answer(&host, "10.77.0.41:8080")?.contains("hello from web1"),
        "after restart"
    );
    host.exec(&id, "ls /data/written")?;

    // Changed while it was off.
    engine.docker(&["stop", "-t", "0", id.as_str()])?;
    ensure!(
        links(&host)? == ["one-2-0"],
        "host ends are left: {:?}",
        links(&host)?
    );
    let changes = engine.docker(&["diff", id.as_str()])?;
    ensure!(changes.contains("A /data/written"), "{changes}");
    for trace in ["/context", "/mnt", "/dev"] {
        ensure!(
            !changes.lines().any(|line| line.ends_with(trace)),
            "{trace} is left: {changes}"
        );
    }
    web.nics = vec![nic(1, 5, "10.77.0.45/24")];
    web.context = None;
    host.write_boot_spec(&id, &web)?;
    host.start_container(&id)?;
    ensure!(
        answer(&host, "10.77.0.45:80")?.contains("hello"),
        "the new NIC"
    );
    ensure!(
        links(&host)? == ["one-2-0", "one-1-5"],
        "{:?}",
        links(&host)?
    );

    engine.docker(&["rm", "-f", "-v", id.as_str(), other.as_str()])?;
    ensure!(
        links(&host)?.is_empty() && records(&host)? == 0,
        "something is left"
    );
    let volumes = engine.docker(&["volume", "ls", "-q"])?;
    ensure!(volumes.is_empty(), "volumes are left: {volumes}");
    Ok(())
}

#[test]
fn a_vm_lives_behind_runc_and_leaves_nothing() -> Result<()> {
    lives_and_leaves_nothing(RUNC)
}

#[test]
fn a_vm_lives_behind_crun_and_leaves_nothing() -> Result<()> {
    lives_and_leaves_nothing(CRUN)
}

#[test]
fn a_container_that_is_no_vm_passes_untouched() -> Result<()> {
    let host = host_behind(RUNC)?;
    let id = host.create(&["--name=plain"], IMAGE)?;
    host.start_container(&id)?;
    ensure!(
        host.exec(&id, "cat /proc/mounts")?.contains(" /data "),
        "its volume is there"
    );
    ensure!(
        host.exec(&id, "ls /")?
            .lines()
            .all(|name| name != "context"),
        "no mount point"
    );
    ensure!(records(&host)? == 1, "its runtime is recorded");
    // Another runtime for new containers does not change who acts on this one.
    host.engine
        .inside(|| Ok(fs::write("/etc/onedock/runtime", "/usr/bin/crun\n")?))?;
    for command in [
        &["pause"][..],
        &["unpause"],
        &["update", "--cpu-shares", "100"],
        &["top"],
    ] {
        let mut arguments = command.to_vec();
        arguments.push(id.as_str());
        host.engine.docker(&arguments)?;
    }
    host.engine.docker(&["rm", "-f", "-v", id.as_str()])?;
    ensure!(records(&host)? == 0, "a record is left");
    Ok(())
}

#[test]
fn twenty_vms_at_once_get_one_chain_and_all_their_nics() -> Result<()> {
    let host = host_behind(CRUN)?;
    let mut ids = Vec::new();
    for vm in 1..=20 {
        let id = host.create(&[&format!("--name=one-{vm}")], IMAGE)?;
        host.write_boot_spec(
            &id,
            &spec(vm, vec![nic(vm, 0, &format!("10.77.0.{}/24", 40 + vm))]),
        )?;
        ids.push(id);
    }
    std::thread::scope(|scope| {
        let host = &host;
        let start = |id| move || host.start_container(id);
        let threads: Vec<_> = ids.iter().map(|id| scope.spawn(start(id))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap().map(drop))
    })?;
    ensure!(links(&host)?.len() == 20, "{:?}", links(&host)?);
    ensure!(
        chain_jumps(&host, "iptables")? <= 1 && chain_jumps(&host, "ip6tables")? <= 1,
        "the chain is doubled"
    );
    for (id, vm) in ids.iter().zip(1..) {
        let address = format!("10.77.0.{}/24", 40 + vm);
        ensure!(
            host.exec(id, "ip addr show eth0")?.contains(&address),
            "{address}"
        );
    }
    let mut remove = vec!["rm", "-f", "-v"];
    remove.extend(ids.iter().map(ContainerId::as_str));
    host.engine.docker(&remove)?;
    ensure!(
        links(&host)?.is_empty() && records(&host)? == 0,
        "something is left"
    );
    Ok(())
}
