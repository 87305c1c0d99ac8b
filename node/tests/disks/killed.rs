//! Helpers and runtimes that are killed at any moment.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use onedock_common::VmId;
use onedock_common::state::boot::{Disk, DiskSource};
use onedock_node::request::Request;
use onedock_tests::test_host::CRUN;
use onedock_tests::wait::wait_until;

use crate::host::{DiskHost, VM, device, disk, raw, run};

#[test]
fn a_helper_that_is_killed_at_any_moment_leaves_nothing_and_the_next_call_converges() -> Result<()>
{
    let host = DiskHost::behind(CRUN, &[])?;
    let id = host.create(vec![])?;
    host.start_container(&id)?;
    let plain = host.formatted("plain", "ext4", 16, &[])?;
    let image = host.file("image");
    run(
        "qemu-img",
        &[
            "convert",
            "-O",
            "qcow2",
            plain.to_str().unwrap(),
            image.to_str().unwrap(),
        ],
    )?;
    let disks = [
        raw(1, &plain, "/srv/a"),
        disk(2, DiskSource::Qcow2(image), Some("/srv/b")),
        device(3, &host.formatted("device", "ext4", 16, &[])?),
    ];
    let started = |disk: &Disk| -> Result<std::process::Child> {
        let request = Request::PlugDisk {
            vm: VmId::new(VM),
            container: id.clone(),
            disk: disk.clone(),
        };
        let text = serde_json::to_vec(&request)?;
        host.engine.inside(|| {
            let mut child = Command::new(env!("CARGO_BIN_EXE_onedock-node"))
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            child.stdin.take().unwrap().write_all(&text)?;
            Ok(child)
        })
    };
    for disk in &disks {
        let begin = Instant::now();
        ensure!(started(disk)?.wait()?.success(), "plug");
        let whole = begin.elapsed();
        for step in 0..8 {
            host.unplug(&id, disk.id.get())?;
            let mut child = started(disk)?;
            let begin = Instant::now();
            while begin.elapsed() < whole * step / 8 {
                std::thread::yield_now();
            }
            child.kill()?;
            child.wait()?;
            if step == 7 {
                continue;
            }
            host.plug(&id, disk)
                .with_context(|| format!("after {step}/8"))?;
        }
    }
    // The last of each was killed and not mended.
    host.remove(&id).context("killed helpers")?;
    // A whole VM is killed with its runtime's call.
    let id = host.create(disks.to_vec())?;
    for step in 1..5 {
        host.host
            .start_killed(&id, Duration::from_millis(15 * step))?;
        // What the driver does with a VM that is to be off.
        let _ = host.engine.output("docker", &["kill", id.as_str()])?;
        host.stop(&id).with_context(|| format!("step {step}"))?;
        wait_until("something is in use", || Ok(host.in_use()?.is_empty()))
            .with_context(|| format!("step {step}: {:?}", host.in_use()))?;
    }
    host.remove(&id)
}
