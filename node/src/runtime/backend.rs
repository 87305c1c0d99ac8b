//! The runtime that stands behind this one.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use onedock_common::state::files;

use thiserror::Error;

use crate::owned;

/// The file in which `onedock setup node` names the runtime: one line, an absolute path.
pub(crate) const CHOICE: &str = "/etc/onedock/runtime";

/// Where a runtime lies when nobody has chosen one; the first that is there.
const USUAL: [&str; 3] = ["/usr/bin/crun", "/usr/bin/runc", "/usr/sbin/runc"];

/// Why there is no runtime.
#[derive(Debug, Error)]
pub enum NoRuntime {
    /// The choice cannot be read.
    #[error("{CHOICE} cannot be read: {0}")]
    Read(io::Error),
    /// The choice is not what root may run.
    #[error("{path} in {CHOICE} is not a runtime: {reason}; run \"onedock setup node\"")]
    Chosen {
        /// What was chosen.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nothing is installed.
    #[error("neither crun nor runc is installed; run \"onedock setup node\"")]
    None,
}

/// The runtime for a new container.
pub(crate) fn choose() -> Result<PathBuf, NoRuntime> {
    choose_from(Path::new(CHOICE), &USUAL.map(Path::new))
}

fn choose_from(choice: &Path, usual: &[&Path]) -> Result<PathBuf, NoRuntime> {
    match files::read_bounded(choice, 4096) {
        Ok(bytes) => {
            if let Err(reason) = owned::is_roots(choice) {
                return Err(NoRuntime::Read(io::Error::other(reason)));
            }
            let text = String::from_utf8_lossy(&bytes);
            let path = PathBuf::from(text.trim());
            match runnable(&path) {
                Ok(()) => Ok(path),
                Err(reason) => Err(NoRuntime::Chosen { path, reason }),
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => usual
            .iter()
            .find(|path| runnable(path).is_ok())
            .map(|path| path.to_path_buf())
            .ok_or(NoRuntime::None),
        Err(e) => Err(NoRuntime::Read(e)),
    }
}

/// Whether root may run what lies there.
fn runnable(path: &Path) -> Result<(), &'static str> {
    if !path.is_absolute() {
        return Err("the path is not absolute");
    }
    let meta = fs::metadata(path).map_err(|_| "there is no such file")?;
    if !meta.is_file() || meta.mode() & 0o111 == 0 {
        return Err("it is not an executable file");
    }
    owned::is_roots(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_choice_of_setup_holds_and_must_be_roots_alone() {
        let dir = tempfile::tempdir().unwrap();
        let choice = dir.path().join("runtime");
        let tool = dir.path().join("crun");
        fs::write(&tool, "#!").unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        let usual = [Path::new("/nonexistent"), tool.as_path()];
        assert_eq!(choose_from(&choice, &usual).unwrap(), tool);

        fs::write(&choice, format!("{}\n", tool.display())).unwrap();
        assert_eq!(choose_from(&choice, &[]).unwrap(), tool);

        for bad in ["runc", "/nonexistent/runc", ""] {
            fs::write(&choice, bad).unwrap();
            assert!(choose_from(&choice, &usual).is_err(), "{bad:?}");
        }
        fs::write(&choice, tool.display().to_string()).unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(choose_from(&choice, &usual).is_err());
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&choice, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(choose_from(&choice, &usual).is_err());
    }
}
