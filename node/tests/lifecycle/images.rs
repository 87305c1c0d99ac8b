//! Images whose volumes, files and links are in the way of what the runtime mounts.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use onedock_tests::test_host::{CRUN, RUNTIMES};

use crate::{host_behind, nic, spec};

#[test]
fn a_volume_over_what_the_engine_mounts_and_over_the_context_hides_neither() -> Result<()> {
    for runtime in RUNTIMES {
        let host = host_behind(runtime)?;
        let volumes = [
            "/proc",
            "/sys",
            "/sys/fs/cgroup",
            "/dev/shm",
            "/dev/pts",
            "/mnt",
            "/context",
            "/data",
        ];
        let change = format!("VOLUME {volumes:?}");
        host.engine.busybox("volumes:1", &[&change])?;
        host.engine
            .busybox("file:1", &["VOLUME /etc/hosts", "VOLUME /etc/resolv.conf"])?;
        let context = host.engine.folder().join("context");
        fs::create_dir(&context)?;
        fs::write(context.join("context.sh"), "A='1'\n")?;

        let id = host.create(&["--entrypoint=x"], "volumes:1")?;
        let mut vm = spec(1, vec![nic(1, 0, "10.77.0.41/24")]);
        vm.context = Some(context);
        vm.volumes = volumes.map(PathBuf::from).to_vec();
        host.write_boot_spec(&id, &vm)?;
        for turn in ["started", "started again"] {
            host.engine
                .docker(&["restart", "-t", "0", id.as_str()])
                .with_context(|| turn.to_owned())?;
            let mounts = host.exec(&id, "cat /proc/mounts")?;
            for (path, kind) in [
                ("/proc", "proc"),
                ("/sys", "sysfs"),
                ("/dev/shm", "tmpfs"),
                ("/dev/pts", "devpts"),
            ] {
                let line = format!(" {path} {kind} ");
                ensure!(mounts.contains(&line), "{runtime}: no{line}in\n{mounts}");
            }
            ensure!(mounts.contains(" /sys/fs/cgroup"), "{mounts}");
            ensure!(!mounts.contains(" /data "), "{mounts}");
            let files = host.exec(&id, "cat /context/context.sh /mnt/context.sh")?;
            ensure!(files == "A='1'\nA='1'", "{files}");
            host.exec(&id, "/bin/busybox touch /data/file")?;
        }

        // The engine makes no volume at a file, unless something else is mounted there.
        let refused = host.create(&["--entrypoint=x"], "file:1").unwrap_err();
        ensure!(
            refused
                .to_string()
                .contains("cannot mount volume over existing file"),
            "{refused}"
        );
        let placeholders = [
            "--entrypoint=x",
            "--tmpfs=/etc/hosts",
            "--tmpfs=/etc/resolv.conf",
        ];
        let id = host.create(&placeholders, "file:1")?;
        let mut vm = spec(2, vec![nic(2, 0, "10.77.0.42/24")]);
        vm.volumes = vec!["/etc/hosts".into(), "/etc/resolv.conf".into()];
        vm.dns = vec!["10.77.0.1".parse()?];
        host.write_boot_spec(&id, &vm)?;
        host.start_container(&id)?;
        let files = host.exec(&id, "cat /etc/hosts /etc/resolv.conf")?;
        ensure!(
            files.contains("10.77.0.42\tweb2") && files.contains("nameserver 10.77.0.1"),
            "{files}"
        );
    }
    Ok(())
}

#[test]
fn an_image_with_odd_files_in_etc_starts_and_touches_nothing_outside() -> Result<()> {
    for runtime in RUNTIMES {
        let host = host_behind(runtime)?;
        let outside = host.engine.folder().join("outside");
        fs::create_dir(&outside)?;
        let outside_path = outside.display().to_string();
        let kinds: [(&str, &str, bool); 6] = [
            ("absent", "true", true),
            ("empty folder", "mkdir etc/F", true),
            ("folder", "mkdir -p etc/F/sub", false),
            ("link to nowhere", "ln -s /run/none/F etc/F", true),
            ("loop", "ln -s F etc/F", true),
            ("link outside", "ln -s OUTSIDE/F etc/F", true),
        ];
        for (at, (kind, command, own)) in (1..).zip(kinds) {
            let root = host.engine.busybox_root(&[])?;
            fs::create_dir(root.path().join("etc"))?;
            for file in ["hosts", "hostname", "resolv.conf"] {
                let command = command.replace('F', file).replace("OUTSIDE", &outside_path);
                let script = format!("cd {} && {command}", root.path().display());
                host.engine.run("/bin/sh", &["-c", &script])?;
            }
            let image = format!("odd:{at}");
            host.engine.import(&image, root.path(), &[])?;
            let id = host.create(&["--entrypoint=x"], &image)?;
            let mut vm = spec(at, vec![nic(at, 0, &format!("10.77.0.{}/24", 40 + at))]);
            vm.dns = vec!["10.77.0.1".parse()?];
            vm.args = ["/bin/busybox", "sleep", "100"].map(String::from).to_vec();
            host.write_boot_spec(&id, &vm)?;
            for _ in 0..2 {
                let restart = ["restart", "-t", "0", id.as_str()];
                host.engine
                    .docker(&restart)
                    .with_context(|| format!("{runtime}: {kind}"))?;
                let name = host.exec(&id, "/bin/busybox hostname")?;
                ensure!(name == format!("web{at}"), "{kind}: {name}");
                if own {
                    let command = "/bin/busybox cat /etc/hosts /etc/hostname /etc/resolv.conf";
                    let files = host.exec(&id, command)?;
                    let good = files.contains(&format!("\tweb{at}\nweb{at}\nnameserver"));
                    ensure!(good, "{runtime}: {kind}: {files}");
                } else {
                    host.exec(&id, "/bin/busybox ls -d /etc/hosts/sub")?;
                }
            }
            host.engine.docker(&["rm", "-f", "-v", id.as_str()])?;
        }
        ensure!(
            fs::read_dir(&outside)?.count() == 0,
            "something was made outside"
        );
    }
    Ok(())
}

/// The engine lays a folder over such a link of an image (moby's `initlayer`); what is in the container's
/// own layer lies above that.
#[test]
fn attack_26_a_root_whose_folders_of_the_kernel_are_links_is_not_started() -> Result<()> {
    let host = host_behind(CRUN)?;
    let outside = host.engine.folder().join("outside");
    fs::create_dir(&outside)?;
    let id = host.start_vm(&spec(1, vec![]))?;
    host.engine.docker(&["kill", id.as_str()])?;
    let upper = host.upper(&id)?;
    for name in ["dev", "proc", "sys"] {
        let place = upper.join(name);
        host.engine
            .inside(|| Ok(std::os::unix::fs::symlink(&outside, &place)?))?;
        let text = host.refused_start(&id)?;
        ensure!(
            text.contains(&format!("/{name} in the image is a link or a file")),
            "{text}"
        );
        host.engine.inside(|| Ok(fs::remove_file(&place)?))?;
    }
    host.start_container(&id)?;
    ensure!(
        fs::read_dir(&outside)?.count() == 0,
        "something was made outside"
    );
    Ok(())
}

#[test]
fn attack_26_an_image_whose_mount_points_are_links_does_not_lead_them_astray() -> Result<()> {
    let host = host_behind(CRUN)?;
    let outside = host.engine.folder().join("outside");
    fs::create_dir(&outside)?;
    let context = host.engine.folder().join("context");
    fs::create_dir(&context)?;
    for (image, link, started) in [("evil:1", "context", false), ("evil:2", "mnt", true)] {
        let root = host.engine.busybox_root(&[])?;
        std::os::unix::fs::symlink(&outside, root.path().join(link))?;
        host.engine.import(image, root.path(), &[])?;
        let id = host.create(&["--entrypoint=x"], image)?;
        let mut spec = spec(1, vec![]);
        spec.context = Some(context.clone());
        spec.args = ["/bin/busybox", "sleep", "100"].map(String::from).to_vec();
        host.write_boot_spec(&id, &spec)?;
        if started {
            host.start_container(&id)?;
            let mounts = host.exec(&id, "/bin/busybox cat /proc/mounts")?;
            ensure!(mounts.contains(" /context "), "{mounts}");
            ensure!(!mounts.contains(" /mnt "), "{mounts}");
        } else {
            let text = host.refused_start(&id)?;
            ensure!(
                text.contains("/context in the image is a link or a file"),
                "{text}"
            );
        }
        host.engine.docker(&["rm", "-f", id.as_str()])?;
    }
    ensure!(
        fs::read_dir(&outside)?.count() == 0,
        "something was made outside"
    );
    Ok(())
}
