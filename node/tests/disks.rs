//! Disks of a VM under a real Docker Engine, in front of runc and of crun: their contents, what
//! is refused, and that nothing is left.
#![allow(clippy::unwrap_used, reason = "fixed values of a test")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use onedock_common::state::boot::{BootSpec, Disk, DiskSource, FirstProcess, VERSION, boot_id};
use onedock_common::state::paths::Paths;
use onedock_common::{ContainerId, DiskId, VmId};
use onedock_node::request::Request;
use onedock_tests::engine_server::{Options, PrivateEngine};

const RUNTIMES: [&str; 2] = ["/usr/sbin/runc", "/usr/bin/crun"];
/// The VM of all tests: each has an engine of its own.
const VM: u32 = 41;

struct Node {
    engine: PrivateEngine,
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

impl Node {
    fn behind(runtime: &str, arguments: &[&str]) -> Result<Self> {
        let engine = PrivateEngine::start(Options {
            runtime: Some(env!("CARGO_BIN_EXE_onedock-runtime").into()),
            behind: Some(runtime.into()),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
        })?;
        engine.busybox("box:1", &["CMD [\"/bin/sleep\", \"1000\"]"])?;
        Ok(Self { engine })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.engine.folder().join(format!("{name}.file"))
    }

    /// An empty file of so many MiB.
    fn blank(&self, name: &str, mib: u64) -> Result<PathBuf> {
        let path = self.file(name);
        fs::File::create(&path)?.set_len(mib << 20)?;
        Ok(path)
    }

    /// A file with a file system.
    fn formatted(&self, name: &str, kind: &str, mib: u64, options: &[&str]) -> Result<PathBuf> {
        let path = self.blank(name, mib)?;
        let mut arguments = options.to_vec();
        arguments.push(path.to_str().unwrap());
        run(&format!("mkfs.{kind}"), &arguments)?;
        Ok(path)
    }

    fn create(&self, disks: Vec<Disk>) -> Result<ContainerId> {
        self.create_with(&[], disks)
    }

    fn create_with(&self, options: &[&str], disks: Vec<Disk>) -> Result<ContainerId> {
        let mut arguments = vec!["create", "--network", "none", "--runtime", "onedock"];
        arguments.extend(options);
        arguments.push("box:1");
        let id: ContainerId = self.engine.docker(&arguments)?.parse()?;
        self.boot(&id, disks)?;
        Ok(id)
    }

    fn boot(&self, id: &ContainerId, disks: Vec<Disk>) -> Result<()> {
        let spec = BootSpec {
            version: VERSION,
            vm: VmId::new(VM),
            boot_id: boot_id()?,
            hostname: "disks".parse()?,
            args: vec!["/bin/sleep".into(), "1000".into()],
            first: FirstProcess::Command,
            nics: vec![],
            dns: vec![],
            search: vec![],
            context: None,
            volumes: vec![],
            disks,
        };
        self.engine.inside(|| Ok(spec.write(&Paths::system(), id)?))
    }

    fn start(&self, id: &ContainerId) -> Result<()> {
        self.engine.docker(&["start", id.as_str()]).map(drop)
    }

    fn stop(&self, id: &ContainerId) -> Result<()> {
        self.engine.docker(&["stop", "-t", "0", id.as_str()])?;
        self.ask(&Request::SettleDisks {
            vm: VmId::new(VM),
            container: id.clone(),
        })
    }

    fn refused(&self, id: &ContainerId) -> Result<String> {
        let output = self.engine.output("docker", &["start", id.as_str()])?;
        ensure!(!output.status.success(), "the start was not refused");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn sh(&self, id: &ContainerId, script: &str) -> Result<String> {
        self.engine
            .docker(&["exec", id.as_str(), "/bin/busybox", "sh", "-c", script])
    }

    /// Asks root's program; its error is its one line.
    fn ask(&self, request: &Request) -> Result<()> {
        let text = serde_json::to_vec(request)?;
        self.engine.inside(|| {
            let mut child = Command::new(env!("CARGO_BIN_EXE_onedock-node"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            child.stdin.take().unwrap().write_all(&text)?;
            let output = child.wait_with_output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            if !output.status.success() {
                ensure!(said.lines().count() == 1, "{said}");
                bail!("{}", said.trim());
            }
            ensure!(output.stdout.starts_with(b"{\"done\":true"), "{output:?}");
            Ok(())
        })
    }

    fn plug(&self, id: &ContainerId, disk: &Disk) -> Result<()> {
        self.ask(&Request::PlugDisk {
            vm: VmId::new(VM),
            container: id.clone(),
            disk: disk.clone(),
        })
    }

    fn unplug(&self, id: &ContainerId, disk: u32) -> Result<()> {
        self.ask(&Request::UnplugDisk {
            vm: VmId::new(VM),
            container: id.clone(),
            disk: DiskId::new(disk),
        })
    }

    fn grow(&self, id: &ContainerId, disk: u32, size_mib: u64) -> Result<()> {
        self.ask(&Request::GrowDisk {
            vm: VmId::new(VM),
            container: id.clone(),
            disk: DiskId::new(disk),
            size_mib,
        })
    }

    /// What still has a file of this engine: loop devices, daemons; and mounts on the host.
    fn in_use(&self) -> Result<Vec<String>> {
        let folder = self.engine.folder().display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/sys/block")? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let file = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file"));
            let file = file.unwrap_or_default();
            if file.contains(&folder) || (file.trim() == "/export" && self.served()) {
                found.push(format!("{name} has {}", file.trim()));
            }
        }
        for mount in self
            .engine
            .inside(|| Ok(fs::read_to_string("/proc/thread-self/mounts")?))?
            .lines()
        {
            if mount.contains("/dev/loop")
                || mount.contains(" fuse ")
                || mount.starts_with("/dev/vd") && mount.contains("nosuid,nodev")
            {
                found.push(format!("mounted: {mount}"));
            }
        }
        if self.served() {
            found.push("a daemon".into());
        }
        Ok(found)
    }

    /// Whether a daemon runs that serves a file of this engine's folder.
    fn served(&self) -> bool {
        let folder = self.engine.folder().display().to_string();
        fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains("qemu-storage-daemon")
                && fs::read_to_string(entry.path().join("mountinfo"))
                    .is_ok_and(|mounts| mounts.contains(&folder))
        })
    }

    fn nothing_left(&self) -> Result<()> {
        soon("something is in use", || Ok(self.in_use()?.is_empty()))
            .with_context(|| format!("{:?}", self.in_use()))?;
        let left = self.engine.inside(|| {
            let mut left = Vec::new();
            for folder in ["containers", "slots", "disks"] {
                let folder = Path::new("/run/onedock").join(folder);
                for entry in fs::read_dir(folder).into_iter().flatten() {
                    left.push(entry?.path());
                }
            }
            Ok(left)
        })?;
        let log = self.engine.log();
        let said: Vec<&str> = log.lines().rev().take(12).collect();
        ensure!(left.is_empty(), "{left:?}: {said:#?}");
        Ok(())
    }

    fn remove(&self, id: &ContainerId) -> Result<()> {
        self.engine.docker(&["rm", "-f", "-v", id.as_str()])?;
        self.nothing_left()
    }
}

fn soon(what: &str, mut question: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !question()? {
        ensure!(begin.elapsed() < Duration::from_secs(10), "{what}");
    }
    Ok(())
}

fn disk(id: u32, source: DiskSource, mount: Option<&str>) -> Disk {
    let letter = char::from(b'a' + u8::try_from(id).unwrap());
    Disk {
        id: DiskId::new(id),
        source,
        mount: mount.map(|path| path.parse().unwrap()),
        device: format!("vd{letter}").parse().unwrap(),
        read_only: false,
    }
}

fn raw(id: u32, path: &Path, mount: &str) -> Disk {
    disk(id, DiskSource::Raw(path.to_owned()), Some(mount))
}

fn device(id: u32, path: &Path) -> Disk {
    disk(id, DiskSource::Raw(path.to_owned()), None)
}

fn read_only(mut disk: Disk) -> Disk {
    disk.read_only = true;
    disk
}

#[test]
fn every_file_system_keeps_its_content_over_stop_and_start() -> Result<()> {
    for runtime in RUNTIMES {
        let node = Node::behind(runtime, &[])?;
        let kinds = [
            ("ext2", 16),
            ("ext3", 32),
            ("ext4", 32),
            ("xfs", 300),
            ("btrfs", 120),
        ];
        let mut disks = Vec::new();
        for (id, (kind, mib)) in (1..).zip(kinds) {
            let path = node.formatted(kind, kind, mib, &[])?;
            disks.push(raw(id, &path, &format!("/srv/{kind}/data")));
        }
        let id = node.create(disks.clone())?;
        node.start(&id)?;
        let mounts = node.sh(&id, "cat /proc/mounts")?;
        for (disk, (kind, _)) in disks.iter().zip(kinds) {
            let line = format!("/dev/{} /srv/{kind}/data ", disk.device);
            let line = mounts
                .lines()
                .find(|l| l.starts_with(&line))
                .context(mounts.clone())?;
            ensure!(line.contains(" rw,nosuid,nodev,"), "{line}");
            node.sh(&id, &format!("cd /srv/{kind}/data && echo {kind} > a && mkdir d && chmod 711 d && chown 33:44 a"))?;
        }
        node.stop(&id)?;
        ensure!(node.in_use()?.is_empty(), "{:?}", node.in_use()?);
        let changes = node.engine.docker(&["diff", id.as_str()])?;
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
            &node.formatted("ro", "ext4", 16, &[])?,
            "/srv",
        )));
        disks.rotate_right(1);
        node.boot(&id, disks)?;
        // A disk at /srv hides what the image has there, and can only be read: the others have no
        // place on it.
        let said = node.refused(&id)?;
        ensure!(
            said.contains("disk 1 (vdb): /srv/ext2/data in the container's root cannot be made"),
            "{said}"
        );
        node.nothing_left()?;
        let changes = node.engine.docker(&["diff", id.as_str()])?;
        ensure!(!changes.contains("/srv"), "{changes}");
        let disks = (1..)
            .zip(kinds)
            .map(|(id, (kind, _))| raw(id, &node.file(kind), &format!("/srv/{kind}/data")));
        node.boot(&id, disks.collect())?;
        soon("it does not start again", || Ok(node.start(&id).is_ok()))?;
        for (kind, _) in kinds {
            let said = node.sh(
                &id,
                &format!("cd /srv/{kind}/data && cat a && busybox stat -c %a:%u:%g d a"),
            )?;
            ensure!(said == format!("{kind}\n711:0:0\n644:33:44"), "{said}");
        }
        node.remove(&id)?;
    }
    Ok(())
}

#[test]
fn a_disk_is_plugged_into_a_running_container_and_out_of_it_unless_in_use() -> Result<()> {
    for runtime in RUNTIMES {
        let node = Node::behind(runtime, &[])?;
        let id = node.create(vec![])?;
        node.start(&id)?;
        let data = raw(
            1,
            &node.formatted("data", "ext4", 16, &[])?,
            "/media/disk.1",
        );
        node.plug(&id, &data)?;
        node.plug(&id, &data)?;
        node.sh(&id, "echo kept > /media/disk.1/a")?;
        ensure!(node.in_use()?.len() == 1, "{:?}", node.in_use()?);

        node.engine.docker(&[
            "exec",
            "-d",
            "-w",
            "/media/disk.1",
            id.as_str(),
            "/bin/sleep",
            "500",
        ])?;
        let mut said = String::new();
        soon("it is not in use", || {
            said = match node.unplug(&id, 1) {
                Ok(()) => {
                    node.plug(&id, &data)?;
                    String::new()
                }
                Err(e) => e.to_string(),
            };
            // Until the runtime's own process has become the command.
            Ok(said.contains(" by sleep "))
        })?;
        ensure!(
            said.starts_with("disk 1 (vdb): it is in use at /media/disk.1 by sleep (process "),
            "{said}"
        );
        ensure!(node.sh(&id, "cat /media/disk.1/a")? == "kept", "it is gone");
        node.sh(&id, "busybox killall sleep")?;
        soon("it is not let go", || Ok(node.unplug(&id, 1).is_ok()))?;
        node.unplug(&id, 1)?;
        ensure!(node.in_use()?.is_empty(), "{:?}", node.in_use()?);
        node.sh(&id, "! busybox test -e /media")?;
        node.plug(&id, &read_only(data.clone()))?;
        node.sh(
            &id,
            "busybox test -e /media/disk.1/a && ! touch /media/disk.1/b",
        )?;

        // Requests that are not about this container.
        let other = Request::PlugDisk {
            vm: VmId::new(VM + 1),
            container: id.clone(),
            disk: data.clone(),
        };
        let said = node.ask(&other).unwrap_err().to_string();
        ensure!(said.contains("has no running container"), "{said}");
        let twice = raw(2, &node.file("data"), "/media/disk.1");
        let said = node.plug(&id, &twice).unwrap_err().to_string();
        ensure!(said.contains("of another disk"), "{said}");
        node.remove(&id)?;
    }
    Ok(())
}

#[test]
fn a_device_has_its_partitions_and_links_and_is_only_the_containers_own() -> Result<()> {
    for runtime in RUNTIMES {
        let node = Node::behind(runtime, &[])?;
        let whole = node.formatted("whole", "ext4", 16, &["-L", "my data", "-U", UUID])?;
        let table = node.blank("table", 64)?;
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
        let rom = read_only(device(3, &node.formatted("rom", "ext2", 4, &[])?));
        let id = node.create(vec![device(1, &whole), device(2, &table), rom])?;
        node.start(&id)?;
        let sizes = node.sh(&id, "for d in vdb vdc vdc1 vdc2 vdd; do busybox blockdev --getsize64 /dev/$d; done; busybox blockdev --getro /dev/vdd; busybox blockdev --getro /dev/vdb")?;
        let mib: Vec<String> = [16u64, 64, 8, 16, 4]
            .iter()
            .map(|mib| (mib << 20).to_string())
            .collect();
        ensure!(sizes == format!("{}\n1\n0", mib.join("\n")), "{sizes}");
        let links = node.sh(
            &id,
            "cd /dev/disk; for l in by-uuid/* by-label/*; do busybox readlink $l; done",
        )?;
        ensure!(
            links.lines().filter(|l| *l == "../../vdb").count() == 2,
            "{links}"
        );
        node.sh(
            &id,
            &format!("busybox test /dev/disk/by-uuid/{UUID} -ef /dev/vdb"),
        )?;
        node.sh(&id, r"busybox test -b '/dev/disk/by-label/my\x20data'")?;
        // What is written to a partition is in the file, at its place.
        node.sh(&id, "echo partition | busybox dd of=/dev/vdc2 conv=fsync")?;
        node.sh(&id, "! (echo x | busybox dd of=/dev/vdd conv=fsync)")?;
        // Others' loop devices are closed to it.
        node.sh(
            &id,
            "busybox mknod /tmp b 7 0; ! busybox dd if=/tmp of=/dev/null count=1",
        )?;

        // Its own are to be read and written, and nothing else: what they show is the host's.
        node.sh(
            &id,
            "! busybox losetup /dev/vdb && ! busybox losetup -d /dev/vdb && ! busybox losetup -c /dev/vdb && ! busybox losetup /dev/vde /bin/busybox",
        )?;

        // In use while a process has it open.
        node.engine.docker(&[
            "exec",
            "-d",
            id.as_str(),
            "/bin/busybox",
            "sh",
            "-c",
            "exec /bin/sleep 500 < /dev/vdc1",
        ])?;
        soon("it is not open", || {
            Ok(node.sh(&id, "busybox pidof sleep")?.contains(' '))
        })?;
        let said = node.unplug(&id, 2).unwrap_err().to_string();
        ensure!(
            said.starts_with("disk 2 (vdc): it is in use at /dev/vdc by "),
            "{said}"
        );
        node.sh(&id, "busybox test -b /dev/vdc1 && busybox killall sleep")?;
        soon("it is not let go", || Ok(node.unplug(&id, 2).is_ok()))?;
        node.sh(
            &id,
            "! busybox test -e /dev/vdc && ! busybox test -e /dev/vdc2 && busybox test -b /dev/vdb",
        )?;
        let bytes = fs::read(&table)?;
        ensure!(
            bytes.windows(10).any(|w| w == b"partition\n"),
            "not in the file"
        );
        node.unplug(&id, 1)?;
        node.unplug(&id, 3)?;
        node.sh(&id, "! busybox test -e /dev/disk")?;
        ensure!(node.in_use()?.is_empty(), "{:?}", node.in_use()?);
        // Plugged again, and the VM ends with it.
        node.plug(&id, &device(2, &table))?;
        ensure!(
            node.sh(&id, "busybox head -c 9 /dev/vdc2")? == "partition",
            "content"
        );
        node.stop(&id)?;
        node.nothing_left()?;
        node.start(&id)?;
        node.remove(&id)?;
    }
    Ok(())
}

const UUID: &str = "0f1e2d3c-4b5a-4678-9abc-def012345678";

#[test]
fn a_qcow2_disk_keeps_its_content_and_its_daemon_ends_with_it() -> Result<()> {
    for runtime in RUNTIMES {
        let node = Node::behind(runtime, &[])?;
        let plain = node.formatted("plain", "btrfs", 120, &[])?;
        let image = node.file("image");
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
        empty.source = DiskSource::Qcow2(node.file("empty"));
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-f",
                "qcow2",
                node.file("empty").to_str().unwrap(),
                "32M",
            ],
        )?;
        let id = node.create(vec![shown.clone()])?;
        node.start(&id)?;
        node.plug(&id, &empty)?;
        node.sh(
            &id,
            "busybox seq 1 400000 > /srv/numbers && echo raw | busybox dd of=/dev/vdc conv=fsync",
        )?;
        ensure!(node.served(), "no daemon");
        node.grow(&id, 1, 300)?;
        let size = node.sh(&id, "busybox df -m /srv | busybox awk 'END {print $2}'")?;
        ensure!(size.parse::<u32>()? == 300, "{size}");
        node.grow(&id, 2, 48)?;
        let size = node.sh(&id, "busybox blockdev --getsize64 /dev/vdc")?;
        ensure!(size == (48u64 << 20).to_string(), "{size}");
        node.ask(&Request::SyncDisk {
            vm: VmId::new(VM),
            container: id.clone(),
            disk: DiskId::new(1),
        })?;
        let sum = node.sh(&id, "busybox md5sum /srv/numbers")?;
        node.unplug(&id, 2)?;
        node.stop(&id)?;
        node.nothing_left()?;
        let check = run(
            "qemu-img",
            &["check", "-f", "qcow2", image.to_str().unwrap()],
        )?;
        ensure!(check.contains("No errors"), "{check}");
        node.start(&id)?;
        ensure!(
            node.sh(&id, "busybox md5sum /srv/numbers")? == sum,
            "content"
        );
        node.plug(&id, &empty)?;
        ensure!(
            node.sh(&id, "busybox head -c 3 /dev/vdc")? == "raw",
            "content"
        );
        node.remove(&id)?;

        // A header of a damaged image, and one that leads to another file.
        let evil = disk(1, DiskSource::Qcow2(node.file("evil")), None);
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-f",
                "qcow2",
                node.file("evil").to_str().unwrap(),
                "1M",
            ],
        )?;
        let damaged = File::options().write(true).open(node.file("evil"))?;
        damaged.write_all_at(&[2], 79)?;
        let id = node.create(vec![evil.clone()])?;
        let reason = node.refused(&id)?;
        ensure!(reason.contains("marked as damaged"), "{reason}");
        node.remove(&id)?;
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
            &[&arguments[..], &[node.file("evil").to_str().unwrap(), "1M"]].concat(),
        )?;
        let id = node.create(vec![evil])?;
        let reason = node.refused(&id)?;
        ensure!(reason.contains("backing file"), "{reason}");
        // A raw file in which a tenant has laid such a header is what it is: raw.
        let raw = device(1, &node.file("evil"));
        node.boot(&id, vec![raw])?;
        soon("it does not start", || Ok(node.start(&id).is_ok()))?;
        ensure!(
            node.sh(&id, "busybox head -c 3 /dev/vdb")? == "QFI",
            "it was read as qcow2"
        );
        node.remove(&id)?;
    }
    Ok(())
}

/// The folder of the layer of a container that is never started, of an image with `/marks`.
fn tree(node: &Node, name: &str) -> Result<(ContainerId, PathBuf)> {
    let root = tempfile::tempdir_in(node.engine.folder())?;
    fs::create_dir(root.path().join("marks"))?;
    fs::write(root.path().join("marks/of-the-image"), "image\n")?;
    node.engine.import(name, root.path(), &[])?;
    let id = node
        .engine
        .docker(&["create", "--network", "none", name, "x"])?;
    let format = "{{.GraphDriver.Data.UpperDir}}";
    let upper = PathBuf::from(node.engine.docker(&["inspect", "-f", format, &id])?);
    Ok((id.parse()?, upper.parent().context("no layer")?.to_owned()))
}

#[test]
fn the_tree_of_an_image_is_written_to_its_own_layer_or_only_read_and_a_folder_only_read()
-> Result<()> {
    for runtime in RUNTIMES {
        let node = Node::behind(runtime, &[])?;
        let (of, layer) = tree(&node, "tree:1")?;
        let files = node.file("files");
        fs::create_dir(&files)?;
        fs::write(files.join("a"), "a")?;
        // The driver's, which is an ordinary user.
        for path in [&files, &files.join("a")] {
            std::os::unix::fs::chown(path, Some(4321), Some(4322))?;
        }
        let written = disk(1, DiskSource::Tree(layer.clone()), Some("/opt/tree"));
        let folder = disk(2, DiskSource::Folder(files.clone()), Some("/media/cd"));
        let id = node.create(vec![written.clone(), folder.clone()])?;
        node.start(&id)?;
        node.sh(&id, "cd /opt/tree/marks && busybox cat of-the-image && echo new > new && busybox rm of-the-image")?;
        node.sh(&id, "busybox test -f /media/cd/a && ! echo x > /media/cd/b")?;
        let owners = node.sh(&id, "busybox stat -c %u:%g /media/cd /media/cd/a")?;
        ensure!(owners == "0:0\n0:0", "{owners}");
        let mounts = node.sh(&id, "cat /proc/mounts")?;
        let line = mounts
            .lines()
            .find(|line| line.contains(" /media/cd "))
            .context("no folder")?;
        ensure!(line.contains(" ro,nosuid,nodev"), "{line}");
        let line = mounts
            .lines()
            .find(|line| line.contains(" /opt/tree "))
            .context("no tree")?;
        ensure!(line.contains(" rw,nosuid,nodev"), "{line}");
        let changes = node.engine.docker(&["diff", of.as_str()])?;
        ensure!(
            changes.contains("A /marks/new") && changes.contains("D /marks/of-the-image"),
            "{changes}"
        );
        let said = node.grow(&id, 1, 100).unwrap_err().to_string();
        ensure!(
            said == "disk 1 (vdb): a disk of this kind cannot be resized",
            "{said}"
        );
        let synced = Request::SyncDisk {
            vm: VmId::new(VM),
            container: id.clone(),
            disk: DiskId::new(1),
        };
        node.ask(&synced)?;
        node.unplug(&id, 2)?;
        node.unplug(&id, 1)?;
        node.sh(&id, "! busybox test -e /opt && ! busybox test -e /media")?;
        node.plug(&id, &read_only(written.clone()))?;
        node.sh(&id, "cd /opt/tree/marks && busybox test -f new && ! busybox test -e of-the-image && ! echo x > y")?;
        node.stop(&id)?;
        node.nothing_left()?;
        node.engine.docker(&["rm", of.as_str()])?;
        node.remove(&id)?;
        // Nothing else of the host is a tree.
        for path in [PathBuf::from("/etc"), layer] {
            let id = node.create(vec![disk(1, DiskSource::Tree(path), Some("/srv"))])?;
            let said = node.refused(&id)?;
            ensure!(
                said.contains("is not the folder of a layer") || said.contains("there is no"),
                "{said}"
            );
            node.remove(&id)?;
        }
    }
    Ok(())
}

#[test]
fn the_owners_on_a_disk_are_the_containers_under_userns_remap() -> Result<()> {
    for runtime in RUNTIMES {
        let node = Node::behind(runtime, &["--userns-remap=default"])?;
        let kinds = [("ext4", 32), ("xfs", 300), ("btrfs", 120)];
        let mut disks = Vec::new();
        for (id, (kind, mib)) in (1..).zip(kinds) {
            disks.push(raw(
                id,
                &node.formatted(kind, kind, mib, &[])?,
                &format!("/srv/{kind}"),
            ));
        }
        disks.push(device(4, &node.formatted("device", "ext4", 16, &[])?));
        let (_, layer) = tree(&node, "tree:1")?;
        disks.push(disk(5, DiskSource::Tree(layer), Some("/srv/tree")));
        let cd = node.file("cd");
        fs::create_dir(&cd)?;
        std::os::unix::fs::chown(&cd, Some(4321), Some(4322))?;
        disks.push(disk(6, DiskSource::Folder(cd), Some("/srv/cd")));
        let id = node.create(disks)?;
        node.start(&id)?;
        let pid = node
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
            ensure!(node.sh(&id, &script)? == "0:0\n33:44", "{place}");
        }
        node.sh(&id, "busybox head -c 2048 /dev/vde > /dev/null && echo x | busybox dd of=/dev/vde conv=notrunc,fsync")?;
        ensure!(
            node.sh(&id, "busybox stat -c %u:%g:%F /dev/vde /srv")?
                == "0:0:block special file\n0:0:directory",
            "owner"
        );
        ensure!(
            node.sh(&id, "busybox stat -c %u:%g /srv/cd")? == "0:0",
            "owner of a folder"
        );
        for disk in (1..=6).rev() {
            node.unplug(&id, disk)?;
        }
        node.sh(&id, "! busybox test -e /dev/vde && ! busybox test -e /srv")?;
        node.remove(&id)?;
        // On the disk itself, they are as the container wrote them.
        let owners = run(
            "debugfs",
            &["-R", "stat a", node.file("ext4").to_str().unwrap()],
        )?;
        ensure!(owners.contains("User:    33   Group:    44"), "{owners}");
    }
    Ok(())
}

#[test]
fn a_running_vm_sees_a_disk_grow_and_one_that_grew_while_it_was_off() -> Result<()> {
    let node = Node::behind(RUNTIMES[1], &[])?;
    let xfs = node.formatted("xfs", "xfs", 300, &[])?;
    let btrfs = node.formatted("btrfs", "btrfs", 256, &[])?;
    let blank = node.blank("blank", 8)?;
    let ext4 = node.formatted("ext4", "ext4", 32, &[])?;
    let id = node.create(vec![
        raw(1, &xfs, "/srv/xfs"),
        raw(2, &btrfs, "/srv/btrfs"),
        device(3, &blank),
        raw(4, &ext4, "/srv/ext4"),
    ])?;
    node.start(&id)?;
    let sizes = || -> Result<Vec<u64>> {
        let script = "busybox df -m /srv/xfs /srv/btrfs | busybox awk 'NR>1 {print $2}'; busybox blockdev --getsize64 /dev/vdd";
        let text = node.sh(&id, script)?;
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
        node.grow(&id, disk, mib)?;
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
        Ok(node.sh(&id, script)?.parse()?)
    };
    let size = of_ext4()?;
    ensure!((size > 40) == may, "{size} MiB");
    node.stop(&id)?;
    for path in [&xfs, &btrfs, &ext4] {
        longer(path, 500)?;
    }
    node.start(&id)?;
    let (now, size) = (sizes()?, of_ext4()?);
    ensure!(now[0] > 420 && now[1] == 500, "{now:?}");
    ensure!(size > 400, "{size} MiB");
    node.remove(&id)
}

#[test]
fn what_cannot_be_mounted_is_a_device_or_one_clear_line() -> Result<()> {
    for runtime in RUNTIMES {
        let node = Node::behind(runtime, &[])?;
        let swap = node.blank("swap", 4)?;
        run("mkswap", &[swap.to_str().unwrap()])?;
        // Signatures without what belongs to them.
        let broken = node.formatted("broken", "ext4", 16, &[])?;
        let mut file = fs::OpenOptions::new().write(true).open(&broken)?;
        // The descriptors of its groups.
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 1024], 2048)?;
        file.flush()?;
        let elsewhere = node.formatted("elsewhere", "ext4", 16, &["-O", "^metadata_csum"])?;
        let file = fs::OpenOptions::new().write(true).open(&elsewhere)?;
        // s_journal_dev: 8:1
        std::os::unix::fs::FileExt::write_all_at(&file, &0x801u32.to_le_bytes(), 1024 + 0xE4)?;
        let torn = node.formatted("torn", "xfs", 300, &[])?;
        fs::OpenOptions::new()
            .write(true)
            .open(&torn)?
            .set_len(100 << 20)?;
        let id = node.create(vec![
            raw(1, &swap, "/srv"),
            raw(2, &node.blank("nothing", 4)?, "/opt/x"),
        ])?;
        node.start(&id)?;
        node.sh(
            &id,
            "busybox test -b /dev/vdb && busybox test -b /dev/vdc && ! busybox test -e /opt",
        )?;
        node.stop(&id)?;
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
                vec![raw(1, &node.formatted("good", "ext4", 16, &[])?, "/bin/sh")],
                "/bin/sh in the image is a link or a file",
            ),
        ] {
            node.boot(&id, disks)?;
            let mut said = String::new();
            soon("the engine has not cleaned up", || {
                said = node.refused(&id)?;
                Ok(said.contains(expected))
            })
            .with_context(|| said.clone())?;
            ensure!(said.trim_end().lines().count() <= 2, "{said}");
            node.nothing_left()?;
        }
        // A journal that is not replayed stays so where the disk can only be read.
        node.boot(&id, vec![])?;
        soon("it does not start", || Ok(node.start(&id).is_ok()))?;
        for (number, (kind, mib)) in (1..).zip([("ext4", 16), ("xfs", 300)]) {
            let path = node.formatted(&format!("clean-{kind}"), kind, mib, &[])?;
            let shown = raw(number, &path, "/srv/x");
            node.plug(&id, &shown)?;
            node.sh(&id, "echo a > /srv/x/a && busybox sync")?;
            let dirty = node.file(&format!("dirty-{kind}"));
            fs::copy(&path, &dirty)?;
            node.unplug(&id, number)?;
            node.plug(&id, &read_only(raw(number, &dirty, "/srv/x")))?;
            let mounts = node.sh(&id, "cat /proc/mounts")?;
            let line = mounts
                .lines()
                .find(|line| line.contains(" /srv/x "))
                .context("no mount")?;
            // Older kernels say noload for ext4.
            let unclean = line.contains("norecovery") || line.contains("noload");
            ensure!(unclean, "{line}");
            node.unplug(&id, number)?;
        }
        node.remove(&id)?;
    }
    Ok(())
}

#[test]
fn a_helper_that_is_killed_at_any_moment_leaves_nothing_and_the_next_call_converges() -> Result<()>
{
    let node = Node::behind(RUNTIMES[1], &[])?;
    let id = node.create(vec![])?;
    node.start(&id)?;
    let plain = node.formatted("plain", "ext4", 16, &[])?;
    let image = node.file("image");
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
        device(3, &node.formatted("device", "ext4", 16, &[])?),
    ];
    let started = |disk: &Disk| -> Result<std::process::Child> {
        let request = Request::PlugDisk {
            vm: VmId::new(VM),
            container: id.clone(),
            disk: disk.clone(),
        };
        let text = serde_json::to_vec(&request)?;
        node.engine.inside(|| {
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
            node.unplug(&id, disk.id.get())?;
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
            node.plug(&id, disk)
                .with_context(|| format!("after {step}/8"))?;
        }
    }
    // The last of each was killed and not mended.
    node.remove(&id).context("killed helpers")?;
    // A whole VM is killed with its runtime's call.
    let id = node.create(disks.to_vec())?;
    for step in 1..5 {
        node.engine.inside(|| {
            let mut child = Command::new("docker")
                .args(["start", id.as_str()])
                .env(
                    "DOCKER_HOST",
                    format!("unix://{}", node.engine.socket().display()),
                )
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            let begin = Instant::now();
            let own = format!("start {id}").replace(' ', "\0");
            let mut killed = false;
            while !killed
                && child.try_wait()?.is_none()
                && begin.elapsed() < Duration::from_secs(10)
            {
                for entry in fs::read_dir("/proc")?.flatten() {
                    let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    let command = String::from_utf8_lossy(&command);
                    let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
                        continue;
                    };
                    if command.contains("onedock-runtime\0") && command.contains(&own) {
                        let seen = Instant::now();
                        while seen.elapsed() < Duration::from_millis(15 * step) {
                            std::thread::yield_now();
                        }
                        let pid = nix::unistd::Pid::from_raw(pid);
                        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
                        killed = true;
                    }
                }
            }
            child.wait()?;
            Ok(())
        })?;
        // What the driver does with a VM that is to be off.
        let _ = node.engine.output("docker", &["kill", id.as_str()])?;
        node.stop(&id).with_context(|| format!("step {step}"))?;
        soon("something is in use", || Ok(node.in_use()?.is_empty()))
            .with_context(|| format!("step {step}: {:?}", node.in_use()))?;
    }
    node.remove(&id)
}

#[test]
fn attack_a_link_in_the_image_leads_no_disk_into_a_file_system_of_the_kernel() -> Result<()> {
    let node = Node::behind(RUNTIMES[0], &[])?;
    let good = node.formatted("good", "ext4", 16, &[])?;
    let id = node.create(vec![])?;
    for (link, place) in [
        ("/proc/1", "/srv/task"),
        ("/sys", "/srv/kernel"),
        ("/sys/fs/cgroup", "/srv/memory"),
        ("/dev", "/srv/new"),
        ("/dev/pts", "/srv"),
    ] {
        node.boot(&id, vec![])?;
        soon("it does not start", || Ok(node.start(&id).is_ok()))?;
        node.sh(
            &id,
            &format!("busybox rm -rf /srv && busybox ln -s {link} /srv"),
        )?;
        let hot = node
            .plug(&id, &raw(1, &good, place))
            .unwrap_err()
            .to_string();
        node.stop(&id)?;
        node.boot(&id, vec![raw(1, &good, place)])?;
        let cold = node.refused(&id)?;
        for said in [hot, cold] {
            ensure!(
                said.contains("disk 1 (vdb)")
                    && (said.contains("a link in the image leads there")
                        || said.contains("is a link or a file")),
                "{link}: {said}"
            );
        }
        node.nothing_left()?;
    }
    node.remove(&id)
}

#[test]
fn attack_no_device_node_is_made_in_a_dev_that_is_not_the_container_s_own() -> Result<()> {
    let node = Node::behind(RUNTIMES[0], &[])?;
    let blank = node.blank("blank", 4)?;
    let folder = node.engine.folder().join("dev");
    fs::create_dir(&folder)?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let node = Path::new("/dev").join(name);
        run(
            "cp",
            &["-a", node.to_str().unwrap(), folder.to_str().unwrap()],
        )?;
    }
    for host in [Path::new("/dev"), &folder] {
        let bind = format!("{}:/dev", host.display());
        let id = node.create_with(&["-v", &bind], vec![device(7, &blank)])?;
        let said = node.refused(&id);
        let made = node.engine.inside(|| {
            let node = host.join("vdh");
            let made = fs::symlink_metadata(&node).is_ok();
            if made {
                fs::remove_file(node)?;
            }
            Ok(made)
        })?;
        let said = said?;
        ensure!(
            !made
                && said.contains("/dev")
                && said.contains("not a file system of the container's own"),
            "{said}"
        );
        node.nothing_left()?;
        node.remove(&id)?;
    }
    Ok(())
}
