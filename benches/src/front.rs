//! A front-end beside the node, reached over a real ssh: a second name of the machine on which the
//! drivers find no engine.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onedock_tests::engine_server::PrivateEngine;

/// The front-end's name.
pub(crate) const NAME: &str = "front";

/// The running sshd; it ends with its value.
#[derive(Debug)]
pub(crate) struct Front {
    sshd: Child,
    one: PathBuf,
}

impl Front {
    /// Starts sshd in the engine's namespaces, where `/etc` is the bench's own.
    pub(crate) fn start(engine: &PrivateEngine, programs: &Path, conf: &Path) -> Result<Self> {
        let one = engine.folder().join("one");
        let scripts = one.join("remotes");
        fs::create_dir_all(one.join("var"))?;
        fs::create_dir_all(scripts.join("tm/onedock"))?;
        fs::write(
            one.join("var/config"),
            format!("SCRIPTS_REMOTE_DIR={}\n", scripts.display()),
        )?;
        let node = scripts.join("tm/onedock/node");
        let program = programs.join("onedock-tm");
        fs::write(
            &node,
            format!("#!/bin/sh\nexec {} node \"$@\"\n", program.display()),
        )?;
        fs::set_permissions(&node, fs::Permissions::from_mode(0o755))?;
        let keys = engine.folder().join("keys");
        fs::create_dir(&keys)?;
        fs::set_permissions(engine.folder(), fs::Permissions::from_mode(0o711))?;
        for name in ["host", "user"] {
            let path = keys.join(name);
            let path = path.to_str().context("not text")?;
            engine.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", path])?;
        }
        let (keys, conf) = (keys.display(), conf.display());
        let daemon = format!(
            "ListenAddress 127.0.0.2\nHostKey {keys}/host\nAuthorizedKeysFile {keys}/user.pub\n\
             StrictModes no\nPermitRootLogin prohibit-password\nPidFile none\nUsePAM no\n\
             SetEnv DOCKER_HOST=unix:///nonexistent.sock ONEDOCK_CONF={conf}\n"
        );
        // Connections are kept as in the configuration that OpenNebula gives oneadmin.
        let client = format!(
            "Host {NAME}\n HostName 127.0.0.2\n User root\n IdentityFile {keys}/user\n\
             StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n LogLevel ERROR\n\
             ControlMaster auto\n ControlPath {keys}/%C\n ControlPersist 70m\n"
        );
        let file = engine.folder().join("sshd_config");
        fs::write(&file, daemon)?;
        let sshd = engine.inside(|| {
            fs::create_dir_all("/run/sshd")?;
            // No front-end has what root runs on a node, and its notes are its own.
            unshare(CloneFlags::CLONE_NEWNS)?;
            for path in ["/usr/lib/onedock", "/var/lib/onedock"] {
                let (kind, none) = (Some("tmpfs"), None::<&str>);
                mount(kind, path, kind, MsFlags::empty(), none)?;
            }
            for name in ["boot", "lock", "journal"] {
                fs::create_dir(Path::new("/var/lib/onedock").join(name))?;
            }
            fs::write("/etc/ssh/ssh_config", client)?;
            // Whatever the shell of this machine's user loads at each call is not measured.
            let users = fs::read_to_string("/etc/passwd")?;
            let others = users.lines().filter(|line| !line.starts_with("root:"));
            let others = others.collect::<Vec<_>>().join("\n");
            fs::write(
                "/etc/passwd",
                format!("root:x:0:0:root:/nonexistent:/bin/sh\n{others}\n"),
            )?;
            Command::new("/usr/sbin/sshd")
                .args(["-D", "-e", "-f"])
                .arg(&file)
                .stdin(Stdio::null())
                .stderr(fs::File::create(file.with_extension("log"))?)
                .spawn()
                .context("sshd is not installed (openssh-server)")
        })?;
        let front = Self { sshd, one };
        let begin = Instant::now();
        while !engine.output("ssh", &[NAME, "true"])?.status.success() {
            let log = fs::read_to_string(file.with_extension("log")).unwrap_or_default();
            ensure!(begin.elapsed() < Duration::from_secs(10), "no ssh: {log}");
            onedock_common::wait::pause(Duration::from_millis(20));
        }
        Ok(front)
    }

    /// `ONE_LOCATION` of the drivers that this front-end starts.
    pub(crate) fn location(&self) -> &Path {
        &self.one
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.sshd.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.sshd.wait();
    }
}
