//! What an administrator has on a machine before anything of ours is called: accounts, folders,
//! an OpenNebula, the registry's certificate.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};

use super::cloud::Oneadmin;
use super::recording::Recording;
use crate::registry_server::RegistryServer;

/// What root runs on a node.
pub(super) const ROOT_FOLDER: &str = "/usr/lib/onedock";

/// Folders of the recording that are the machine's alone.
pub(super) fn own_folders() -> Result<()> {
    for (path, mode) in [
        ("/var/lib/one", "mode=755"),
        ("/opt", "mode=755"),
        ("/var/tmp", "mode=1777"),
        ("/var/log", "mode=755"),
    ] {
        if path.starts_with("/var/lib/") {
            fs::create_dir_all(path)?;
        }
        let none = None::<&str>;
        mount(none, path, Some("tmpfs"), MsFlags::empty(), Some(mode))
            .with_context(|| format!("no tmpfs on {path}"))?;
    }
    Ok(())
}

/// `oneadmin` as OpenNebula's packages make it, in group `docker`, with a shell for ssh.
pub(super) fn accounts(var: &Path) -> Result<Oneadmin> {
    let number = |file: &str, name: &str, field: usize| -> Result<Option<u32>> {
        let text = fs::read_to_string(file)?;
        let line = text.lines().find(|l| l.split(':').next() == Some(name));
        Ok(line
            .and_then(|l| l.split(':').nth(field))
            .and_then(|n| n.parse().ok()))
    };
    let append = |file: &str, line: &str| -> Result<()> {
        let text = fs::read_to_string(file)?;
        Ok(fs::write(file, format!("{text}{line}\n"))?)
    };
    if number("/etc/passwd", "oneadmin", 2)?.is_none() {
        append("/etc/group", "oneadmin:x:9869:")?;
        append(
            "/etc/passwd",
            "oneadmin:x:9869:9869::/var/lib/one:/bin/bash",
        )?;
    }
    // Nobody's password, and no locked account either, which the ssh daemon would refuse.
    let shadow = fs::read_to_string("/etc/shadow")?;
    let others = shadow.lines().filter(|l| !l.starts_with("oneadmin:"));
    let mut shadow: String = others.map(|l| format!("{l}\n")).collect();
    shadow += "oneadmin:*:20000::::::\n";
    fs::write("/etc/shadow", shadow)?;
    let uid = number("/etc/passwd", "oneadmin", 2)?.context("no oneadmin")?;
    let gid = number("/etc/passwd", "oneadmin", 3)?.context("no oneadmin")?;
    let docker = number("/etc/group", "docker", 2)?
        .context("there is no group docker; install the package docker.io")?;
    let group = fs::read_to_string("/etc/group")?;
    let group: String = group
        .lines()
        .map(|line| match line.strip_prefix("docker:") {
            Some(_) => format!("docker:x:{docker}:oneadmin\n"),
            None => format!("{line}\n"),
        })
        .collect();
    fs::write("/etc/group", group)?;
    let sudoers = Path::new("/etc/sudoers.d");
    fs::create_dir_all(sudoers)?;
    let line = "oneadmin ALL=(root) NOPASSWD: /usr/lib/onedock/onedock-node \"\"\n";
    fs::write(sudoers.join("onedock"), line)?;
    fs::set_permissions(sudoers.join("onedock"), Permissions::from_mode(0o440))?;
    for path in [
        Path::new("/var/lib/one"),
        Path::new("/var/log/one"),
        var,
        &var.join("datastores"),
        &var.join("remotes"),
        &var.join("vms"),
    ] {
        fs::create_dir_all(path)?;
        chown(path, Some(uid), Some(gid))?;
    }
    Ok(Oneadmin { uid, gid })
}

/// What `onedock setup node` leaves on a node.
pub(super) fn node(programs: &Path, oneadmin: Oneadmin) -> Result<()> {
    let folder = Path::new(ROOT_FOLDER);
    fs::create_dir_all(folder)?;
    for name in ["onedock-runtime", "onedock-node", "onedock-init"] {
        let (from, to) = (programs.join(name), folder.join(name));
        fs::copy(&from, &to).with_context(|| format!("{} is not built", from.display()))?;
        fs::set_permissions(&to, Permissions::from_mode(0o755))?;
    }
    state(oneadmin)
}

/// The state folder of the drivers.
pub(super) fn state(oneadmin: Oneadmin) -> Result<()> {
    let state = Path::new("/var/lib/onedock");
    for path in ["", "boot", "lock", "journal"].map(|name| state.join(name)) {
        fs::create_dir_all(&path)?;
        chown(&path, Some(oneadmin.uid), Some(oneadmin.gid))?;
        fs::set_permissions(&path, Permissions::from_mode(0o750))?;
    }
    Ok(())
}

/// The registry's certificate and account, for engine and drivers.
pub(super) fn trust(registry: &RegistryServer, oneadmin: Oneadmin) -> Result<()> {
    let address = registry.address();
    let folder = Path::new("/etc/docker/certs.d").join(&address);
    fs::create_dir_all(&folder)?;
    fs::copy(
        registry.certs_dir().join(&address).join("ca.crt"),
        folder.join("ca.crt"),
    )?;
    let auth = Path::new("/etc/onedock/registry-auth.json");
    fs::copy(registry.auth_file()?, auth)?;
    chown(auth, Some(0), Some(oneadmin.gid))?;
    Ok(fs::set_permissions(auth, Permissions::from_mode(0o640))?)
}

/// The registry's storage where `docker-registry` has it.
pub(super) fn storage(registry: &RegistryServer) -> Result<()> {
    let storage = registry.certs_dir().with_file_name("storage");
    fs::create_dir_all(&storage)?;
    let data = Path::new("/var/lib/docker-registry");
    fs::create_dir_all(data)?;
    bind(&storage, data)
}

/// The least of an OpenNebula that `setup frontend` wants to find.
pub(super) fn front_end(recording: &Recording, var: &Path, oneadmin: Oneadmin) -> Result<()> {
    let (etc, golden) = match recording.one_location() {
        Some(location) => (location.join("etc"), "6.10"),
        None => (PathBuf::from("/etc/one"), "7.4"),
    };
    let oned = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../cli/tests/golden")
        .join(golden)
        .join("oned.conf");
    fs::create_dir_all(etc.join("vmm_exec"))?;
    fs::copy(&oned, etc.join("oned.conf")).with_context(|| oned.display().to_string())?;
    fs::write(etc.join("monitord.conf"), "DB = [ CONNECTIONS = 15 ]\n")?;
    fs::write(
        etc.join("vmm_exec/vmm_execrc"),
        "LIVE_DISK_SNAPSHOTS=\"kvm-ssh\"\n",
    )?;
    for name in ["vmm", "vnm", "im"] {
        let path = var.join("remotes").join(name);
        fs::create_dir_all(&path)?;
        chown(&path, Some(oneadmin.uid), Some(oneadmin.gid))?;
    }
    ensure!(etc.join("oned.conf").is_file(), "no oned.conf");
    Ok(())
}

pub(super) fn bind(from: &Path, to: &Path) -> Result<()> {
    let none = None::<&str>;
    mount(Some(from), to, none, MsFlags::MS_BIND, none)
        .with_context(|| format!("{} cannot be shown at {}", from.display(), to.display()))
}
