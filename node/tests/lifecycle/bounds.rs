//! What a VM's processes may not do, seen from inside it, behind both runtimes.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Result, ensure};
use onedock_common::ContainerId;
use onedock_common::state::boot::BootSpec;
use onedock_tests::test_host::{IMAGE, RUNTIMES, TestHost};
use onedock_tests::wait::wait_until;

use crate::{host_behind, nic, spec};

/// The numbers of `socket` on this machine (`arch/*/include/.../unistd.h`), and of `io_uring_setup`.
const SOCKET: u32 = if cfg!(target_arch = "x86_64") {
    41
} else {
    198
};
const IO_URING_SETUP: u32 = 425;

/// What a shell in the VM prints.
fn sh(host: &TestHost, id: &ContainerId, script: &str) -> Result<String> {
    let output = host
        .engine
        .docker(&["exec", id.as_str(), "sh", "-c", script])?;
    Ok(output.trim().to_owned())
}

/// The error number of a system call that a process of the VM makes, with the host's perl.
fn call(host: &TestHost, id: &ContainerId, arguments: &str) -> Result<String> {
    let script = format!("$r = syscall({arguments}); print $r < 0 ? $! + 0 : \"done\"");
    sh(
        host,
        id,
        &format!("busybox chroot /host perl -e '{script}'"),
    )
}

#[test]
fn attack_34_a_vm_has_no_crypto_sockets_no_io_uring_no_core_dumps_and_sees_no_disks() -> Result<()>
{
    for runtime in RUNTIMES {
        let host = host_behind(runtime)?;
        let id = host.create(&["--name", "one-1", "-v", "/:/host:ro"], IMAGE)?;
        let vm = BootSpec {
            args: vec!["/bin/sleep".into(), "1000".into()],
            ..spec(1, Vec::new())
        };
        host.write_boot_spec(&id, &vm)?;
        host.start_container(&id)?;
        const EPERM: &str = "1";
        let (alg, inet) = (38_u64, 2_u64);
        for (arguments, expected) in [
            (format!("{SOCKET}, {alg}, 5, 0"), EPERM),
            // The kernel drops the upper half.
            (format!("{SOCKET}, {}, 5, 0", alg | 1 << 32), EPERM),
            (format!("{SOCKET}, {inet}, 1, 0"), "done"),
            (format!("{IO_URING_SETUP}, 1, 0"), EPERM),
        ] {
            let found = call(&host, &id, &arguments)?;
            ensure!(
                found == expected,
                "{runtime}: syscall({arguments}): {found}"
            );
        }
        let limits = sh(&host, &id, "busybox cat /proc/1/limits")?;
        let of = |kind: &str| -> Option<Vec<&str>> {
            let line = limits.lines().find_map(|line| line.strip_prefix(kind))?;
            Some(line.split_whitespace().take(2).collect())
        };
        ensure!(
            of("Max open files").is_some_and(|files| files[0] == "1024")
                && of("Max core file size") == Some(vec!["0", "0"]),
            "{runtime}: {limits}"
        );
        let seen = sh(
            &host,
            &id,
            "busybox ls /sys/devices/virtual/block /sys/fs/ext4 /sys/fs/xfs /sys/fs/btrfs 2>/dev/null | busybox grep -v -e : -e ^$; busybox cat /sys/block/loop*/loop/backing_file 2>/dev/null; true",
        )?;
        ensure!(seen.is_empty(), "{runtime}: {seen}");
    }
    Ok(())
}

/// A VM of this template, started, with a NIC.
fn started(host: &TestHost) -> Result<ContainerId> {
    let id = host.create(&["--name", "one-1"], IMAGE)?;
    let vm = BootSpec {
        args: vec!["/bin/sleep".into(), "1000".into()],
        ..spec(1, vec![nic(1, 0, "10.77.0.41/24")])
    };
    host.write_boot_spec(&id, &vm)?;
    host.start_container(&id)?;
    Ok(id)
}

#[test]
fn attack_33_the_usual_ways_out_of_a_vm_are_closed() -> Result<()> {
    for runtime in RUNTIMES {
        let host = host_behind(runtime)?;
        let id = started(&host)?;
        for way in [
            "mkdir -p /x; busybox mount -t tmpfs none /x",
            "mkdir -p /x; busybox mount -t proc none /x",
            "mkdir -p /x; busybox mount -o bind /bin /x",
            "mkdir -p /x; busybox mount -t cgroup -o memory none /x",
            "busybox mount -o remount,rw /proc/sys",
            "busybox umount /proc/kcore",
            "busybox unshare -m true",
            "busybox unshare -U true",
            "busybox nsenter -t 1 -m -p -n true && busybox nsenter -t 1 -u busybox hostname x",
            "busybox hostname x",
            "echo b >/proc/sysrq-trigger",
            "echo x >/proc/sys/kernel/core_pattern",
            "echo 1 >/proc/sys/vm/drop_caches",
            "echo /x >/sys/kernel/uevent_helper",
            "busybox head -c 1 /proc/kcore | busybox grep -q .",
            "busybox head -c 1 /proc/timer_list | busybox grep -q .",
            "busybox mknod /x-mem c 1 1 && busybox head -c 1 /x-mem",
            "busybox mknod /x-kmsg c 1 11 && echo x >/x-kmsg",
            "busybox mknod /x-disk b 254 0 && busybox head -c 1 /x-disk",
            "busybox mknod /x-fuse c 10 229 && busybox head -c 1 /x-fuse",
            "busybox insmod /bin/busybox",
            "busybox swapoff -a",
            "busybox date -s 2000-01-01; busybox test $(busybox date +%Y) = 2000",
            "busybox reboot -f",
            "busybox pivot_root / /bin",
            "echo 1 >/sys/fs/cgroup/memory/memory.force_empty",
            "busybox test -e /sys/fs/cgroup/cgroup.controllers && echo 1 >/sys/fs/cgroup/cgroup.procs",
            "echo 1 >/sys/fs/cgroup/memory/cgroup.procs",
            "echo x >/sys/fs/cgroup/memory/release_agent",
            "busybox ls /var/run/docker.sock /run/docker.sock",
            "busybox test -e /proc/1/root/etc/onedock",
        ] {
            let script = format!("({way}) >/dev/null 2>&1 && echo open || echo closed");
            let found = sh(&host, &id, &script)?;
            ensure!(found == "closed", "{runtime}: {way}");
        }
        // None of them has ended it.
        ensure!(host.is_running(&id)?, "{runtime}: it has ended");
    }
    Ok(())
}

#[test]
fn attack_29_and_48_a_vm_changes_no_interface_of_its_own() -> Result<()> {
    for runtime in RUNTIMES {
        let host = host_behind(runtime)?;
        let id = started(&host)?;
        for change in [
            "ip addr add 10.77.0.99/24 dev eth0",
            "ip link set eth0 address 02:00:0a:4d:00:63",
            "ip link set eth0 name one-2-0",
            "ip link set eth0 down",
            "ip link set eth0 mtu 9000",
            "ip route add default via 10.77.0.1",
            "ip link add x type dummy",
        ] {
            let script = format!("busybox {change} >/dev/null 2>&1 && echo changed || echo same");
            let found = sh(&host, &id, &script)?;
            ensure!(found == "same", "{runtime}: {change}");
        }
        let address = sh(&host, &id, "busybox ip -o -4 addr show dev eth0")?;
        ensure!(address.contains(" 10.77.0.41/24 "), "{runtime}: {address}");
    }
    Ok(())
}

/// Programs of the image in every place where a set-up could call one.
#[test]
fn attack_25_no_program_of_the_image_is_run_while_its_vm_is_set_up() -> Result<()> {
    const PROGRAMS: [&str; 9] = [
        "sh", "bash", "mount", "tar", "xz", "unpigz", "ip", "ldconfig", "hostname",
    ];
    for runtime in RUNTIMES {
        let host = host_behind(runtime)?;
        let id = host.create(&["--name", "one-1"], IMAGE)?;
        let program = host.engine.folder().join("trojan");
        fs::write(
            &program,
            "#!/bin/busybox sh\n: >/ran\nexec /bin/sleep 1000\n",
        )?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        for folder in ["bin", "sbin", "usr/bin", "usr/sbin"] {
            let made = host.engine.folder().join("programs").join(folder);
            fs::create_dir_all(&made)?;
            for name in PROGRAMS {
                fs::copy(&program, made.join(name))?;
            }
        }
        let from = host.engine.folder().join("programs/.");
        let to = format!("{id}:/");
        host.engine.docker(&["cp", from.to_str().unwrap(), &to])?;
        let vm = BootSpec {
            args: vec!["/bin/sleep".into(), "1000".into()],
            hostname: "web".parse()?,
            ..spec(1, vec![nic(1, 0, "10.77.0.41/24")])
        };
        host.write_boot_spec(&id, &vm)?;
        host.start_container(&id)?;
        let words = ["exec", id.as_str(), "/bin/busybox", "ls", "-A", "/"];
        let root = host.engine.docker(&words)?;
        ensure!(!root.lines().any(|name| name == "ran"), "{runtime}: {root}");
        // They would have said so.
        host.engine
            .docker(&["exec", "-d", id.as_str(), "/bin/tar"])?;
        wait_until("the trojan has not run", || {
            let root = host.engine.docker(&words)?;
            Ok(root.lines().any(|name| name == "ran"))
        })?;
    }
    Ok(())
}
