//! The first process: without a command, at a terminal, and signals to it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use onedock_common::engine::{Docker, Engine, Watched};
use onedock_common::state::boot::FirstProcess;
use onedock_tests::test_host::{IMAGE, RUNC, RUNTIMES};
use onedock_tests::wait::wait_until;

use crate::{host_behind, links, nic, spec};

#[test]
fn an_image_without_a_command_lives_and_stops_at_once() -> Result<()> {
    for runtime in RUNTIMES {
        let host = host_behind(runtime)?;
        let mut idle = spec(1, vec![nic(1, 0, "10.77.0.41/24")]);
        idle.first = FirstProcess::KeepAlive;
        idle.args.clear();
        let id = host.start_vm(&idle)?;
        // An orphan of an exec is reaped.
        host.exec(&id, "/bin/sh -c (sleep$IFS0.2&)")?;
        let begin = Instant::now();
        while host.exec(&id, "ps")?.matches("sleep").count() > 0 {
            ensure!(
                begin.elapsed() < Duration::from_secs(5),
                "{}",
                host.exec(&id, "ps")?
            );
        }
        for signal in ["TERM", "INT", "RTMIN+3", "USR1"] {
            let begin = Instant::now();
            host.engine.docker(&["kill", "-s", signal, id.as_str()])?;
            let code = host.engine.docker(&["wait", id.as_str()])?;
            ensure!(
                code == "0" && begin.elapsed() < Duration::from_secs(3),
                "{signal}: {code}"
            );
            host.start_container(&id)?;
        }
        let begin = Instant::now();
        host.engine.docker(&["stop", id.as_str()])?;
        ensure!(
            begin.elapsed() < Duration::from_secs(3),
            "the stop was slow"
        );
        ensure!(links(&host)?.is_empty(), "links are left");
        ensure!(
            host.engine
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
    for runtime in RUNTIMES {
        let host = host_behind(runtime)?;
        let mut ids = Vec::new();
        for (vm, args) in (1..).zip(lives) {
            let id = host.create(&["--tty", "--interactive"], IMAGE)?;
            let mut spec = spec(vm, vec![]);
            spec.args = args.iter().map(|a| (*a).to_owned()).collect();
            host.write_boot_spec(&id, &spec)?;
            host.start_container(&id)?;
            ids.push(id);
        }
        // The same without a terminal ends at once, which shows that it is waited long enough.
        let id = host.create(&["--name=piped"], IMAGE)?;
        let mut piped = spec(100, vec![]);
        piped.args = vec!["sh".into()];
        host.write_boot_spec(&id, &piped)?;
        host.start_container(&id)?;
        wait_until("a shell without a terminal has no end", || {
            Ok(!host.is_running(&id)?)
        })?;
        onedock_common::wait::pause(Duration::from_millis(300));
        for (id, args) in ids.iter().zip(lives) {
            ensure!(host.is_running(id)?, "{runtime}: {args:?} has ended");
            host.engine.docker(&["restart", "-t", "0", id.as_str()])?;
        }
        onedock_common::wait::pause(Duration::from_millis(500));
        for (id, args) in ids.iter().zip(lives) {
            ensure!(host.is_running(id)?, "{runtime}: {args:?} after a restart");
        }
        let terminal = host.exec(&ids[0], "ls -l /proc/1/fd/0 /dev/console")?;
        ensure!(terminal.contains("-> /dev/pts/0"), "{terminal}");
    }
    Ok(())
}

#[test]
fn what_a_command_at_a_terminal_wrote_last_is_read_as_plain_lines() -> Result<()> {
    let host = host_behind(RUNC)?;
    let id = host.create(&["--tty", "--interactive"], IMAGE)?;
    let mut spec = spec(1, vec![]);
    let script =
        "printf '\\033[31mno configuration\\033[0m\\n' >&2; echo; printf 'gives up'; exit 3";
    spec.args = ["/bin/sh", "-c", script].map(String::from).to_vec();
    host.write_boot_spec(&id, &spec)?;
    let docker = Docker::at(host.engine.socket())?;
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
fn a_stop_signal_right_after_the_start_is_never_lost() -> Result<()> {
    for runtime in RUNTIMES {
        let host = host_behind(runtime)?;
        let mut idle = spec(1, Vec::new());
        idle.first = FirstProcess::KeepAlive;
        idle.args.clear();
        let id = host.start_vm(&idle)?;
        let kill = format!("POST /containers/{id}/kill?signal=TERM HTTP/1.0\r\n\r\n");
        let start = format!("POST /containers/{id}/start HTTP/1.0\r\n\r\n");
        let wait = format!("POST /containers/{id}/wait HTTP/1.0\r\n\r\n");
        // Straight to the socket: a client's start would take longer than the moment that is tested.
        let ask = |request: &str| -> Result<String> {
            let mut stream = UnixStream::connect(host.engine.socket())?;
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
