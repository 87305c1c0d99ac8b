//! Programs that look at disks. What they look at is hostile, so that each has a deadline, an
//! empty environment and an answer of bounded length.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::process;

/// Where programs lie; never looked up in PATH.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// The most that is read of what one says, in bytes.
const MOST: u64 = 64 * 1024;

/// What a program has answered.
#[derive(Debug)]
pub(super) struct Said {
    /// Its exit code; none: a signal ended it.
    pub(super) code: Option<i32>,
    /// Its standard output.
    pub(super) out: String,
    /// Its standard error, on one line.
    pub(super) err: String,
}

/// Finds a program; `package` is the one to install.
pub(super) fn find(name: &str, package: &str) -> io::Result<PathBuf> {
    let found = FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        let text = format!("{name} is not installed on this host (Debian's package {package})");
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

/// Runs a program, and ends it with this one and after `limit`.
pub(super) fn run(path: &Path, arguments: &[&str], limit: Duration) -> io::Result<Said> {
    let child = process::spawn_bound(&mut command(path, arguments)).map_err(named(path))?;
    gather(path, child, limit)
}

/// Runs a program that must not be cut off, because what it works on would be damaged: it outlives
/// this one, and is ended only after a day.
pub(super) fn run_to_its_end(path: &Path, arguments: &[&str]) -> io::Result<Said> {
    let child = command(path, arguments).spawn().map_err(named(path))?;
    gather(path, child, Duration::from_secs(24 * 3600))
}

/// An error of a program that could not be started, with its name.
fn named(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let name = path.display().to_string();
    move |e| io::Error::new(e.kind(), format!("{name} cannot be started: {e}"))
}

fn command(path: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(path);
    command
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn gather(path: &Path, mut child: Child, limit: Duration) -> io::Result<Said> {
    let name = path.file_name().unwrap_or_default().display();
    thread::scope(|scope| {
        let out = child.stdout.take().map(|from| scope.spawn(|| read(from)));
        let err = child.stderr.take().map(|from| scope.spawn(|| read(from)));
        let status = process::wait(&mut child, limit)
            .map_err(|e| io::Error::new(e.kind(), format!("{name}: {e}")))?;
        let text = |thread: Option<thread::ScopedJoinHandle<'_, String>>| {
            thread.and_then(|t| t.join().ok()).unwrap_or_default()
        };
        let (out, err) = (text(out), text(err));
        Ok(Said {
            code: status.code(),
            out,
            err: err.split_whitespace().collect::<Vec<_>>().join(" "),
        })
    })
}

/// Reads all and keeps the beginning, so that the writer is never held up.
fn read(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.by_ref().take(MOST).read_to_end(&mut bytes);
    let _ = io::copy(&mut from, &mut io::sink());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_or_does_not_start_is_named() {
        let line = find("onedock-none", "none").unwrap_err().to_string();
        assert_eq!(
            line,
            "onedock-none is not installed on this host (Debian's package none)"
        );
        let path = Path::new("/usr/bin/onedock-none");
        for failed in [
            run(path, &[], Duration::from_secs(5)),
            run_to_its_end(path, &[]),
        ] {
            let line = failed.unwrap_err().to_string();
            assert!(
                line.starts_with("/usr/bin/onedock-none cannot be started: No such file"),
                "{line}"
            );
        }
    }
}
