//! Disks in qcow2 files, which a daemon exports.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use onedock_common::state::boot::DiskSource;
use onedock_common::{DiskId, VmId};
use onedock_node::request::Request;
use onedock_tests::test_host::RUNTIMES;
use onedock_tests::wait::wait_until;

use crate::host::{DiskHost, VM, device, disk, run};

#[test]
fn a_qcow2_disk_keeps_its_content_and_its_daemon_ends_with_it() -> Result<()> {
    for runtime in RUNTIMES {
        let host = DiskHost::behind(runtime, &[])?;
        let plain = host.formatted("plain", "btrfs", 120, &[])?;
        let image = host.file("image");
        let convert = [
            "convert",
            "-O",
            "qcow2",
            plain.to_str().unwrap(),
            image.to_str().unwrap(),
        ];
        run("qemu-img", &convert)?;
        let shown = disk(1, DiskSource::Qcow2(image.clone()), Some("/srv"));
        let mut empty = shown.clone();
        empty.id = DiskId::new(2);
        empty.device = "vdc".parse()?;
        empty.mount = None;
        empty.source = DiskSource::Qcow2(host.file("empty"));
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-f",
                "qcow2",
                host.file("empty").to_str().unwrap(),
                "32M",
            ],
        )?;
        let id = host.create(vec![shown.clone()])?;
        host.start_container(&id)?;
        host.plug(&id, &empty)?;
        host.sh(
            &id,
            "busybox seq 1 400000 > /srv/numbers && echo raw | busybox dd of=/dev/vdc conv=fsync",
        )?;
        ensure!(host.has_daemon(), "no daemon");
        host.grow(&id, 1, 300)?;
        let size = host.sh(&id, "busybox df -m /srv | busybox awk 'END {print $2}'")?;
        ensure!(size.parse::<u32>()? == 300, "{size}");
        host.grow(&id, 2, 48)?;
        let size = host.sh(&id, "busybox blockdev --getsize64 /dev/vdc")?;
        ensure!(size == (48u64 << 20).to_string(), "{size}");
        host.request(&Request::SyncDisk {
            vm: VmId::new(VM),
            container: id.clone(),
            disk: DiskId::new(1),
        })?;
        let sum = host.sh(&id, "busybox md5sum /srv/numbers")?;
        host.unplug(&id, 2)?;
        host.stop(&id)?;
        host.nothing_left()?;
        let check = run(
            "qemu-img",
            &["check", "-f", "qcow2", image.to_str().unwrap()],
        )?;
        ensure!(check.contains("No errors"), "{check}");
        host.start_container(&id)?;
        ensure!(
            host.sh(&id, "busybox md5sum /srv/numbers")? == sum,
            "content"
        );
        host.plug(&id, &empty)?;
        ensure!(
            host.sh(&id, "busybox head -c 3 /dev/vdc")? == "raw",
            "content"
        );
        host.remove(&id)?;

        // A header of a damaged image, and one that leads to another file.
        let evil = disk(1, DiskSource::Qcow2(host.file("evil")), None);
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-f",
                "qcow2",
                host.file("evil").to_str().unwrap(),
                "1M",
            ],
        )?;
        let damaged = File::options().write(true).open(host.file("evil"))?;
        damaged.write_all_at(&[2], 79)?;
        let id = host.create(vec![evil.clone()])?;
        let reason = host.refused_start(&id)?;
        ensure!(reason.contains("marked as damaged"), "{reason}");
        host.remove(&id)?;
        let arguments = [
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            "/etc/passwd",
        ];
        run(
            "qemu-img",
            &[&arguments[..], &[host.file("evil").to_str().unwrap(), "1M"]].concat(),
        )?;
        let id = host.create(vec![evil])?;
        let reason = host.refused_start(&id)?;
        ensure!(reason.contains("backing file"), "{reason}");
        // A raw file in which a tenant has laid such a header is what it is: raw.
        let raw = device(1, &host.file("evil"));
        host.set_disks(&id, vec![raw])?;
        wait_until("it does not start", || {
            Ok(host.start_container(&id).is_ok())
        })?;
        ensure!(
            host.sh(&id, "busybox head -c 3 /dev/vdb")? == "QFI",
            "it was read as qcow2"
        );
        host.remove(&id)?;
    }
    Ok(())
}

/// Whoever takes the daemon over by a qcow2 has that file, and nothing else of the host.
#[test]
fn attack_40_the_daemon_of_a_qcow2_has_no_rights_and_sees_nothing_of_the_host() -> Result<()> {
    for runtime in RUNTIMES {
        let host = DiskHost::behind(runtime, &[])?;
        let image = host.file("image");
        let path = image.to_str().unwrap();
        run("qemu-img", &["create", "-q", "-f", "qcow2", path, "32M"])?;
        host.belong_to(4321, 4322)?;
        let shown = disk(1, DiskSource::Qcow2(image.clone()), None);
        let id = host.create(vec![shown])?;
        host.start_container(&id)?;
        let words = "echo raw | busybox dd of=/dev/vdb conv=fsync && busybox head -c 3 /dev/vdb";
        ensure!(host.sh(&id, words)? == "raw", "content");
        let daemon = PathBuf::from("/proc").join(host.daemon().context("no daemon")?);
        let status = fs::read_to_string(daemon.join("status"))?;
        for line in [
            "Uid:\t4321\t4321\t4321\t4321",
            "Gid:\t4322\t4322\t4322\t4322",
            "Groups:\t ",
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            ensure!(
                status.lines().any(|found| found == line),
                "{line:?}: {status}"
            );
        }
        // Process 1 of its own namespace.
        let numbers = status.lines().find(|line| line.starts_with("NSpid:"));
        ensure!(
            numbers.is_some_and(|line| line.ends_with("\t1")),
            "{numbers:?}"
        );
        for kind in ["mnt", "pid", "net", "ipc", "uts"] {
            let of = |process: &Path| fs::read_link(process.join("ns").join(kind));
            ensure!(of(&daemon)? != of(Path::new("/proc/self"))?, "{kind}");
        }
        let mut seen: Vec<_> = fs::read_dir(daemon.join("root"))?
            .map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()))
            .collect::<Result<_>>()?;
        seen.retain(|name| !["bin", "lib", "lib64", "sbin", "usr"].contains(&&**name));
        seen.sort();
        ensure!(
            seen == ["dev", "disk", "etc", "export", "monitor", "proc"],
            "{seen:?}"
        );
        host.remove(&id)?;
        host.nothing_left()?;
    }
    Ok(())
}

/// A daemon that is stopped answers nobody: the processes of the VM wait for it and cannot be killed.
#[test]
fn fault_60_a_vm_whose_disk_hangs_is_ended_with_the_daemon_of_the_disk() -> Result<()> {
    for runtime in RUNTIMES {
        let host = DiskHost::behind(runtime, &[])?;
        let plain = host.formatted("plain", "ext4", 64, &[])?;
        let image = host.file("image");
        let paths = [&plain, &image].map(|path| path.to_str().unwrap());
        run("qemu-img", &["convert", "-O", "qcow2", paths[0], paths[1]])?;
        let id = host.create(vec![disk(1, DiskSource::Qcow2(image), Some("/srv"))])?;
        host.start_container(&id)?;
        let daemon = host.daemon().context("no daemon")?;
        host.engine.run("kill", &["-STOP", &daemon])?;
        // It waits for the disk from now on.
        let words = [
            "exec",
            "-d",
            id.as_str(),
            "sh",
            "-c",
            "busybox dd if=/dev/zero of=/srv/x bs=1M count=32 conv=fsync",
        ];
        host.engine.docker(&words)?;
        // The engine may not see it end.
        host.engine.output("docker", &["kill", id.as_str()])?;
        host.request(&Request::Settle {
            vm: VmId::new(VM),
            container: id.clone(),
        })?;
        wait_until("the engine has not seen its end", || {
            host.engine.output("docker", &["kill", id.as_str()])?;
            Ok(!host.is_running(&id)?)
        })?;
        ensure!(!host.has_daemon(), "the daemon lives on");
        host.nothing_left()?;
        host.remove(&id)?;
    }
    Ok(())
}
