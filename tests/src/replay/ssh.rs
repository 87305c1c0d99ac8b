//! Real ssh between the machines of a replay: a daemon on each, and for `oneadmin` everywhere the same
//! keys, as OpenNebula's documentation asks.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::cloud::Oneadmin;
use crate::machine::{Machine, tied};

/// The machines' names in the recordings and their addresses in the network that they share.
pub const HOSTS: [(&str, &str); 3] = [
    ("vm", "127.0.0.10"),
    ("node1", "127.0.0.11"),
    ("node2", "127.0.0.12"),
];

/// Keys of one replay.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    folder: PathBuf,
}

impl Keys {
    /// Makes a host key and a user's key in `folder`.
    pub(super) fn make(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        for name in ["host", "id_ed25519"] {
            let path = folder.join(name);
            let status = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
                .arg(&path)
                .status()
                .context("ssh-keygen cannot be run; install the package openssh-client")?;
            ensure!(status.success(), "ssh-keygen failed");
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Lets `oneadmin` in and out of a machine, by which of [`HOSTS`] it is.
    pub(super) fn bring(&self, machine: &Machine, name: &str, who: Oneadmin) -> Result<()> {
        let address = HOSTS.iter().find(|(known, _)| *known == name);
        let address = address.context("no such host")?.1;
        let (keys, folder) = (self.folder.clone(), machine.folder().join("sshd"));
        machine.inside(|| {
            fs::create_dir_all("/run/sshd")?;
            fs::create_dir_all(&folder)?;
            let key = folder.join("host");
            fs::copy(keys.join("host"), &key)?;
            fs::set_permissions(&key, Permissions::from_mode(0o600))?;
            fs::write(
                folder.join("config"),
                format!(
                    "ListenAddress {address}:22\nHostKey {}\nPidFile none\nUsePAM no\n\
                     AuthorizedKeysFile /var/lib/one/.ssh/authorized_keys\n\
                     PasswordAuthentication no\nMaxStartups 100\nMaxSessions 100\nStrictModes no\n",
                    key.display()
                ),
            )?;
            let home = Path::new("/var/lib/one/.ssh");
            fs::create_dir_all(home)?;
            let host = fs::read_to_string(keys.join("host.pub"))?;
            let known: String = HOSTS
                .iter()
                .map(|(name, address)| format!("{name},{address} {host}"))
                .collect();
            let config: String = HOSTS
                .iter()
                .map(|(name, address)| format!("Host {name}\n  HostName {address}\n"))
                .collect();
            let public = fs::read_to_string(keys.join("id_ed25519.pub"))?;
            let private = fs::read_to_string(keys.join("id_ed25519"))?;
            for (name, text) in [
                ("known_hosts", known.as_str()),
                ("config", config.as_str()),
                ("authorized_keys", public.as_str()),
                ("id_ed25519", private.as_str()),
            ] {
                let path = home.join(name);
                fs::write(&path, text)?;
                fs::set_permissions(&path, Permissions::from_mode(0o600))?;
                chown(&path, Some(who.uid), Some(who.gid))?;
            }
            fs::set_permissions(home, Permissions::from_mode(0o700))?;
            Ok(chown(home, Some(who.uid), Some(who.gid))?)
        })?;
        let config = machine.folder().join("sshd/config");
        let log = machine.folder().join("sshd/log");
        machine
            .keep(move || {
                // It wants to be called by its whole name.
                let mut command = tied("/usr/sbin/sshd");
                command.args(["-D", "-f"]).arg(config).arg("-E").arg(log);
                Ok(command)
            })
            .map(drop)
    }
}
