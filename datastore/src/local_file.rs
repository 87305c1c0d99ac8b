//! Files of the front-end that users may register, by the rule of `libfs.sh`: below a SAFE dir is
//! allowed; below a RESTRICTED one is refused, and so are OpenNebula's own folders and
//! oneadmin's home; the rest is allowed. The file is opened first and its real path asked of
//! the kernel, so that no link can be changed in between (attack 6).

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use onedock_common::opennebula::image::Datastore;
use onedock_registry::Error as RegistryError;
use thiserror::Error;

/// Why a file is not read.
#[derive(Debug, Error)]
pub(crate) enum FileError {
    /// It cannot be opened.
    #[error("{path} cannot be read on the front-end", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The datastore forbids it.
    #[error("{path} is below {dir}, which the datastore restricts; put the file below one of its SAFE_DIRS ({safe})", path = path.display())]
    Restricted {
        /// The file's real path.
        path: PathBuf,
        /// The restricted folder.
        dir: String,
        /// The safe ones.
        safe: String,
    },
    /// A folder, a device or a pipe.
    #[error("{path} is not a file", path = path.display())]
    NotAFile {
        /// What it is called.
        path: PathBuf,
    },
}

/// An open file that the datastore allows.
#[derive(Debug)]
pub(crate) struct LocalFile {
    file: File,
    name: PathBuf,
}

impl LocalFile {
    pub(crate) fn open(path: &Path, datastore: &Datastore) -> Result<Self, FileError> {
        let failed = |source| FileError::Open {
            path: path.to_owned(),
            source,
        };
        // A pipe with nobody at its other end must not hold the driver.
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC | nix::libc::O_NOCTTY)
            .open(path)
            .map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        if kind.is_dir()
            || kind.is_fifo()
            || kind.is_char_device()
            || kind.is_block_device()
            || kind.is_socket()
        {
            return Err(FileError::NotAFile {
                path: path.to_owned(),
            });
        }
        let opened = Self {
            file,
            name: path.to_owned(),
        };
        let real = fs::read_link(opened.path()).map_err(failed)?;
        check(&real, datastore, &own_dirs())?;
        Ok(opened)
    }

    /// What the registry's side says of the file, under the name that the user gave it.
    pub(crate) fn said<T>(&self, result: Result<T, RegistryError>) -> Result<T, RegistryError> {
        result.map_err(|error| match error {
            RegistryError::Archive { path, reason } if path == self.path() => {
                let path = self.name.clone();
                RegistryError::Archive { path, reason }
            }
            RegistryError::File { path, source } if path == self.path() => {
                let path = self.name.clone();
                RegistryError::File { path, source }
            }
            RegistryError::Disk { path, reason } if path == self.path() => {
                let path = self.name.clone();
                RegistryError::Disk { path, reason }
            }
            other => other,
        })
    }

    /// The name that the user gave it.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }

    /// A path that leads to this open file, whatever happens to its name.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }
}

/// OpenNebula's state and configuration and the home of its user, as `libfs.sh` adds them.
fn own_dirs() -> Vec<String> {
    let mut dirs = match std::env::var("ONE_LOCATION") {
        Ok(location) if !location.is_empty() => {
            vec![format!("{location}/var"), format!("{location}/etc")]
        }
        _ => vec!["/var/lib/one".to_owned(), "/etc/one".to_owned()],
    };
    dirs.push("/etc/onedock".to_owned());
    dirs.extend(
        std::env::var("HOME")
            .ok()
            .filter(|home| home.starts_with('/')),
    );
    dirs
}

fn check(real: &Path, datastore: &Datastore, own: &[String]) -> Result<(), FileError> {
    if datastore.safe_dirs.iter().any(|dir| real.starts_with(dir)) {
        return Ok(());
    }
    match own
        .iter()
        .chain(&datastore.restricted_dirs)
        .find(|dir| real.starts_with(dir))
    {
        None => Ok(()),
        Some(dir) => Err(FileError::Restricted {
            path: real.to_owned(),
            dir: dir.clone(),
            safe: datastore.safe_dirs.join(" "),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datastore(safe: &str, restricted: &str) -> Datastore {
        let dirs = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Datastore {
            id: None,
            registry: None,
            default_registry: None,
            safe_dirs: dirs(safe),
            restricted_dirs: dirs(restricted),
            limit_mb: None,
            base_path: None,
        }
    }

    #[test]
    fn attack_6_only_files_below_safe_dirs_pass_the_default_restriction() {
        let own = ["/var/lib/one".to_owned()];
        let allowed = |path: &str, d: &Datastore| check(Path::new(path), d, &own).is_ok();
        let stock = datastore("/var/tmp", "/");
        assert!(allowed("/var/tmp/web.tar", &stock));
        assert!(!allowed("/etc/one/one_auth", &stock));
        assert!(!allowed("/var/tmpx/web.tar", &stock));
        let open = datastore("", "");
        assert!(allowed("/srv/web.tar", &open));
        assert!(!allowed("/var/lib/one/.ssh/id_rsa", &open));
    }

    #[test]
    fn attack_6_a_link_below_a_safe_dir_leads_to_where_it_points() {
        let dir = tempfile::tempdir().unwrap();
        let safe = dir.path().canonicalize().unwrap().join("safe");
        fs::create_dir(&safe).unwrap();
        let secret = dir.path().join("secret");
        fs::write(&secret, "x").unwrap();
        std::os::unix::fs::symlink(&secret, safe.join("web.tar")).unwrap();
        fs::write(safe.join("good.tar"), "x").unwrap();
        let datastore = datastore(safe.to_str().unwrap(), "/");
        assert!(matches!(
            LocalFile::open(&safe.join("web.tar"), &datastore),
            Err(FileError::Restricted { .. })
        ));
        assert!(LocalFile::open(&safe.join("good.tar"), &datastore).is_ok());
        assert!(matches!(
            LocalFile::open(&safe, &datastore),
            Err(FileError::NotAFile { .. })
        ));
    }
}
