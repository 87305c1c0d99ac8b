//! `onedock.conf`: ONEDock's configuration file, `KEY=value` in the shell's syntax, in the
//! `remotes` folder so that it travels with the drivers to every host. Only assignments are
//! read; nothing in it is executed.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::opennebula::nic::{DEFAULT_PREFIX, prefix_of_mask};
use crate::state::files;
use crate::types::decimal::{parse_u32, parse_whole};
use crate::types::dns::NameServer;
use crate::types::reference::RegistryName;
use crate::types::registry_pattern::RegistryPattern;

/// Where the credentials of registries lie, in the engine's `auth.json` format, readable for
/// root and oneadmin only.
pub const AUTH_FILE: &str = "/etc/onedock/registry-auth.json";

/// How many images one datastore imports at a time: `one_datastore` has 15 threads (`-t 15` in
/// `oned.conf`), and the others are for everybody else.
const IMPORTS: usize = 8;

/// How many processes and threads a VM may have: more than the programs of a machine have in use, and an
/// eighth of what the kernel alone lets a host have (`kernel.pid_max`; with systemd it is 4194304).
const PIDS: u32 = 4096;

/// Of processes and threads no kernel has as many (PID_MAX_LIMIT of 64 bits).
const MOST_PIDS: u32 = 1 << 22;

/// Why the configuration could not be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file is there and cannot be read.
    #[error("configuration {path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A line is no assignment, or a value is not what its key takes.
    #[error("configuration {path}, line {line}: {problem}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

/// The configuration of this host. A key that is absent has ONEDock's default.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// LOCAL_SERVER: the private registry, by a name that every host resolves.
    pub local_server: Option<RegistryName>,
    /// ONEDOCK_DEFAULT_DOCKERRUN: the command of images that have no DOCKERRUN.
    pub default_dockerrun: Option<String>,
    /// ONEDOCK_DEFAULT_NETMASK: the prefix of an IPv4 address whose mask nobody names, 24;
    /// given as a prefix or in dotted form.
    pub default_prefix: u8,
    /// ONEDOCK_OVERRIDE_DNS: name servers behind those of the networks.
    pub override_dns: Vec<NameServer>,
    /// ONEDOCK_DEPLOY_WATCH_MS: how long `deploy` watches the first process, 20 ms.
    pub deploy_watch: Duration,
    /// ONEDOCK_STOP_TIMEOUT: seconds between the stop signal and KILL, 30.
    pub stop_grace: Duration,
    /// ONEDOCK_PIDS_LIMIT: processes and threads that one VM may have at a time, 4096; 0 for no bound.
    pub pids: u32,
    /// ONEDOCK_PLATFORMS: platforms to keep of multi-platform images in place of the hosts'.
    pub platforms: Vec<String>,
    /// ONEDOCK_INSECURE_REGISTRIES: registries that may speak plain HTTP and whose certificate is
    /// not checked.
    pub insecure_registries: Vec<RegistryName>,
    /// ONEDOCK_REGISTRY_MIRRORS: `registry=URL` pairs: ask there in the registry's place.
    pub mirrors: Vec<(RegistryName, String)>,
    /// ONEDOCK_USER_REGISTRIES: the registries that users may name, all when there are none; one that is
    /// named in full may be at an address of the front-end.
    pub user_registries: Vec<RegistryPattern>,
    /// ONEDOCK_IMPORTS: how many images one datastore imports at a time, 8.
    pub imports: usize,
    /// DATASTORE_DATA_PATH: where the private registry keeps its data, for the datastore's size.
    pub data_path: PathBuf,
    /// ONEDOCK_REGISTRY_AUTH: the credentials file.
    pub auth_file: PathBuf,
    /// ONEDOCK_CERTS_DIR: CA certificates of registries, in the engine's layout.
    pub certs_dir: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            local_server: None,
            default_dockerrun: None,
            default_prefix: DEFAULT_PREFIX,
            override_dns: Vec::new(),
            deploy_watch: Duration::from_millis(20),
            stop_grace: Duration::from_secs(30),
            pids: PIDS,
            platforms: Vec::new(),
            insecure_registries: Vec::new(),
            mirrors: Vec::new(),
            user_registries: Vec::new(),
            imports: IMPORTS,
            data_path: "/var/lib/docker-registry".into(),
            auth_file: AUTH_FILE.into(),
            certs_dir: "/etc/docker/certs.d".into(),
        }
    }
}

impl Config {
    /// The file for this program: `ONEDOCK_CONF`, else `onedock.conf` in the `remotes` folder
    /// that the running binary lies in (`remotes/onedock/<architecture>/<binary>`). No file
    /// means all defaults.
    pub fn load() -> Result<Self, ConfigError> {
        match Self::place() {
            Some(path) => Self::read(&path),
            None => Ok(Self::default()),
        }
    }

    /// Where the file of this program is, or would be.
    pub fn place() -> Option<PathBuf> {
        let program = std::env::current_exe().ok();
        Self::file(std::env::var_os("ONEDOCK_CONF"), program.as_deref())
    }

    fn file(named: Option<OsString>, program: Option<&Path>) -> Option<PathBuf> {
        if let Some(path) = named {
            return Some(path.into());
        }
        Some(program?.ancestors().nth(3)?.join("onedock.conf"))
    }

    /// Reads one file; one that is not there means all defaults.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        match files::read_bounded(path, 1 << 20) {
            Ok(bytes) => Self::parse(&String::from_utf8_lossy(&bytes), path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for (number, line) in text.lines().enumerate() {
            let wrong = |problem: String| ConfigError::Wrong {
                path: path.to_owned(),
                line: number + 1,
                problem,
            };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let words = shell_words::split(line).map_err(|e| wrong(e.to_string()))?;
            // A comment may follow the assignment.
            let mut words = words.iter().map(String::as_str);
            let assignment = words.find(|word| *word != "export").unwrap_or_default();
            let (key, value) = assignment
                .split_once('=')
                .ok_or_else(|| wrong(format!("\"{assignment}\" is not KEY=value")))?;
            let known = config
                .set(key, value.trim())
                .map_err(|problem| wrong(format!("{key}: {problem}")))?;
            if !known {
                // ONEDock had keys that nothing needs any more; a site's file stays valid.
                tracing::debug!(key, "configuration key without a meaning here");
            }
        }
        Ok(config)
    }

    /// Whether the key has a meaning.
    fn set(&mut self, key: &str, value: &str) -> Result<bool, String> {
        let said = (!value.is_empty()).then_some(value);
        match key {
            "LOCAL_SERVER" => self.local_server = said.map(read).transpose()?,
            "ONEDOCK_DEFAULT_DOCKERRUN" => self.default_dockerrun = said.map(str::to_owned),
            "ONEDOCK_DEFAULT_NETMASK" => {
                self.default_prefix = said
                    .map(prefix_of_mask)
                    .transpose()?
                    .unwrap_or(DEFAULT_PREFIX);
            }
            "ONEDOCK_OVERRIDE_DNS" => self.override_dns = list(value)?,
            "ONEDOCK_DEPLOY_WATCH_MS" => {
                if let Some(text) = said {
                    let ms = parse_whole(text).map_err(|e| e.to_string())?;
                    self.deploy_watch = Duration::from_millis(ms.min(60_000));
                }
            }
            "ONEDOCK_STOP_TIMEOUT" => {
                if let Some(text) = said {
                    let seconds = parse_u32(text).map_err(|e| e.to_string())?;
                    self.stop_grace = Duration::from_secs(u64::from(seconds.min(3600)));
                }
            }
            "ONEDOCK_PIDS_LIMIT" => self.pids = said.map_or(Ok(PIDS), read_pids)?,
            "ONEDOCK_PLATFORMS" => self.platforms = list(value)?,
            "ONEDOCK_INSECURE_REGISTRIES" => self.insecure_registries = list(value)?,
            "ONEDOCK_REGISTRY_MIRRORS" => {
                self.mirrors = value
                    .split_whitespace()
                    .map(read_mirror)
                    .collect::<Result<_, _>>()?;
            }
            "ONEDOCK_USER_REGISTRIES" => self.user_registries = list(value)?,
            "ONEDOCK_IMPORTS" => {
                if let Some(text) = said {
                    let count = parse_u32(text).map_err(|e| e.to_string())?;
                    self.imports = usize::try_from(count).unwrap_or(IMPORTS).max(1);
                }
            }
            "DATASTORE_DATA_PATH" => {
                if let Some(path) = said {
                    self.data_path = path.into();
                }
            }
            "ONEDOCK_REGISTRY_AUTH" => self.auth_file = said.unwrap_or(AUTH_FILE).into(),
            "ONEDOCK_CERTS_DIR" => {
                if let Some(path) = said {
                    self.certs_dir = path.into();
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn read<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: T::Err| e.to_string())
}

fn list<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<Vec<T>, String> {
    text.split([' ', ','])
        .filter(|t| !t.is_empty())
        .map(read)
        .collect()
}

fn read_pids(text: &str) -> Result<u32, String> {
    let pids = parse_u32(text).map_err(|e| e.to_string())?;
    if pids < MOST_PIDS {
        Ok(pids)
    } else {
        Err(format!(
            "{pids} is more than any kernel has (4194303 at most); 0 means no bound"
        ))
    }
}

fn read_mirror(text: &str) -> Result<(RegistryName, String), String> {
    let (registry, url) = text
        .split_once('=')
        .ok_or_else(|| format!("\"{text}\" is not registry=URL"))?;
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(format!("\"{url}\" is not an http or https URL"));
    }
    Ok((read(registry)?, url.trim_end_matches('/').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("onedock.conf"))
    }

    #[test]
    fn the_file_lies_in_the_remotes_folder_of_the_program_or_where_the_variable_says() {
        let program = Path::new("/var/tmp/one/onedock/x86_64/onedock-vmm");
        assert_eq!(
            Config::file(None, Some(program)),
            Some("/var/tmp/one/onedock.conf".into())
        );
        assert_eq!(
            Config::file(Some("/etc/own.conf".into()), Some(program)),
            Some("/etc/own.conf".into())
        );
        assert_eq!(Config::file(None, None), None);
        assert_eq!(Config::file(None, Some(Path::new("/x"))), None);
    }

    #[test]
    fn a_file_that_is_missing_means_the_defaults_and_one_that_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("onedock.conf");
        let missing = Config::read(&path).unwrap();
        assert_eq!(missing.deploy_watch, Config::default().deploy_watch);
        // A file of a few kilobytes, most of them comments.
        let comments = format!("# {}\n", "x".repeat(70)).repeat(100);
        std::fs::write(&path, format!("{comments}ONEDOCK_DEPLOY_WATCH_MS=7\n")).unwrap();
        let read = Config::read(&path).unwrap();
        assert_eq!(read.deploy_watch, Duration::from_millis(7));
        let error = Config::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&dir.path().display().to_string()), "{error}");
    }

    #[test]
    fn an_onedock_site_s_file_is_read() {
        let config = parse(
            "# comment\nLOCAL_SERVER=dockerregistry:5000\nONEDOCK_FOLDER=/var/tmp/one/onedock\n\
             DELETE_LOCAL_IMAGES=yes\nONEDOCK_OVERRIDE_DNS=\"8.8.8.8 fe80::1%eth0\"\n\
             ONEDOCK_DEFAULT_DOCKERRUN='/bin/bash -l' # keeps it alive\n",
        )
        .unwrap();
        assert_eq!(
            config.local_server.unwrap().to_string(),
            "dockerregistry:5000"
        );
        assert_eq!(config.override_dns.len(), 2);
        assert_eq!(config.default_dockerrun.as_deref(), Some("/bin/bash -l"));
        assert_eq!(config.deploy_watch, Duration::from_millis(20));
    }

    #[test]
    fn the_shipped_file_says_the_defaults_and_every_key_of_it_has_a_meaning() {
        let shipped = include_str!("../../../packaging/onedock.conf");
        assert_eq!(parse(shipped).unwrap(), Config::default());
        for line in shipped.lines() {
            let line = line.trim_start_matches(['#', ' ']);
            let key = line.split('=').next().unwrap_or_default();
            if line.contains('=') && key.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') {
                assert_eq!(Config::default().set(key, ""), Ok(true), "{key}");
            }
        }
    }

    #[test]
    fn a_line_may_export_its_key_and_a_mask_may_be_dotted() {
        let mask = |text: &str| parse(text).map(|c| c.default_prefix);
        assert_eq!(
            mask("export ONEDOCK_DEFAULT_NETMASK=255.255.0.0").unwrap(),
            16
        );
        assert_eq!(mask("ONEDOCK_DEFAULT_NETMASK=20").unwrap(), 20);
        assert!(mask("ONEDOCK_DEFAULT_NETMASK=33").is_err());
        assert!(mask("export").is_err());
    }

    #[test]
    fn an_empty_value_is_no_value() {
        let config =
            parse("LOCAL_SERVER=\nONEDOCK_OVERRIDE_DNS=\"\"\nONEDOCK_DEFAULT_DOCKERRUN=\n")
                .unwrap();
        assert_eq!(config, Config::default());
    }

    #[test]
    fn a_wrong_line_is_named_with_its_number() {
        for (text, line) in [
            ("\nONEDOCK_OVERRIDE_DNS=nowhere", "line 2"),
            ("LOCAL_SERVER=\"a b\"", "line 1"),
            ("ONEDOCK_DEPLOY_WATCH_MS=+5", "line 1"),
            ("rm -rf /", "line 1"),
            ("A='open", "line 1"),
            ("ONEDOCK_REGISTRY_MIRRORS=docker.io=ftp://x", "line 1"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(line), "{error}");
        }
    }

    #[test]
    fn logins_certificates_and_mirrors_are_where_the_site_says() {
        let config = parse(
            "ONEDOCK_REGISTRY_AUTH=/etc/one/auth.json\nONEDOCK_CERTS_DIR=/etc/one/certs\n\
             ONEDOCK_REGISTRY_MIRRORS=docker.io=https://mirror.lan/",
        );
        let config = config.unwrap();
        assert_eq!(config.auth_file, Path::new("/etc/one/auth.json"));
        assert_eq!(config.certs_dir, Path::new("/etc/one/certs"));
        assert_eq!(config.mirrors.len(), 1);
        for url in ["http://mirror.lan", "https://mirror.lan"] {
            assert!(read_mirror(&format!("docker.io={url}")).is_ok(), "{url}");
        }
        assert!(read_mirror("docker.io=ftp://mirror.lan").is_err());
    }

    #[test]
    fn registries_for_users_are_patterns_and_at_least_one_image_is_imported() {
        let config = parse("ONEDOCK_USER_REGISTRIES=\"docker.io, *.lan:5000\"\nONEDOCK_IMPORTS=0");
        let config = config.unwrap();
        let read = |text: &str| text.parse().unwrap();
        assert_eq!(
            config.user_registries,
            [read("docker.io"), read("*.lan:5000")]
        );
        assert_eq!(config.imports, 1);
        assert_eq!(parse("ONEDOCK_IMPORTS=3").unwrap().imports, 3);
        assert!(parse("ONEDOCK_USER_REGISTRIES=*x").is_err());
        assert!(parse("ONEDOCK_IMPORTS=many").is_err());
    }

    #[test]
    fn the_processes_of_a_vm_are_bounded_unless_the_site_lifts_it() {
        assert_eq!(parse("ONEDOCK_PIDS_LIMIT=").unwrap().pids, PIDS);
        assert_eq!(parse("ONEDOCK_PIDS_LIMIT=100").unwrap().pids, 100);
        assert_eq!(parse("ONEDOCK_PIDS_LIMIT=0").unwrap().pids, 0);
        assert_eq!(parse("ONEDOCK_PIDS_LIMIT=4194303").unwrap().pids, 4_194_303);
        for bad in ["-1", "4194304", "many"] {
            assert!(
                parse(&format!("ONEDOCK_PIDS_LIMIT={bad}")).is_err(),
                "{bad}"
            );
        }
    }
}
