//! What a VM's processes may not do, seen from inside it, behind both runtimes.

use anyhow::{Result, ensure};
use onedock_common::ContainerId;
use onedock_common::state::boot::BootSpec;
use onedock_tests::test_host::{IMAGE, RUNTIMES, TestHost};

use crate::{host_behind, spec};

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
