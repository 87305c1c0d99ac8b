//! The join file: all that a node needs of its cloud, in one file that root alone reads. It
//! holds the nodes' account of the registry, so it travels by a way the administrator trusts.
//! oneadmin's private key is not in it unless the administrator asks for it: a node that has it is
//! every node and the front-end (docs/decisions/0040-what-a-node-holds.md).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use onedock_common::types::reference::RegistryName;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::secret::Secret;

/// Where `setup registry` writes it.
pub const PATH: &str = "/etc/onedock/join.json";

const VERSION: u32 = 1;
/// The keys that may log in (sshd(8)).
const AUTHORIZED_KEYS: &str = "authorized_keys";

/// What a node needs to know of the front-end and the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The private registry.
    pub registry: RegistryName,
    /// Its certificate authority, PEM.
    pub ca: String,
    /// The nodes' account.
    pub user: String,
    pub password: Secret,
    /// Where the datastores lie on every machine.
    pub datastores: PathBuf,
    /// Where the front-end puts its drivers on every node (SCRIPTS_REMOTE_DIR), when it is known.
    pub remote_scripts: Option<PathBuf>,
    /// The number of oneadmin and of its group on the front-end, when they are known.
    pub ids: Option<(u32, u32)>,
    /// oneadmin's ssh files by name.
    pub ssh: BTreeMap<String, Secret>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    version: u32,
    registry: String,
    ca: String,
    user: String,
    password: Secret,
    datastores: PathBuf,
    #[serde(default)]
    remote_scripts: Option<PathBuf>,
    ids: Option<(u32, u32)>,
    ssh: BTreeMap<String, Secret>,
}

impl Join {
    /// Reads and checks a join file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
        Self::parse(&text)
            .map_err(|why| Error::refused(format!("the join file {} {why}", path.display())))
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        let raw: Raw = serde_json::from_str(text).map_err(|e| format!("is no join file: {e}"))?;
        if raw.version != VERSION {
            return Err(format!(
                "has version {}, this program reads {VERSION}: install the same release on both \
                 machines",
                raw.version
            ));
        }
        if let Some(name) = raw.ssh.keys().find(|n| !is_ssh_name(n)) {
            return Err(format!("names an ssh file \"{name}\" that is none"));
        }
        if !raw.datastores.is_absolute() {
            return Err("has a datastores folder that is no absolute path".into());
        }
        let scripts = raw.remote_scripts.as_deref();
        if scripts.is_some_and(|folder| !is_scripts_folder(folder)) {
            return Err("has a folder of the drivers that is no absolute path".into());
        }
        if raw.user.is_empty() || raw.user.contains(':') {
            return Err("has no user of the registry".into());
        }
        Ok(Self {
            registry: raw
                .registry
                .parse()
                .map_err(|e| format!("has a wrong registry: {e}"))?,
            ca: raw.ca,
            user: raw.user,
            password: raw.password,
            datastores: raw.datastores,
            remote_scripts: raw.remote_scripts,
            ids: raw.ids,
            ssh: raw.ssh,
        })
    }

    /// The file's text.
    pub fn render(&self) -> Result<String> {
        let raw = Raw {
            version: VERSION,
            registry: self.registry.as_str().to_owned(),
            ca: self.ca.clone(),
            user: self.user.clone(),
            password: self.password.clone(),
            datastores: self.datastores.clone(),
            remote_scripts: self.remote_scripts.clone(),
            ids: self.ids,
            ssh: self.ssh.clone(),
        };
        serde_json::to_string_pretty(&raw)
            .map(|text| text + "\n")
            .map_err(|e| Error::refused(format!("the join file cannot be written: {e}")))
    }
}

/// Whether a folder can be that of the drivers on a node: an absolute path, in characters that
/// need no quotes in the files it is written to.
pub fn is_scripts_folder(path: &Path) -> bool {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/._-".contains(b);
    path.is_absolute()
        && path.as_os_str().as_encoded_bytes().iter().all(plain)
        && path
            .components()
            .all(|c| c != std::path::Component::ParentDir)
        && path.parent().is_some()
}

/// Whether a file of `~/.ssh` is one that travels: keys, their public halves, and what ssh knows
/// and trusts.
pub fn is_ssh_name(name: &str) -> bool {
    let plain =
        |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    matches!(name, "authorized_keys" | "known_hosts" | "config")
        || name
            .strip_prefix("id_")
            .is_some_and(|n| plain(n.strip_suffix(".pub").unwrap_or(n)))
}

/// Whether these files let the front-end in: whether they trust any key.
pub fn trusts_a_key(files: &BTreeMap<String, Secret>) -> bool {
    let is_key = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    files
        .get(AUTHORIZED_KEYS)
        .is_some_and(|list| list.reveal().lines().any(is_key))
}

/// Whether there is a private key among these files.
pub fn has_private_key(files: &BTreeMap<String, Secret>) -> bool {
    let mut names = files.keys();
    names.any(|name| name.starts_with("id_") && !name.ends_with(".pub"))
}

/// What a node gets of oneadmin's ssh files: whom to trust and whom to know, the front-end's own keys
/// among the trusted ones. Private keys only where they are asked for.
pub fn ssh_files_for_nodes(folder: &Path, private_keys: bool) -> BTreeMap<String, Secret> {
    let mut files = ssh_files(folder);
    let mut trusted = files
        .get(AUTHORIZED_KEYS)
        .map_or_else(String::new, |list| list.reveal().to_owned());
    let public = files.iter().filter(|(name, _)| name.ends_with(".pub"));
    for line in public.flat_map(|(_, key)| key.reveal().lines()) {
        if !line.trim().is_empty() && !trusted.lines().any(|known| known == line) {
            if !trusted.is_empty() && !trusted.ends_with('\n') {
                trusted.push('\n');
            }
            trusted.push_str(line);
            trusted.push('\n');
        }
    }
    if !trusted.is_empty() {
        files.insert(AUTHORIZED_KEYS.to_owned(), Secret::new(trusted));
    }
    files.retain(|name, _| private_keys || !name.starts_with("id_"));
    files
}

/// oneadmin's ssh files on this machine.
pub fn ssh_files(folder: &Path) -> BTreeMap<String, Secret> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_ssh_name(&name) {
            continue;
        }
        if let Ok(text) = fs::read_to_string(entry.path()) {
            files.insert(name, Secret::new(text));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join() -> Join {
        Join {
            registry: "frontend:5000".parse().unwrap(),
            ca: "PEM".into(),
            user: "onedock-node".into(),
            password: Secret::new("p"),
            datastores: "/var/lib/one/datastores".into(),
            remote_scripts: Some("/var/tmp/one".into()),
            ids: Some((9869, 9869)),
            ssh: BTreeMap::from([("id_ed25519".to_owned(), Secret::new("k"))]),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = join().render().unwrap();
        assert_eq!(Join::parse(&text).unwrap(), join());
        assert!(!format!("{:?}", join()).contains("\"k\""));
    }

    #[test]
    fn a_node_gets_whom_to_trust_and_a_private_key_only_where_it_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("id_ed25519", "PRIVATE\n");
        write("known_hosts", "node1 ssh-ed25519 AAAA\n");
        assert!(!trusts_a_key(&ssh_files_for_nodes(dir.path(), true)));
        write("id_ed25519.pub", "ssh-ed25519 FRONT oneadmin\n");
        let files = ssh_files_for_nodes(dir.path(), false);
        let names: Vec<_> = files.keys().map(String::as_str).collect();
        assert_eq!(names, ["authorized_keys", "known_hosts"]);
        assert!(trusts_a_key(&files));
        for (trusted, expected) in [
            ("ssh-rsa X\n", "ssh-rsa X\nssh-ed25519 FRONT oneadmin\n"),
            ("ssh-rsa X", "ssh-rsa X\nssh-ed25519 FRONT oneadmin\n"),
            (
                "ssh-ed25519 FRONT oneadmin\n",
                "ssh-ed25519 FRONT oneadmin\n",
            ),
        ] {
            write("authorized_keys", trusted);
            let files = ssh_files_for_nodes(dir.path(), false);
            assert_eq!(files["authorized_keys"].reveal(), expected);
        }
        let files = ssh_files_for_nodes(dir.path(), true);
        assert_eq!(files["id_ed25519"].reveal(), "PRIVATE\n");
    }

    #[test]
    fn a_list_without_a_key_lets_nobody_in() {
        for (list, expected) in [("", false), ("# none\n\n", false), ("ssh-rsa X\n", true)] {
            let files = [("authorized_keys".to_owned(), Secret::new(list))];
            assert_eq!(trusts_a_key(&files.into()), expected, "{list:?}");
        }
    }

    #[test]
    fn a_file_of_an_earlier_version_says_nothing_of_the_drivers_folder() {
        let text = join().render().unwrap();
        let lines = text.lines().filter(|l| !l.contains("remote_scripts"));
        let earlier = lines.collect::<Vec<_>>().join("\n");
        assert_eq!(Join::parse(&earlier).unwrap().remote_scripts, None);
    }

    #[test]
    fn attack_the_folder_of_the_drivers_cannot_be_another_line_or_a_way_out() {
        for bad in ["", "/", "x", "/a/../b", "/a b", "/a\nd /etc 0777", "/a'b"] {
            let mut wrong = join();
            wrong.remote_scripts = Some(bad.into());
            assert!(Join::parse(&wrong.render().unwrap()).is_err(), "{bad}");
        }
    }

    #[test]
    fn attack_a_file_name_in_a_join_file_cannot_leave_the_ssh_folder() {
        for name in [
            "../x",
            "id_../x",
            "id_",
            "rc",
            "environment",
            "id_a/b",
            ".pub",
        ] {
            assert!(!is_ssh_name(name), "{name}");
            let mut bad = join();
            bad.ssh.insert(name.into(), Secret::new(""));
            assert!(Join::parse(&bad.render().unwrap()).is_err());
        }
        for name in [
            "id_rsa",
            "id_ed25519.pub",
            "config",
            "known_hosts",
            "authorized_keys",
        ] {
            assert!(is_ssh_name(name), "{name}");
        }
    }
}
