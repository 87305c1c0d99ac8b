//! The programs that know file systems and qcow2, called for one file and quoted in one line when
//! they fail. Each is confined to that file's folder, where its new forms are made as well.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::DiskFileError;
use crate::process::confined::Confinement;
use crate::process::{Command, Output};

/// How much of a reason is passed on, in bytes.
const QUOTED: usize = 300;

/// A program, and the Debian package that has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) package: &'static str,
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
    ) -> Result<Output, DiskFileError> {
        let folder = self.path.parent().map(Path::to_owned);
        let output = Command::new(self.program.name)
            .of_package(self.program.package)
            .confined(Confinement::beneath(folder))
            .args(arguments)
            .within(self.limit)
            .output()
            .await
            .map_err(|reason| DiskFileError::NotRun {
                path: self.path.to_owned(),
                reason,
            })?;
        match output.code {
            Some(code) if good.contains(&code) => Ok(output),
            _ => Err(self.failed(&output)),
        }
    }

    fn failed(&self, output: &Output) -> DiskFileError {
        let path = self.path.to_owned();
        if output.stderr.contains("No space left on device") {
            return DiskFileError::NoSpace {
                path,
                bytes: self.bytes,
                source: io::Error::from(io::ErrorKind::StorageFull),
            };
        }
        DiskFileError::Program {
            program: self.program.name,
            path,
            reason: output.reason(QUOTED),
        }
    }
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
    fn attack_40_a_program_that_reads_a_disk_makes_no_socket() {
        let socket = OsStr::new("socket(S, 2, 1, 0) or die $!");
        let call = call("perl", Duration::from_secs(5));
        let error = block(call.run(&["-e".as_ref(), socket])).unwrap_err();
        let expected = "Function not implemented";
        assert!(error.to_string().contains(expected), "{error}");
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
