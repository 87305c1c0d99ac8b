//! The programs that know file systems and qcow2: found in fixed folders, called with arguments as
//! they are, within a deadline, and quoted in one line when they fail.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use super::DiskFileError;
use crate::types::text::folded;

/// Where programs are looked for: the drivers' own PATH lacks the `sbin` folders.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// How much of what a program says is kept, in bytes.
const KEPT: u64 = 64 * 1024;
/// How much of it is told, in bytes.
const TOLD: usize = 300;

/// A program, and the Debian package that has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) package: &'static str,
}

/// What a program that ended by itself said.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    stderr: String,
}

/// One call: which program, for which file, how long, and how large that file is to become.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) program: Program,
    pub(super) path: &'a Path,
    pub(super) limit: Duration,
    pub(super) bytes: u64,
}

impl Call<'_> {
    /// Runs it; any exit code but 0 is an error.
    pub(super) async fn run(&self, arguments: &[&OsStr]) -> Result<(), DiskFileError> {
        self.run_until(arguments, &[0]).await.map(drop)
    }

    /// Runs it; any exit code but these is an error.
    pub(super) async fn run_until(
        &self,
        arguments: &[&OsStr],
        good: &[i32],
    ) -> Result<Ended, DiskFileError> {
        let ended = self.spawn(arguments).await?;
        match ended.code {
            Some(code) if good.contains(&code) => Ok(ended),
            code => Err(self.failed(code, &ended)),
        }
    }

    fn failed(&self, code: Option<i32>, ended: &Ended) -> DiskFileError {
        let path = self.path.to_owned();
        if ended.stderr.contains("No space left on device") {
            return DiskFileError::NoSpace {
                path,
                bytes: self.bytes,
                source: io::Error::from(io::ErrorKind::StorageFull),
            };
        }
        let mut said = folded(&ended.stderr, TOLD);
        if said.is_empty() {
            said = folded(&ended.stdout, TOLD);
        }
        if said.is_empty() {
            said = match code {
                Some(code) => format!("it ended with code {code} and said nothing"),
                None => "it was killed".to_owned(),
            };
        }
        DiskFileError::Program {
            program: self.program.name,
            path,
            said,
        }
    }

    async fn spawn(&self, arguments: &[&OsStr]) -> Result<Ended, DiskFileError> {
        let Program { name, package } = self.program;
        let missing = || DiskFileError::NoProgram {
            program: name,
            package,
        };
        let program = find(name, &FOLDERS).ok_or_else(missing)?;
        let io = |source| DiskFileError::Io {
            what: name,
            path: self.path.to_owned(),
            source,
        };
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", FOLDERS.join(":"))
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => missing(),
                _ => io(e),
            })?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let (stdout, stderr) = tokio::join!(gather(out), gather(err));
            Ok((child.wait().await?, stdout?, stderr?))
        };
        let (status, stdout, stderr) = match timeout(self.limit, work).await {
            Ok(ended) => ended.map_err(io)?,
            Err(_) => {
                // Dead before the answer, so that it writes nothing afterwards.
                child.kill().await.map_err(io)?;
                return Err(DiskFileError::Late {
                    program: name,
                    path: self.path.to_owned(),
                    limit: self.limit,
                });
            }
        };
        Ok(Ended {
            code: status.code(),
            stdout,
            stderr,
        })
    }
}

/// Reads all, keeps the beginning.
async fn gather(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let Some(mut pipe) = pipe else {
        return Ok(String::new());
    };
    let mut bytes = Vec::new();
    (&mut pipe).take(KEPT).read_to_end(&mut bytes).await?;
    tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn find(name: &str, folders: &[&str]) -> Option<PathBuf> {
    folders
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| {
            path.metadata()
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &'static str, limit: Duration) -> Call<'static> {
        Call {
            program: Program {
                name,
                package: "nothing-has-it",
            },
            path: Path::new("/srv/disk.3"),
            limit,
            bytes: 7,
        }
    }

    fn block<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(work)
    }

    #[test]
    fn a_program_that_is_not_there_names_its_package() {
        let call = call("mkfs.nothing", Duration::from_secs(5));
        let error = block(call.run(&[])).unwrap_err().to_string();
        assert!(
            error.contains("install the package nothing-has-it"),
            "{error}"
        );
    }

    #[test]
    fn a_program_that_hangs_is_ended_at_its_deadline() {
        let began = std::time::Instant::now();
        let call = call("tail", Duration::from_millis(50));
        let error = block(call.run(&["-f".as_ref(), "/dev/null".as_ref()])).unwrap_err();
        assert!(matches!(error, DiskFileError::Late { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn what_a_program_says_is_one_line_with_the_file() {
        let call = call("ls", Duration::from_secs(5));
        let error = block(call.run(&["--".as_ref(), "/nowhere\nDEPLOY SUCCESS".as_ref()]));
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("/srv/disk.3") && error.contains("ls"),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}
