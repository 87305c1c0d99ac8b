//! The machine of a replay: front-end and node in one mount and network namespace, with the
//! drivers installed as an administrator installs them, at the paths of the recording.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};

use super::programs;
use super::recording::Recording;
use crate::engine_server::{Options, PrivateEngine};
use crate::registry_server::{RegistryServer, Setup};

/// The bridge of the recorded networks, and its address.
pub const BRIDGE: &str = "onebr0";
const BRIDGE_ADDRESS: &str = "10.77.0.1/24";

/// What root runs on a node.
const ROOT_FOLDER: &str = "/usr/lib/onedock";

/// The image that stands for `nginx:1.27-alpine`: its command takes nginx's arguments and serves
/// two ports; like nginx's it ends at QUIT, as its STOPSIGNAL says, and at nothing
/// else. It has a VOLUME.
const NGINX: &str = "#!/bin/sh
if [ $# -ne 2 ] || [ \"$1\" != -g ] || [ \"$2\" != 'daemon off;' ]; then
  echo \"nginx was called with: $*\" >&2
  exit 64
fi
trap 'exit 0' QUIT
/bin/busybox mkdir -p /www
echo \"nginx on $(/bin/busybox hostname)\" > /www/index.html
httpd -p 80 -h /www
httpd -p 8080 -h /www
while :; do
  sleep 1000 &
  wait $!
done
";

/// A name and number of a user or group.
#[derive(Debug, Clone, Copy)]
pub struct Oneadmin {
    /// Its number.
    pub uid: u32,
    /// Its own group.
    pub gid: u32,
    /// The group that may use the engine.
    pub docker: u32,
}

/// The machine. Dropping it ends everything on it.
#[derive(Debug)]
pub struct Bed {
    /// What is replayed.
    pub recording: Recording,
    /// The front-end's state folder.
    pub var: PathBuf,
    /// Who the drivers run as.
    pub oneadmin: Oneadmin,
    /// The private registry.
    pub registry: RegistryServer,
    /// In Docker Hub's place.
    pub hub: RegistryServer,
    /// The engine with its namespaces; last, because the registries run in them.
    pub engine: PrivateEngine,
}

impl Bed {
    /// Makes everything for one release, with containers run by the runtime at `behind`.
    pub fn start(release: &str, behind: &str) -> Result<Self> {
        let recording = Recording::read(release)?;
        let var = recording.var()?;
        let programs = programs::folder()?;
        let engine = PrivateEngine::start(Options {
            runtime: Some(Path::new(ROOT_FOLDER).join("onedock-runtime")),
            behind: Some(behind.into()),
            arguments: ["-H", "unix:///var/run/docker.sock"]
                .map(str::to_owned)
                .to_vec(),
        })?;
        for line in [
            format!("link add {BRIDGE} type bridge"),
            format!("link set {BRIDGE} mtu 1450 up"),
            format!("address add {BRIDGE_ADDRESS} dev {BRIDGE}"),
        ] {
            engine.run("ip", &line.split(' ').collect::<Vec<_>>())?;
        }
        // Docker's own policy, which hides what a bridge would do without it.
        engine.run("iptables", &["-P", "FORWARD", "DROP"])?;
        let place = engine.folder().join("state");
        let (registry, hub, oneadmin) = engine.inside(|| {
            own_folders(&place)?;
            let registry = RegistryServer::start(&Setup::closed())?;
            let hub = RegistryServer::start(&Setup::default())?;
            let oneadmin = accounts(&var)?;
            node(programs, oneadmin)?;
            trust(&registry, oneadmin)?;
            front_end(&recording, &var, oneadmin)?;
            Ok((registry, hub, oneadmin))
        })?;
        let bed = Self {
            recording,
            var,
            oneadmin,
            registry,
            hub,
            engine,
        };
        bed.install(programs)?;
        bed.fill_hub()?;
        Ok(bed)
    }

    /// `onedock setup frontend`, then what an administrator adds to `onedock.conf`, then what
    /// `onehost sync` does.
    fn install(&self, programs: &Path) -> Result<()> {
        let program = programs.join("onedock");
        let (program, from) = (text(&program)?, text(programs)?);
        let address = self.registry.address();
        let mut words = vec![
            "setup",
            "frontend",
            "--from",
            from,
            "--registry",
            address.as_str(),
        ];
        let location = self.recording.one_location();
        if let Some(location) = &location {
            words.extend(["--one-location", text(location)?]);
        }
        self.engine.run(program, &words)?;
        let remotes = self.var.join("remotes");
        let hub = self.hub.address();
        self.engine.inside(|| {
            let path = remotes.join("onedock.conf");
            let mut conf = fs::read_to_string(&path)
                .with_context(|| format!("setup frontend made no {}", path.display()))?;
            conf += &format!("\nONEDOCK_REGISTRY_MIRRORS=\"docker.io=http://{hub}\"\n");
            fs::write(&path, conf)?;
            // The same files at both places; a copy would only cost memory.
            let node = Path::new("/var/tmp/one");
            fs::create_dir(node)?;
            bind(&remotes, node)
        })
    }

    /// The two images of the recording, as Docker Hub would have them.
    fn fill_hub(&self) -> Result<()> {
        let root = tempfile::tempdir_in(self.engine.folder())?;
        let bin = root.path().join("bin");
        fs::create_dir(&bin)?;
        let busybox = ["/bin/busybox", "/usr/bin/busybox"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .context("busybox is not installed; install the package busybox-static")?;
        fs::copy(busybox, bin.join("busybox"))?;
        for applet in [
            "sh", "sleep", "cat", "ls", "ip", "httpd", "touch", "mkdir", "hostname",
        ] {
            symlink("busybox", bin.join(applet))?;
        }
        let name = self.in_hub("busybox:latest");
        self.engine.import(&name, root.path(), &["CMD [\"sh\"]"])?;
        self.to_hub(&name)?;

        fs::write(bin.join("nginx"), NGINX)?;
        fs::set_permissions(bin.join("nginx"), Permissions::from_mode(0o755))?;
        let changes = ["CMD [\"nginx\", \"-V\"]", "VOLUME /data"];
        let name = self.in_hub("nginx:1.27-alpine");
        self.engine.import(&name, root.path(), &changes)?;
        // `import` takes no STOPSIGNAL; a container has one, and its image keeps it.
        let container = self.engine.docker(&[
            "create",
            "--network",
            "none",
            "--stop-signal",
            "SIGQUIT",
            &name,
        ])?;
        self.engine.docker(&["commit", &container, &name])?;
        self.engine.docker(&["rm", "-v", &container])?;
        // The archive that an administrator would have made of it.
        self.engine
            .docker(&["save", "-o", "/var/tmp/web.tar", &name])?;
        self.engine.inside(|| {
            Ok(fs::set_permissions(
                "/var/tmp/web.tar",
                Permissions::from_mode(0o644),
            )?)
        })?;
        self.to_hub(&name)
    }

    fn in_hub(&self, image: &str) -> String {
        format!("{}/library/{image}", self.hub.address())
    }

    /// Into the registry and off the engine, so that staging an image is work.
    fn to_hub(&self, name: &str) -> Result<()> {
        self.engine.docker(&["push", "--quiet", name])?;
        self.engine.docker(&["rmi", name]).map(drop)
    }
}

/// Folders of the recording that are the test's alone.
fn own_folders(place: &Path) -> Result<()> {
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
    let (upper, work) = (place.join("usr-lib"), place.join("usr-lib.work"));
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    let data = format!(
        "lowerdir=/usr/lib,upperdir={},workdir={}",
        upper.display(),
        work.display()
    );
    mount(
        Some("overlay"),
        "/usr/lib",
        Some("overlay"),
        MsFlags::empty(),
        Some(data.as_str()),
    )
    .context("no overlay on /usr/lib")
}

/// `oneadmin` as OpenNebula's packages make it, in group `docker`.
fn accounts(var: &Path) -> Result<Oneadmin> {
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
        append("/etc/passwd", "oneadmin:x:9869:9869::/var/lib/one:/bin/sh")?;
    }
    let uid = number("/etc/passwd", "oneadmin", 2)?.context("no oneadmin")?;
    let gid = number("/etc/passwd", "oneadmin", 3)?.context("no oneadmin")?;
    let docker = number("/etc/group", "docker", 2)?
        .context("there is no group docker; install the package docker.io")?;
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
    Ok(Oneadmin { uid, gid, docker })
}

/// What `onedock setup node` leaves on a node.
fn node(programs: &Path, oneadmin: Oneadmin) -> Result<()> {
    let folder = Path::new(ROOT_FOLDER);
    fs::create_dir_all(folder)?;
    for name in ["onedock-runtime", "onedock-node", "onedock-init"] {
        let (from, to) = (programs.join(name), folder.join(name));
        fs::copy(&from, &to).with_context(|| format!("{} is not built", from.display()))?;
        fs::set_permissions(&to, Permissions::from_mode(0o755))?;
    }
    let state = Path::new("/var/lib/onedock");
    for path in ["", "boot", "lock", "journal"].map(|name| state.join(name)) {
        fs::create_dir_all(&path)?;
        chown(&path, Some(oneadmin.uid), Some(oneadmin.gid))?;
        fs::set_permissions(&path, Permissions::from_mode(0o750))?;
    }
    Ok(())
}

/// The registry's certificate and account, for engine and drivers, and its storage where
/// `docker-registry` has it.
fn trust(registry: &RegistryServer, oneadmin: Oneadmin) -> Result<()> {
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
    fs::set_permissions(auth, Permissions::from_mode(0o640))?;
    let storage = registry.certs_dir().with_file_name("storage");
    fs::create_dir_all(&storage)?;
    let data = Path::new("/var/lib/docker-registry");
    fs::create_dir_all(data)?;
    bind(&storage, data)
}

/// The least of an OpenNebula that `setup frontend` wants to find.
fn front_end(recording: &Recording, var: &Path, oneadmin: Oneadmin) -> Result<()> {
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

fn bind(from: &Path, to: &Path) -> Result<()> {
    let none = None::<&str>;
    mount(Some(from), to, none, MsFlags::MS_BIND, none)
        .with_context(|| format!("{} cannot be shown at {}", from.display(), to.display()))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not text")
}
