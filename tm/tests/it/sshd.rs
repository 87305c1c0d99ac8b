//! A real sshd on a machine of a test's own, and what `onedock-tm` needs to call that machine.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use onedock_tests::machine::{Machine, tied};

/// How the server is set up. The key of the host is the one of its user as well.
#[derive(Debug)]
pub(crate) struct Server<'a> {
    pub(crate) address: &'a str,
    pub(crate) key: &'a Path,
    /// MaxStartups of sshd_config.
    pub(crate) max_startups: &'a str,
    /// Where it writes what it does; without one it says nothing.
    pub(crate) log: Option<&'a Path>,
}

/// A key in `folder`.
pub(crate) fn key(folder: &Path) -> Result<PathBuf> {
    let key = folder.join("key");
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status()
        .context("ssh-keygen cannot be run")?;
    ensure!(status.success(), "ssh-keygen failed");
    Ok(key)
}

/// The drivers where the front-end expects them on a host; called in the machine.
pub(crate) fn lay_drivers(program: &str) -> Result<()> {
    let script = Path::new("/var/lib/one/scripts/tm/onedock/node");
    fs::create_dir_all(script.parent().context("no folder")?)?;
    fs::write(
        "/var/lib/one/config",
        "SCRIPTS_REMOTE_DIR=/var/lib/one/scripts\n",
    )?;
    fs::write(script, format!("#!/bin/sh\nexec {program} node\n"))?;
    fs::set_permissions(script, Permissions::from_mode(0o755))?;
    Ok(())
}

impl Server<'_> {
    /// Starts it; what logs in over it has these variables.
    pub(crate) fn start(&self, machine: &Machine, variables: &[(&str, String)]) -> Result<()> {
        let key = self.key.display();
        machine.inside(|| {
            fs::create_dir_all("/etc/ssh")?;
            fs::create_dir_all("/run/sshd")?;
            fs::write(
                "/etc/ssh/ssh_config",
                format!(
                    "IdentityFile {key}\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nGlobalKnownHostsFile /dev/null\nLogLevel ERROR\n"
                ),
            )?;
            let mut config = format!(
                "ListenAddress {}\nHostKey {key}\nAuthorizedKeysFile {key}.pub\nPermitRootLogin yes\nStrictModes no\nUsePAM no\nPidFile none\nMaxStartups {}\nLogLevel VERBOSE\n",
                self.address, self.max_startups
            );
            // It takes one line with all variables.
            let variables: Vec<String> = variables
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            if !variables.is_empty() {
                config += &format!("SetEnv {}\n", variables.join(" "));
            }
            Ok(fs::write("/etc/ssh/sshd_config", config)?)
        })?;
        let log = match self.log {
            Some(path) => Stdio::from(File::create(path)?),
            None => Stdio::null(),
        };
        machine.keep(move || {
            let mut command = tied("/usr/sbin/sshd");
            command
                .args(["-D", "-e", "-f", "/etc/ssh/sshd_config"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log);
            Ok(command)
        })?;
        Ok(())
    }
}
