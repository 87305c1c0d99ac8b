//! What cannot be mounted.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use onedock_tests::test_host::{RUNC, RUNTIMES};
use onedock_tests::wait::wait_until;

use crate::host::{DiskHost, device, raw, read_only, run};

#[test]
fn what_cannot_be_mounted_is_a_device_or_one_clear_line() -> Result<()> {
    for runtime in RUNTIMES {
        let host = DiskHost::behind(runtime, &[])?;
        let swap = host.blank("swap", 4)?;
        run("mkswap", &[swap.to_str().unwrap()])?;
        // Signatures without what belongs to them.
        let broken = host.formatted("broken", "ext4", 16, &[])?;
        let mut file = fs::OpenOptions::new().write(true).open(&broken)?;
        // The descriptors of its groups.
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 1024], 2048)?;
        file.flush()?;
        let elsewhere = host.formatted("elsewhere", "ext4", 16, &["-O", "^metadata_csum"])?;
        let file = fs::OpenOptions::new().write(true).open(&elsewhere)?;
        // s_journal_dev: 8:1
        std::os::unix::fs::FileExt::write_all_at(&file, &0x801u32.to_le_bytes(), 1024 + 0xE4)?;
        let torn = host.formatted("torn", "xfs", 300, &[])?;
        fs::OpenOptions::new()
            .write(true)
            .open(&torn)?
            .set_len(100 << 20)?;
        let id = host.create(vec![
            raw(1, &swap, "/srv"),
            raw(2, &host.blank("nothing", 4)?, "/opt/x"),
        ])?;
        host.start_container(&id)?;
        host.sh(
            &id,
            "busybox test -b /dev/vdb && busybox test -b /dev/vdc && ! busybox test -e /opt",
        )?;
        host.stop(&id)?;
        for (disks, expected) in [
            (
                vec![raw(1, &swap, "/srv"), raw(2, &torn, "/opt")],
                "disk 2 (vdc): its xfs file system cannot be mounted (",
            ),
            (
                vec![raw(1, &broken, "/srv")],
                "disk 1 (vdb): its ext4 file system cannot be mounted (",
            ),
            (
                vec![raw(1, &elsewhere, "/srv")],
                "disk 1 (vdb): its file system keeps its journal on another device",
            ),
            (
                vec![raw(1, Path::new("/nowhere/disk.1"), "/srv")],
                "disk 1: there is no /nowhere/disk.1 on this host",
            ),
            (
                vec![raw(1, Path::new("/etc"), "/srv")],
                "disk 1 (vdb): /etc",
            ),
            (
                vec![raw(1, &swap, "/srv"), raw(2, &swap, "/srv")],
                "disk 2 has the number, TARGET or MOUNTPOINT of another disk",
            ),
            (
                vec![raw(1, &host.formatted("good", "ext4", 16, &[])?, "/bin/sh")],
                "/bin/sh in the image is a link or a file",
            ),
        ] {
            host.set_disks(&id, disks)?;
            let mut error = String::new();
            wait_until("the engine has not cleaned up", || {
                error = host.refused_start(&id)?;
                Ok(error.contains(expected))
            })
            .with_context(|| error.clone())?;
            ensure!(error.trim_end().lines().count() <= 2, "{error}");
            host.nothing_left()?;
        }
        // A journal that is not replayed stays so where the disk can only be read.
        host.set_disks(&id, vec![])?;
        wait_until("it does not start", || {
            Ok(host.start_container(&id).is_ok())
        })?;
        for (number, (kind, mib)) in (1..).zip([("ext4", 16), ("xfs", 300)]) {
            let path = host.formatted(&format!("clean-{kind}"), kind, mib, &[])?;
            let shown = raw(number, &path, "/srv/x");
            host.plug(&id, &shown)?;
            host.sh(&id, "echo a > /srv/x/a && busybox sync")?;
            let dirty = host.file(&format!("dirty-{kind}"));
            fs::copy(&path, &dirty)?;
            host.unplug(&id, number)?;
            host.plug(&id, &read_only(raw(number, &dirty, "/srv/x")))?;
            let mounts = host.sh(&id, "cat /proc/mounts")?;
            let line = mounts
                .lines()
                .find(|line| line.contains(" /srv/x "))
                .context("no mount")?;
            // Older kernels say noload for ext4.
            let unclean = line.contains("norecovery") || line.contains("noload");
            ensure!(unclean, "{line}");
            host.unplug(&id, number)?;
        }
        host.remove(&id)?;
    }
    Ok(())
}

#[test]
fn attack_a_link_in_the_image_leads_no_disk_over_the_root_or_the_kernels_file_systems() -> Result<()>
{
    let host = DiskHost::behind(RUNC, &[])?;
    let good = host.formatted("good", "ext4", 16, &[])?;
    let id = host.create(vec![])?;
    for (link, mount_point) in [
        ("/proc/1", "/srv/task"),
        ("/sys", "/srv/kernel"),
        ("/sys/fs/cgroup", "/srv/memory"),
        ("/dev", "/srv/new"),
        ("/dev/pts", "/srv"),
        ("/", "/srv"),
    ] {
        host.set_disks(&id, vec![])?;
        wait_until("it does not start", || {
            Ok(host.start_container(&id).is_ok())
        })?;
        host.sh(
            &id,
            &format!("busybox rm -rf /srv && busybox ln -s {link} /srv"),
        )?;
        let hot = host
            .plug(&id, &raw(1, &good, mount_point))
            .unwrap_err()
            .to_string();
        host.stop(&id)?;
        host.set_disks(&id, vec![raw(1, &good, mount_point)])?;
        let cold = host.refused_start(&id)?;
        for error in [hot, cold] {
            ensure!(
                error.contains("disk 1 (vdb)")
                    && (error.contains("a link in the image leads there")
                        || error.contains("is a link or a file")),
                "{link}: {error}"
            );
        }
        host.nothing_left()?;
    }
    host.remove(&id)
}

#[test]
fn a_disk_that_is_over_the_root_can_be_detached() -> Result<()> {
    let host = DiskHost::behind(RUNC, &[])?;
    let id = host.create(vec![])?;
    host.start_container(&id)?;
    host.plug(
        &id,
        &raw(1, &host.formatted("good", "ext4", 16, &[])?, "/srv/x"),
    )?;
    let pid = host
        .engine
        .docker(&["inspect", "-f", "{{.State.Pid}}", id.as_str()])?;
    let moved = [
        "-t",
        pid.trim(),
        "-m",
        "/bin/busybox",
        "mount",
        "-o",
        "move",
        "/srv/x",
        "/",
    ];
    host.engine.run("nsenter", &moved)?;
    host.unplug(&id, 1)?;
    host.stop(&id)?;
    host.remove(&id)?;
    host.nothing_left()
}

#[test]
fn attack_40_a_file_system_of_several_devices_is_refused_and_shown_as_a_device() -> Result<()> {
    let host = DiskHost::behind(RUNC, &[])?;
    let first = host.blank("first", 128)?;
    let second = host.blank("second", 128)?;
    let words = [&first, &second].map(|path| path.to_str().unwrap());
    run("mkfs.btrfs", &["-q", "-f", words[0], words[1]])?;
    let named = host.formatted("named", "ext4", 16, &[])?;
    run(
        "tune2fs",
        &[
            "-E",
            "mount_opts=journal_dev=0x801",
            named.to_str().unwrap(),
        ],
    )?;
    let id = host.create(vec![])?;
    host.start_container(&id)?;
    for (path, expected) in [
        (&first, "its btrfs has 2 devices"),
        (
            &named,
            "its file system keeps its journal on another device",
        ),
    ] {
        let error = host
            .plug(&id, &raw(1, path, "/srv/x"))
            .unwrap_err()
            .to_string();
        ensure!(
            error.contains(expected) && error.contains("DEVICE=YES"),
            "{error}"
        );
        host.plug(&id, &device(1, path))?;
        host.sh(&id, "busybox test -b /dev/vdb")?;
        host.unplug(&id, 1)?;
    }
    host.stop(&id)?;
    host.remove(&id)?;
    host.nothing_left()
}
