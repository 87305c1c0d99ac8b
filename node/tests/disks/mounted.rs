//! Disks with a file system: their contents, their owners, and that they grow.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use onedock_common::VmId;
use onedock_common::state::boot::DiskSource;
use onedock_node::request::Request;
use onedock_tests::test_host::{CRUN, RUNTIMES};
use onedock_tests::wait::wait_until;

use crate::host::{DiskHost, VM, device, disk, raw, read_only, run, tree};

#[test]
fn every_file_system_keeps_its_content_over_stop_and_start() -> Result<()> {
    for runtime in RUNTIMES {
        let host = DiskHost::behind(runtime, &[])?;
        let kinds = [
            ("ext2", 16),
            ("ext3", 32),
            ("ext4", 32),
            ("xfs", 300),
            ("btrfs", 120),
        ];
        let mut disks = Vec::new();
        for (id, (kind, mib)) in (1..).zip(kinds) {
            let path = host.formatted(kind, kind, mib, &[])?;
            disks.push(raw(id, &path, &format!("/srv/{kind}/data")));
        }
        let id = host.create(disks.clone())?;
        host.start_container(&id)?;
        let mounts = host.sh(&id, "cat /proc/mounts")?;
        for (disk, (kind, _)) in disks.iter().zip(kinds) {
            let line = format!("/dev/{} /srv/{kind}/data ", disk.device);
            let line = mounts
                .lines()
                .find(|l| l.starts_with(&line))
                .context(mounts.clone())?;
            ensure!(line.contains(" rw,nosuid,nodev,"), "{line}");
            host.sh(&id, &format!("cd /srv/{kind}/data && echo {kind} > a && mkdir d && chmod 711 d && chown 33:44 a"))?;
        }
        host.stop(&id)?;
        ensure!(host.in_use()?.is_empty(), "{:?}", host.in_use()?);
        let changes = host.engine.docker(&["diff", id.as_str()])?;
        ensure!(!changes.contains("/srv"), "{changes}");
        for (disk, _) in disks
            .iter()
            .zip(kinds)
            .filter(|(_, (kind, _))| kind.starts_with("ext"))
        {
            let DiskSource::Raw(path) = &disk.source else {
                bail!("raw")
            };
            run("e2fsck", &["-fn", path.to_str().unwrap()])?;
        }
        disks.push(read_only(raw(
            6,
            &host.formatted("ro", "ext4", 16, &[])?,
            "/srv",
        )));
        disks.rotate_right(1);
        host.set_disks(&id, disks)?;
        // A disk at /srv hides what the image has there, and can only be read: the others have no
        // place on it.
        let error = host.refused_start(&id)?;
        ensure!(
            error.contains("disk 1 (vdb): /srv/ext2/data in the container's root cannot be made"),
            "{error}"
        );
        host.nothing_left()?;
        let changes = host.engine.docker(&["diff", id.as_str()])?;
        ensure!(!changes.contains("/srv"), "{changes}");
        let disks = (1..)
            .zip(kinds)
            .map(|(id, (kind, _))| raw(id, &host.file(kind), &format!("/srv/{kind}/data")));
        host.set_disks(&id, disks.collect())?;
        wait_until("it does not start again", || {
            Ok(host.start_container(&id).is_ok())
        })?;
        for (kind, _) in kinds {
            let error = host.sh(
                &id,
                &format!("cd /srv/{kind}/data && cat a && busybox stat -c %a:%u:%g d a"),
            )?;
            ensure!(error == format!("{kind}\n711:0:0\n644:33:44"), "{error}");
        }
        host.remove(&id)?;
    }
    Ok(())
}

#[test]
fn a_disk_is_plugged_into_a_running_container_and_out_of_it_unless_in_use() -> Result<()> {
    for runtime in RUNTIMES {
        let host = DiskHost::behind(runtime, &[])?;
        let id = host.create(vec![])?;
        host.start_container(&id)?;
        let data = raw(
            1,
            &host.formatted("data", "ext4", 16, &[])?,
            "/media/disk.1",
        );
        host.plug(&id, &data)?;
        host.plug(&id, &data)?;
        host.sh(&id, "echo kept > /media/disk.1/a")?;
        ensure!(host.in_use()?.len() == 1, "{:?}", host.in_use()?);

        host.engine.docker(&[
            "exec",
            "-d",
            "-w",
            "/media/disk.1",
            id.as_str(),
            "/bin/sleep",
            "500",
        ])?;
        let mut error = String::new();
        wait_until("it is not in use", || {
            error = match host.unplug(&id, 1) {
                Ok(()) => {
                    host.plug(&id, &data)?;
                    String::new()
                }
                Err(e) => e.to_string(),
            };
            // Until the runtime's own process has become the command.
            Ok(error.contains(" by sleep "))
        })?;
        ensure!(
            error.starts_with("disk 1 (vdb): it is in use at /media/disk.1 by sleep (process "),
            "{error}"
        );
        ensure!(host.sh(&id, "cat /media/disk.1/a")? == "kept", "it is gone");
        host.sh(&id, "busybox killall sleep")?;
        wait_until("it is not let go", || Ok(host.unplug(&id, 1).is_ok()))?;
        host.unplug(&id, 1)?;
        ensure!(host.in_use()?.is_empty(), "{:?}", host.in_use()?);
        host.sh(&id, "! busybox test -e /media")?;
        host.plug(&id, &read_only(data.clone()))?;
        host.sh(
            &id,
            "busybox test -e /media/disk.1/a && ! touch /media/disk.1/b",
        )?;

        // Requests that are not about this container.
        let other = Request::PlugDisk {
            vm: VmId::new(VM + 1),
            container: id.clone(),
            disk: data.clone(),
        };
        let error = host.request(&other).unwrap_err().to_string();
        ensure!(error.contains("has no running container"), "{error}");
        let twice = raw(2, &host.file("data"), "/media/disk.1");
        let error = host.plug(&id, &twice).unwrap_err().to_string();
        ensure!(error.contains("of another disk"), "{error}");
        host.remove(&id)?;
    }
    Ok(())
}

#[test]
fn the_owners_on_a_disk_are_the_containers_under_userns_remap() -> Result<()> {
    for runtime in RUNTIMES {
        let host = DiskHost::behind(runtime, &["--userns-remap=default"])?;
        let kinds = [("ext4", 32), ("xfs", 300), ("btrfs", 120)];
        let mut disks = Vec::new();
        for (id, (kind, mib)) in (1..).zip(kinds) {
            disks.push(raw(
                id,
                &host.formatted(kind, kind, mib, &[])?,
                &format!("/srv/{kind}"),
            ));
        }
        disks.push(device(4, &host.formatted("device", "ext4", 16, &[])?));
        let tree = tree(&host, "tree:1")?;
        disks.push(disk(5, DiskSource::Tree(tree), Some("/srv/tree")));
        let cd = host.file("cd");
        fs::create_dir(&cd)?;
        host.belong_to(4321, 4322)?;
        disks.push(disk(6, DiskSource::Folder(cd), Some("/srv/cd")));
        let id = host.create(disks)?;
        host.start_container(&id)?;
        let pid = host
            .engine
            .docker(&["inspect", "-f", "{{.State.Pid}}", id.as_str()])?;
        let map = fs::read_to_string(format!("/proc/{pid}/uid_map"))?;
        ensure!(
            !map.trim_start().starts_with("0          0"),
            "no user namespace: {map}"
        );
        for place in ["/srv/ext4", "/srv/xfs", "/srv/btrfs", "/srv/tree/marks"] {
            let script = format!(
                "cd {place} && echo a > a && busybox chown 33:44 a && busybox stat -c %u:%g . a"
            );
            ensure!(host.sh(&id, &script)? == "0:0\n33:44", "{place}");
        }
        host.sh(&id, "busybox head -c 2048 /dev/vde > /dev/null && echo x | busybox dd of=/dev/vde conv=notrunc,fsync")?;
        ensure!(
            host.sh(&id, "busybox stat -c %u:%g:%F /dev/vde /srv")?
                == "0:0:block special file\n0:0:directory",
            "owner"
        );
        ensure!(
            host.sh(&id, "busybox stat -c %u:%g /srv/cd")? == "0:0",
            "owner of a folder"
        );
        for disk in (1..=6).rev() {
            host.unplug(&id, disk)?;
        }
        host.sh(&id, "! busybox test -e /dev/vde && ! busybox test -e /srv")?;
        host.remove(&id)?;
        // On the disk itself, they are as the container wrote them.
        let owners = run(
            "debugfs",
            &["-R", "stat a", host.file("ext4").to_str().unwrap()],
        )?;
        ensure!(owners.contains("User:    33   Group:    44"), "{owners}");
    }
    Ok(())
}

#[test]
fn a_running_vm_sees_a_disk_grow_and_one_that_grew_while_it_was_off() -> Result<()> {
    let host = DiskHost::behind(CRUN, &[])?;
    let xfs = host.formatted("xfs", "xfs", 300, &[])?;
    let btrfs = host.formatted("btrfs", "btrfs", 256, &[])?;
    let blank = host.blank("blank", 8)?;
    let ext4 = host.formatted("ext4", "ext4", 32, &[])?;
    let id = host.create(vec![
        raw(1, &xfs, "/srv/xfs"),
        raw(2, &btrfs, "/srv/btrfs"),
        device(3, &blank),
        raw(4, &ext4, "/srv/ext4"),
    ])?;
    host.start_container(&id)?;
    let sizes = || -> Result<Vec<u64>> {
        let script = "busybox df -m /srv/xfs /srv/btrfs | busybox awk 'NR>1 {print $2}'; busybox blockdev --getsize64 /dev/vdd";
        let text = host.sh(&id, script)?;
        text.lines().map(|line| Ok(line.parse()?)).collect()
    };
    let longer = |path: &Path, mib: u64| {
        Ok::<_, anyhow::Error>(
            fs::OpenOptions::new()
                .write(true)
                .open(path)?
                .set_len(mib << 20)?,
        )
    };
    longer(&xfs, 400)?;
    longer(&btrfs, 300)?;
    longer(&blank, 9)?;
    longer(&ext4, 64)?;
    for (disk, mib) in [(1, 400), (2, 300), (3, 9), (4, 64)] {
        host.grow(&id, disk, mib)?;
    }
    let now = sizes()?;
    ensure!(
        now[0] > 320 && now[1] == 300 && now[2] == 9 << 20,
        "{now:?}"
    );
    // A mounted ext4 asks for CAP_SYS_RESOURCE, which root has not everywhere; then it grows at the
    // next start.
    let capabilities = fs::read_to_string("/proc/self/status")?;
    let effective = capabilities
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:\t"))
        .context("CapEff")?;
    let may = u64::from_str_radix(effective, 16)? & 1 << 24 != 0;
    let of_ext4 = || -> Result<u64> {
        let script = "busybox df -m /srv/ext4 | busybox awk 'NR>1 {print $2}'";
        Ok(host.sh(&id, script)?.parse()?)
    };
    let size = of_ext4()?;
    ensure!((size > 40) == may, "{size} MiB");
    host.stop(&id)?;
    for path in [&xfs, &btrfs, &ext4] {
        longer(path, 500)?;
    }
    host.start_container(&id)?;
    let (now, size) = (sizes()?, of_ext4()?);
    ensure!(now[0] > 420 && now[1] == 500, "{now:?}");
    ensure!(size > 400, "{size} MiB");
    host.remove(&id)
}
