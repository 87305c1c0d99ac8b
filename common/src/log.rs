//! The drivers' log: standard output and standard error belong to `oned`, so it goes to a file
//! that the drivers' user can write, each line with the action and the VM. Others cannot read
//! it: the last output of a VM that failed is in it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// A larger file is put aside as `<name>.1` when the next action begins, in bytes.
const ROTATE: u64 = 16 * 1024 * 1024;

/// Starts the log. Nothing is said when no file can be written: an action must not fail for it.
/// `ONEDOCK_LOG` holds a filter (`debug`, `onedock_vmm=trace`).
pub fn start() {
    let Some(file) = files().iter().find_map(|path| open(path)) else {
        return;
    };
    let filter = EnvFilter::try_from_env("ONEDOCK_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,bollard=info,hyper=warn"));
    let started = tracing_subscriber::fmt()
        .with_writer(Arc::new(file))
        .with_ansi(false)
        .with_target(false)
        .with_span_events(FmtSpan::NONE)
        .with_env_filter(filter)
        .try_init();
    // A second start in one process (a test) keeps the first.
    drop(started);
}

/// Front-end, self-contained front-end, node: the first that can be written is taken.
fn files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    if let Some(path) = std::env::var_os("ONEDOCK_LOGFILE") {
        files.push(path.into());
    }
    if let Some(location) = std::env::var_os("ONE_LOCATION") {
        files.push(Path::new(&location).join("var/onedock.log"));
    }
    files.push("/var/log/one/onedock.log".into());
    files.push("/var/lib/onedock/onedock.log".into());
    files
}

fn open(path: &Path) -> Option<File> {
    if fs::metadata(path).is_ok_and(|m| m.len() > ROTATE) {
        let _ = fs::rename(path, path.with_extension("log.1"));
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_log_is_closed_to_others_and_put_aside_when_it_is_large() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("onedock.log");
        let file = open(&path).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o007, 0);
        file.set_len(ROTATE + 1).unwrap();
        assert_eq!(open(&path).unwrap().metadata().unwrap().len(), 0);
        assert!(dir.path().join("onedock.log.1").exists());
    }
}
