//! A host, a VM on it, and its disks.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use onedock_common::state::boot::{BootSpec, Disk, DiskSource};
use onedock_common::{ContainerId, DiskId, VmId};
use onedock_node::request::Request;
use onedock_tests::test_host::{IMAGE, TestHost, boot_spec};
use onedock_tests::wait::wait_until;

/// The VM of all tests: each has a host of its own.
pub(crate) const VM: u32 = 41;

pub(crate) struct DiskHost {
    pub(crate) host: TestHost,
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {error}");
    Ok(String::from_utf8(output.stdout)?)
}

impl Deref for DiskHost {
    type Target = TestHost;
    fn deref(&self) -> &TestHost {
        &self.host
    }
}

impl DiskHost {
    pub(crate) fn behind(runtime: &str, arguments: &[&str]) -> Result<Self> {
        let program = env!("CARGO_BIN_EXE_onedock-runtime");
        let host = TestHost::start(program, runtime, arguments)?;
        Ok(Self { host })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.engine.folder().join(format!("{name}.file"))
    }

    /// Makes this the user of the drivers, whose every disk is.
    pub(crate) fn belong_to(&self, uid: u32, gid: u32) -> Result<()> {
        for entry in fs::read_dir(self.engine.folder())? {
            let path = entry?.path();
            if path.extension().is_some_and(|kind| kind == "file") {
                std::os::unix::fs::lchown(&path, Some(uid), Some(gid))?;
            }
        }
        self.engine.inside(|| {
            std::os::unix::fs::chown("/var/lib/onedock", Some(uid), Some(gid))?;
            Ok(())
        })
    }

    /// An empty file of so many MiB.
    pub(crate) fn blank(&self, name: &str, mib: u64) -> Result<PathBuf> {
        let path = self.file(name);
        fs::File::create(&path)?.set_len(mib << 20)?;
        Ok(path)
    }

    /// A file with a file system.
    pub(crate) fn formatted(
        &self,
        name: &str,
        kind: &str,
        mib: u64,
        options: &[&str],
    ) -> Result<PathBuf> {
        let path = self.blank(name, mib)?;
        let mut arguments = options.to_vec();
        arguments.push(path.to_str().unwrap());
        run(&format!("mkfs.{kind}"), &arguments)?;
        Ok(path)
    }

    pub(crate) fn create(&self, disks: Vec<Disk>) -> Result<ContainerId> {
        self.create_with(&[], disks)
    }

    pub(crate) fn create_with(&self, options: &[&str], disks: Vec<Disk>) -> Result<ContainerId> {
        let id = self.host.create(options, IMAGE)?;
        self.set_disks(&id, disks)?;
        Ok(id)
    }

    /// The disks of the next start.
    pub(crate) fn set_disks(&self, id: &ContainerId, disks: Vec<Disk>) -> Result<()> {
        let spec = BootSpec {
            disks,
            ..boot_spec(VM)?
        };
        self.host.write_boot_spec(id, &spec)
    }

    pub(crate) fn stop(&self, id: &ContainerId) -> Result<()> {
        self.engine.docker(&["stop", "-t", "0", id.as_str()])?;
        self.request(&Request::Settle {
            vm: VmId::new(VM),
            container: id.clone(),
        })
    }

    /// Has the privileged helper do something; its error is its one line.
    pub(crate) fn request(&self, request: &Request) -> Result<()> {
        self.host
            .request(env!("CARGO_BIN_EXE_onedock-node"), request)
    }

    pub(crate) fn plug(&self, id: &ContainerId, disk: &Disk) -> Result<()> {
        self.request(&Request::PlugDisk {
            vm: VmId::new(VM),
            container: id.clone(),
            disk: disk.clone(),
        })
    }

    pub(crate) fn unplug(&self, id: &ContainerId, disk: u32) -> Result<()> {
        self.request(&Request::UnplugDisk {
            vm: VmId::new(VM),
            container: id.clone(),
            disk: DiskId::new(disk),
        })
    }

    pub(crate) fn grow(&self, id: &ContainerId, disk: u32, size_mib: u64) -> Result<()> {
        self.request(&Request::GrowDisk {
            vm: VmId::new(VM),
            container: id.clone(),
            disk: DiskId::new(disk),
            size_mib,
        })
    }

    /// What still has a file of this engine: loop devices, daemons; and mounts on the host.
    pub(crate) fn in_use(&self) -> Result<Vec<String>> {
        let folder = self.engine.folder().display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/sys/block")? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let file = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file"));
            let file = file.unwrap_or_default();
            if file.contains(&folder) || (file.trim() == "/export" && self.has_daemon()) {
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
        if self.has_daemon() {
            found.push("a daemon".into());
        }
        Ok(found)
    }

    /// The daemon that exports a file of this engine's folder.
    pub(crate) fn daemon(&self) -> Option<String> {
        let folder = self.engine.folder().display().to_string();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let daemon = entries.into_iter().find(|entry| {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains("qemu-storage-daemon")
                && fs::read_to_string(entry.path().join("mountinfo"))
                    .is_ok_and(|mounts| mounts.contains(&folder))
        });
        daemon.map(|entry| entry.file_name().to_string_lossy().into_owned())
    }

    /// Whether one runs.
    pub(crate) fn has_daemon(&self) -> bool {
        self.daemon().is_some()
    }

    pub(crate) fn nothing_left(&self) -> Result<()> {
        wait_until("something is in use", || Ok(self.in_use()?.is_empty()))
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
        let error: Vec<&str> = log.lines().rev().take(12).collect();
        ensure!(left.is_empty(), "{left:?}: {error:#?}");
        Ok(())
    }

    pub(crate) fn remove(&self, id: &ContainerId) -> Result<()> {
        self.engine.docker(&["rm", "-f", "-v", id.as_str()])?;
        self.nothing_left()
    }
}

pub(crate) fn disk(id: u32, source: DiskSource, mount: Option<&str>) -> Disk {
    let letter = char::from(b'a' + u8::try_from(id).unwrap());
    Disk {
        id: DiskId::new(id),
        source,
        mount: mount.map(|path| path.parse().unwrap()),
        device: format!("vd{letter}").parse().unwrap(),
        read_only: false,
    }
}

pub(crate) fn raw(id: u32, path: &Path, mount: &str) -> Disk {
    disk(id, DiskSource::Raw(path.to_owned()), Some(mount))
}

pub(crate) fn device(id: u32, path: &Path) -> Disk {
    disk(id, DiskSource::Raw(path.to_owned()), None)
}

pub(crate) fn read_only(mut disk: Disk) -> Disk {
    disk.read_only = true;
    disk
}

/// A container that never runs, of an image with `/marks`; the runtime knows its layers.
pub(crate) fn tree(host: &DiskHost, name: &str) -> Result<ContainerId> {
    let root = tempfile::tempdir_in(host.engine.folder())?;
    fs::create_dir(root.path().join("marks"))?;
    fs::write(root.path().join("marks/of-the-image"), "image\n")?;
    host.engine.import(name, root.path(), &[])?;
    let id = host.host.create(&[], &format!("{name} x"))?;
    host.record(&id)?;
    Ok(id)
}
