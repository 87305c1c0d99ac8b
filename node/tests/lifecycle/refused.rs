//! Starts that fail: the reason on one line, and nothing left.

use std::fs;

use anyhow::{Context, Result, ensure};
use onedock_common::state::boot::BootSpec;
use onedock_tests::test_host::{BRIDGE, IMAGE, RUNTIMES, TestHost};
use onedock_tests::wait::wait_until;

use crate::{host_behind, links, nic, records, spec};

#[test]
fn a_start_that_fails_says_why_on_one_line_and_leaves_nothing() -> Result<()> {
    for runtime in RUNTIMES {
        fails_clearly(&host_behind(runtime)?).with_context(|| runtime.to_owned())?;
    }
    Ok(())
}

fn fails_clearly(host: &TestHost) -> Result<()> {
    let engine = &host.engine;
    let id = host.create(&["--name=one-1"], IMAGE)?;
    let check = |name: &str, spec: &BootSpec, expected: &str| -> Result<()> {
        host.write_boot_spec(&id, spec)?;
        let text = host.refused_start(&id)?;
        ensure!(text.contains(expected), "{name}: no {expected:?} in {text}");
        ensure!(text.trim_end().lines().count() <= 2, "{name}: {text}");
        let links: Vec<String> = links(host)?
            .into_iter()
            .filter(|l| l.starts_with("one-1-"))
            .collect();
        ensure!(links.is_empty(), "{name}: {links:?} left");
        ensure!(records(host)? == 0, "{name}: a record is left");
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

    // A checkpoint cannot be restored yet; the reason is where the engine reads it.
    host.write_boot_spec(&id, &good)?;
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
    host.write_boot_spec(&id, &good)?;
    host.start_container(&id)?;
    ensure!(
        host.exec(&id, "ip addr")?.contains("10.77.0.41/24"),
        "not plugged"
    );
    engine.docker(&["rm", "-f", id.as_str()])?;
    ensure!(links(host)?.is_empty(), "links are left");
    Ok(())
}

#[test]
fn fault_50_a_full_bridge_refuses_the_start_and_the_next_start_works() -> Result<()> {
    for runtime in RUNTIMES {
        let host = host_behind(runtime)?;
        let engine = &host.engine;
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
        let id = host.create(&["--name=one-1"], IMAGE)?;
        let mut spec = spec(1, vec![nic(1, 0, "10.77.0.41/24")]);
        spec.context = Some(context);
        host.write_boot_spec(&id, &spec)?;
        let text = host.refused_start(&id)?;
        ensure!(
            text.contains(&format!("bridge {BRIDGE} has no free port for NIC 0")),
            "{text}"
        );
        wait_until("a record is left", || Ok(records(&host)? == 0))?;
        ensure!(links(&host)?.is_empty(), "links are left");
        let changes = engine.docker(&["diff", id.as_str()])?;
        ensure!(
            !changes.contains("context"),
            "a mount point is left: {changes}"
        );
        let running = engine.docker(&["inspect", "-f", "{{.State.Status}}", id.as_str()])?;
        ensure!(running != "running", "{running}");

        engine.run("ip", &["link", "set", "p0", "nomaster"])?;
        wait_until("it does not start again", || {
            Ok(engine
                .output("docker", &["start", id.as_str()])?
                .status
                .success())
        })?;
        ensure!(
            host.exec(&id, "ip addr")?.contains("10.77.0.41/24"),
            "not plugged"
        );
        engine.docker(&["rm", "-f", "-v", id.as_str()])?;
        ensure!(
            links(&host)?.is_empty() && records(&host)? == 0,
            "something is left"
        );
    }
    Ok(())
}
