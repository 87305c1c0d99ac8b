//! Disks as block devices.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use onedock_common::disk_file::LoopBound;
use onedock_common::state::boot::DiskSource;
use onedock_tests::test_host::{RUNC, RUNTIMES};
use onedock_tests::wait::wait_until;

use crate::host::{DiskHost, device, disk, read_only, run};

const UUID: &str = "0f1e2d3c-4b5a-4678-9abc-def012345678";

#[test]
fn a_device_has_its_partitions_and_links_and_is_only_the_containers_own() -> Result<()> {
    for runtime in RUNTIMES {
        let host = DiskHost::behind(runtime, &[])?;
        let whole = host.formatted("whole", "ext4", 16, &["-L", "my data", "-U", UUID])?;
        let table = host.blank("table", 64)?;
        let mut sfdisk = Command::new("sfdisk")
            .arg("-q")
            .arg(&table)
            .stdin(Stdio::piped())
            .spawn()?;
        sfdisk
            .stdin
            .take()
            .unwrap()
            .write_all(b"label: gpt\nsize=8M\nsize=16M\n")?;
        ensure!(sfdisk.wait()?.success(), "sfdisk");
        let rom = read_only(device(3, &host.formatted("rom", "ext2", 4, &[])?));
        let id = host.create(vec![device(1, &whole), device(2, &table), rom])?;
        host.start_container(&id)?;
        let sizes = host.sh(&id, "for d in vdb vdc vdc1 vdc2 vdd; do busybox blockdev --getsize64 /dev/$d; done; busybox blockdev --getro /dev/vdd; busybox blockdev --getro /dev/vdb")?;
        let mib: Vec<String> = [16u64, 64, 8, 16, 4]
            .iter()
            .map(|mib| (mib << 20).to_string())
            .collect();
        ensure!(sizes == format!("{}\n1\n0", mib.join("\n")), "{sizes}");
        let links = host.sh(
            &id,
            "cd /dev/disk; for l in by-uuid/* by-label/*; do busybox readlink $l; done",
        )?;
        ensure!(
            links.lines().filter(|l| *l == "../../vdb").count() == 2,
            "{links}"
        );
        host.sh(
            &id,
            &format!("busybox test /dev/disk/by-uuid/{UUID} -ef /dev/vdb"),
        )?;
        host.sh(&id, r"busybox test -b '/dev/disk/by-label/my\x20data'")?;
        // What is written to a partition is in the file, at its place.
        host.sh(&id, "echo partition | busybox dd of=/dev/vdc2 conv=fsync")?;
        host.sh(&id, "! (echo x | busybox dd of=/dev/vdd conv=fsync)")?;
        // Others' loop devices are closed to it.
        host.sh(
            &id,
            "busybox mknod /tmp b 7 0; ! busybox dd if=/tmp of=/dev/null count=1",
        )?;

        // Its own are to be read and written, and nothing else: what they show is the host's.
        host.sh(
            &id,
            "! busybox losetup /dev/vdb && ! busybox losetup -d /dev/vdb && ! busybox losetup -c /dev/vdb && ! busybox losetup /dev/vde /bin/busybox",
        )?;

        // In use while a process has it open.
        host.engine.docker(&[
            "exec",
            "-d",
            id.as_str(),
            "/bin/busybox",
            "sh",
            "-c",
            "exec /bin/sleep 500 < /dev/vdc1",
        ])?;
        wait_until("it is not open", || {
            Ok(host.sh(&id, "busybox pidof sleep")?.contains(' '))
        })?;
        let error = host.unplug(&id, 2).unwrap_err().to_string();
        ensure!(
            error.starts_with("disk 2 (vdc): it is in use at /dev/vdc by "),
            "{error}"
        );
        host.sh(&id, "busybox test -b /dev/vdc1 && busybox killall sleep")?;
        wait_until("it is not let go", || Ok(host.unplug(&id, 2).is_ok()))?;
        host.sh(
            &id,
            "! busybox test -e /dev/vdc && ! busybox test -e /dev/vdc2 && busybox test -b /dev/vdb",
        )?;
        let bytes = fs::read(&table)?;
        ensure!(
            bytes.windows(10).any(|w| w == b"partition\n"),
            "not in the file"
        );
        host.unplug(&id, 1)?;
        host.unplug(&id, 3)?;
        host.sh(&id, "! busybox test -e /dev/disk")?;
        ensure!(host.in_use()?.is_empty(), "{:?}", host.in_use()?);
        // Plugged again, and the VM ends with it.
        host.plug(&id, &device(2, &table))?;
        ensure!(
            host.sh(&id, "busybox head -c 9 /dev/vdc2")? == "partition",
            "content"
        );
        host.stop(&id)?;
        host.nothing_left()?;
        host.start_container(&id)?;
        host.remove(&id)?;
    }
    Ok(())
}

/// A container that may open loop devices makes the kernel create them.
#[test]
fn attack_40_without_a_bound_of_the_loop_driver_no_disk_is_a_device() -> Result<()> {
    let host = DiskHost::behind(RUNC, &[])?;
    let allowed = Path::new("/etc/onedock/unbounded-loops");
    host.engine.inside(|| Ok(fs::remove_file(allowed)?))?;
    let whole = host.formatted("whole", "ext4", 16, &[])?;
    let mounted = host.formatted("mounted", "ext4", 16, &[])?;
    let mounted = disk(2, DiskSource::Raw(mounted), Some("/srv"));
    let id = host.create(vec![mounted.clone(), device(1, &whole)])?;
    if LoopBound::of_kernel() == Some(LoopBound::InForce) {
        return host.start_container(&id);
    }
    let reason = host.refused_start(&id)?;
    ensure!(reason.contains("no bound (max_loop)"), "{reason}");
    host.set_disks(&id, vec![mounted])?;
    host.start_container(&id)?;
    let open = "busybox mknod /tmp/x b 7 65536; ! busybox head -c 1 /tmp/x";
    host.sh(
        &id,
        &format!("busybox mkdir -p /tmp; busybox touch /srv/x && {open}"),
    )?;
    let refused = host.plug(&id, &device(3, &whole)).unwrap_err();
    ensure!(
        refused.to_string().contains("no bound (max_loop)"),
        "{refused}"
    );
    // A file that others can write allows nothing.
    host.stop(&id)?;
    host.set_disks(&id, vec![device(1, &whole)])?;
    host.engine.inside(|| {
        fs::write(allowed, "")?;
        Ok(fs::set_permissions(
            allowed,
            fs::Permissions::from_mode(0o666),
        )?)
    })?;
    let reason = host.refused_start(&id)?;
    ensure!(reason.contains("no bound (max_loop)"), "{reason}");
    let only_roots = fs::Permissions::from_mode(0o644);
    host.engine
        .inside(|| Ok(fs::set_permissions(allowed, only_roots)?))?;
    host.start_container(&id)?;
    host.remove(&id)
}

/// A program that a tenant's disk has taken over, in `blkid`'s place: what it finds is in its answer.
#[test]
fn attack_40_a_program_that_reads_a_disk_has_that_disk_and_no_rights() -> Result<()> {
    let host = DiskHost::behind(RUNC, &[])?;
    let whole = host.formatted("whole", "ext4", 16, &[])?;
    host.belong_to(4321, 4322)?;
    let program = host.file("program");
    fs::write(
        &program,
        "#!/bin/sh\n\
         disk=$(head -c 1082 /disk | tail -c 2 | od -An -tx1 | tr -d ' ')\n\
         root=$(ls / | grep -Evx 'bin|lib|lib64|sbin|usr' | tr '\\n' '-')\n\
         unshare -U true && namespace=made\n\
         echo ID_FS_TYPE=ext4\n\
         echo \"ID_FS_LABEL_ENC=$(id -u):$(id -g):$(id -G):$$:$disk:$root$namespace\"\n",
    )?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    host.engine.run(
        "sh",
        &[
            "-c",
            &format!("mount --bind {} $(command -v blkid)", program.display()),
        ],
    )?;
    let id = host.create(vec![device(1, &whole)])?;
    host.start_container(&id)?;
    let label = host.sh(&id, "cd /dev/disk/by-label && echo *")?;
    ensure!(
        label == "4321:4322:4322:1:53ef:dev-disk-etc-proc-",
        "{label}"
    );
    host.remove(&id)
}

#[test]
fn attack_no_device_node_is_made_in_a_dev_that_is_not_the_container_s_own() -> Result<()> {
    let host = DiskHost::behind(RUNC, &[])?;
    let blank = host.blank("blank", 4)?;
    let folder = host.engine.folder().join("dev");
    fs::create_dir(&folder)?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let device = Path::new("/dev").join(name);
        run(
            "cp",
            &["-a", device.to_str().unwrap(), folder.to_str().unwrap()],
        )?;
    }
    for dev in [Path::new("/dev"), &folder] {
        let bind = format!("{}:/dev", dev.display());
        let id = host.create_with(&["-v", &bind], vec![device(7, &blank)])?;
        let error = host.refused_start(&id);
        let made = host.engine.inside(|| {
            let node = dev.join("vdh");
            let made = fs::symlink_metadata(&node).is_ok();
            if made {
                fs::remove_file(node)?;
            }
            Ok(made)
        })?;
        let error = error?;
        ensure!(
            !made
                && error.contains("/dev")
                && error.contains("not a file system of the container's own"),
            "{error}"
        );
        host.nothing_left()?;
        host.remove(&id)?;
    }
    Ok(())
}
