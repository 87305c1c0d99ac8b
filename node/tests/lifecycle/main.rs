//! The runtime under a real Docker Engine, from `docker create` to `docker rm`, in front of runc
//! and of crun.
#![allow(clippy::unwrap_used, reason = "fixed values of a test")]

mod bounds;
mod context;
mod first_process;
mod images;
mod killed;
mod life;
mod options;
mod refused;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use onedock_common::state::boot::{BootSpec, Nic};
use onedock_tests::test_host::{self, IMAGE, TestHost, boot_spec};

/// A host with a bridge, whose image has a volume.
fn host_behind(runtime: &str) -> Result<TestHost> {
    let host = TestHost::start(env!("CARGO_BIN_EXE_onedock-runtime"), runtime, &[])?;
    host.add_bridge()?;
    let changes = ["CMD [\"/bin/sleep\", \"1000\"]", "VOLUME /data"];
    host.engine.busybox(IMAGE, &changes)?;
    Ok(host)
}

fn nic(vm: u32, id: u32, address: &str) -> Nic {
    test_host::nic(vm, id, address).unwrap()
}

fn spec(vm: u32, nics: Vec<Nic>) -> BootSpec {
    BootSpec {
        nics,
        volumes: vec!["/data".into(), "/missing/volume".into()],
        ..boot_spec(vm).unwrap()
    }
}

/// The host ends of NICs.
fn links(host: &TestHost) -> Result<Vec<String>> {
    let text = host.engine.run("ip", &["-o", "link", "show"])?;
    let name = |line: &str| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned());
    Ok(text
        .lines()
        .filter_map(name)
        .filter(|name| name.starts_with("one-"))
        .collect())
}

/// How many containers the runtime has a record of.
fn records(host: &TestHost) -> Result<usize> {
    host.engine
        .inside(|| match fs::read_dir("/run/onedock/containers") {
            Ok(entries) => Ok(entries.count()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(e.into()),
        })
}

/// The page that a web server of a VM answers with.
fn answer(host: &TestHost, address: &str) -> Result<String> {
    let address = address.to_owned();
    host.engine.inside(move || {
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

/// How often bridged traffic jumps to the chain of OpenNebula, which is there at most once.
fn chain_jumps(host: &TestHost, tool: &str) -> Result<usize> {
    let rules = host.engine.run(tool, &["-S"])?;
    let jump = "-A FORWARD -m physdev --physdev-is-bridged -j opennebula";
    ensure!(rules.matches("-N opennebula").count() <= 1, "{rules}");
    ensure!(
        rules.matches("-A opennebula -j ACCEPT").count() <= 1,
        "{rules}"
    );
    Ok(rules.matches(jump).count())
}
