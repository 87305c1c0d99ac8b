//! Other programs and their processes: found in fixed folders, called with arguments as they are and
//! never through a shell, ended at a deadline, with an answer of bounded length.

pub mod confined;
mod handle;
mod output;
#[cfg(feature = "tokio")]
mod with_tokio;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use thiserror::Error;

use confined::Confinement;
pub use handle::{Handle, Stat};
pub use output::Output;
#[cfg(feature = "tokio")]
pub use with_tokio::gather;

/// Where programs are looked for, whatever PATH the caller has: a driver's lacks the `sbin` folders.
/// What lies in `/usr/local` is found by [`Command::local`] alone.
const FOLDERS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];
/// How many of [`FOLDERS`] are an administrator's and not the distribution's.
const LOCAL: usize = 2;
/// How much of what a program writes is kept, in bytes, unless its caller asks for more.
const KEPT: usize = 64 * 1024;
/// How long a program may run unless its caller says otherwise.
const LIMIT: Duration = Duration::from_secs(30);

/// Why a program gave no answer.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// It is in none of the folders.
    #[error("{program} is not installed{}", package.map(|p| format!("; install the package {p}")).unwrap_or_default())]
    NotInstalled {
        /// Its name.
        program: String,
        /// Debian's package that has it, where that is known.
        package: Option<&'static str>,
    },
    /// The system does not run it.
    #[error("{program} cannot be started: {reason}")]
    NotStarted {
        /// Its path.
        program: String,
        /// Why not.
        reason: io::Error,
    },
    /// It was ended.
    #[error("{program} did not end within {} s and was stopped", limit.as_secs())]
    Late {
        /// Its name.
        program: String,
        /// Its deadline.
        limit: Duration,
    },
    /// It ended with another code than 0.
    #[error("{program} failed: {reason}")]
    Failed {
        /// Its name.
        program: String,
        /// The last line that it wrote.
        reason: String,
    },
    /// It cannot be waited for, or its output cannot be read.
    #[error("the answer of {program} cannot be read: {reason}")]
    Lost {
        /// Its name.
        program: String,
        /// Why not.
        reason: io::Error,
    },
}

/// The path of a program in the distribution's folders, where it is installed. A name with a `/` is
/// a path.
pub fn find(program: &str) -> Option<PathBuf> {
    find_in(&FOLDERS[LOCAL..], OsStr::new(program))
}

/// As [`find`], with what an administrator has put into `/usr/local` before the distribution's.
pub fn find_local(program: &str) -> Option<PathBuf> {
    find_in(&FOLDERS, OsStr::new(program))
}

fn find_in(folders: &[&str], program: &OsStr) -> Option<PathBuf> {
    let runs = |path: &PathBuf| {
        path.metadata()
            .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if program.as_encoded_bytes().contains(&b'/') {
        return Some(PathBuf::from(program)).filter(runs);
    }
    folders
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(runs)
}

/// How a process is begun; the system's way unless a caller has to do more between fork and exec.
type Spawn = fn(&mut std::process::Command) -> io::Result<Child>;

/// One call of a program.
#[derive(Debug)]
pub struct Command {
    program: OsString,
    package: Option<&'static str>,
    folders: &'static [&'static str],
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    bare: bool,
    input: Vec<u8>,
    limit: Duration,
    most: usize,
    spawn: Spawn,
    confined: Option<Confinement>,
}

impl Command {
    /// A program by its name, which is looked for in the distribution's folders, or by its path. It
    /// has half a minute, reads nothing, and 64 KiB of each of its outputs are kept.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            package: None,
            folders: &FOLDERS[LOCAL..],
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: None,
            bare: false,
            input: Vec::new(),
            limit: LIMIT,
            most: KEPT,
            spawn: std::process::Command::spawn,
            confined: None,
        }
    }

    /// What an administrator has put into `/usr/local` goes before the distribution's, as in a
    /// shell. Not for what a driver or root's programs call.
    pub fn local(program: impl AsRef<OsStr>) -> Self {
        Self {
            folders: &FOLDERS,
            ..Self::new(program)
        }
    }

    /// Debian's package that has the program, for the error of one that is not there.
    #[must_use]
    pub fn of_package(self, package: &'static str) -> Self {
        Self {
            package: Some(package),
            ..self
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// One environment variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((key.into(), value.into()));
        self
    }

    /// Without the caller's environment and outside its working directory.
    #[must_use]
    pub fn bare(self) -> Self {
        Self { bare: true, ..self }
    }

    /// The folder that it is run in.
    #[must_use]
    pub fn in_folder(self, folder: &Path) -> Self {
        Self {
            folder: Some(folder.to_owned()),
            ..self
        }
    }

    /// What the program reads on standard input.
    #[must_use]
    pub fn input(self, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            input: bytes.into(),
            ..self
        }
    }

    /// How long it may run before it is killed.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// How much of each of its outputs is kept, in bytes; the rest is read and dropped.
    #[must_use]
    pub fn keeping(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// Begun by `spawn`, which may say what happens between fork and exec.
    #[must_use]
    pub fn spawned_by(self, spawn: Spawn) -> Self {
        Self { spawn, ..self }
    }

    /// Without rights that it does not need: for a program that reads what a tenant wrote.
    #[must_use]
    pub fn confined(self, to: Confinement) -> Self {
        Self {
            confined: Some(to),
            bare: true,
            ..self
        }
    }

    /// Runs it and waits for its end, whatever its exit code is.
    ///
    /// # Errors
    ///
    /// It is not there, cannot be started, or did not end in time.
    pub fn run(mut self) -> Result<Output, ProcessError> {
        let mut command = self.prepare()?;
        let spawn = self.spawn;
        let started = confined::start(self.confined.take(), move || spawn(&mut command));
        let (child, _thread) = started.map_err(|e| self.not_started(e))?;
        let input = std::mem::take(&mut self.input);
        match output::gather(child, input, self.limit, self.most) {
            Ok(Some(output)) => Ok(output),
            Ok(None) => Err(self.late()),
            Err(reason) => Err(self.lost(reason)),
        }
    }

    /// As [`Self::run`], for a program that has to end with code 0.
    ///
    /// # Errors
    ///
    /// As of [`Self::run`], and its last line when it failed.
    pub fn checked(self) -> Result<Output, ProcessError> {
        let program = self.name();
        let output = self.run()?;
        if output.succeeded() {
            return Ok(output);
        }
        Err(ProcessError::Failed {
            program,
            reason: output.last_line(),
        })
    }

    /// The process, not yet begun and its input not yet written, for a caller that ends it itself.
    ///
    /// # Errors
    ///
    /// It is not there.
    pub fn prepare(&self) -> Result<std::process::Command, ProcessError> {
        let path = find_in(self.folders, &self.program).ok_or_else(|| self.not_installed())?;
        let mut command = std::process::Command::new(path);
        if self.bare {
            command.env_clear().current_dir("/");
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
            .args(&self.arguments)
            .env("LC_ALL", "C")
            .env("PATH", self.folders.join(":"))
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(if self.input.is_empty() {
                Stdio::null()
            } else {
                Stdio::piped()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command)
    }

    fn name(&self) -> String {
        self.program.display().to_string()
    }

    fn not_installed(&self) -> ProcessError {
        ProcessError::NotInstalled {
            program: self.name(),
            package: self.package,
        }
    }

    fn not_started(&self, reason: io::Error) -> ProcessError {
        ProcessError::NotStarted {
            program: self.name(),
            reason,
        }
    }

    fn late(&self) -> ProcessError {
        ProcessError::Late {
            program: self.name(),
            limit: self.limit,
        }
    }

    fn lost(&self, reason: io::Error) -> ProcessError {
        ProcessError::Lost {
            program: self.name(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests;
