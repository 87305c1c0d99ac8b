//! External programs: arguments as an array, never a shell, always a deadline.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::wait;

/// Where programs are looked for, whatever PATH the caller has.
const FOLDERS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// The whole path of a program, where it is installed.
pub fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|p| p.is_file());
    }
    FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.is_file())
}

/// What a program answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Answer {
    /// Whether it said that it did what it was told.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// The last line it said that is not empty, as the reason of a failure.
    pub fn last_line(&self) -> &str {
        [&self.stderr, &self.stdout]
            .into_iter()
            .flat_map(|text| text.lines().rev())
            .map(str::trim)
            .find(|line| !line.is_empty())
            .unwrap_or("it said nothing")
    }
}

/// One call of a program.
#[derive(Debug)]
pub struct Command {
    program: String,
    arguments: Vec<OsString>,
    input: Vec<u8>,
    environment: Vec<(&'static str, String)>,
    deadline: Duration,
}

impl Command {
    /// A program by name, with a deadline of half a minute.
    pub fn new(program: &str) -> Self {
        Self {
            program: program.to_owned(),
            arguments: Vec::new(),
            input: Vec::new(),
            environment: Vec::new(),
            deadline: Duration::from_secs(30),
        }
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// What the program reads; without it, nothing.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// One environment variable.
    pub fn env(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((key, value.into()));
        self
    }

    /// Another deadline.
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it and answers whatever it said; an error only when it could not be run or did not
    /// end in time.
    pub fn ask(self) -> Result<Answer> {
        let failed = |what: String| Error::Program {
            program: self.program.clone(),
            what,
        };
        let path = find(&self.program).ok_or_else(|| failed("is not installed".into()))?;
        let mut child = Process::new(path)
            .args(&self.arguments)
            .env("LC_ALL", "C")
            .env("PATH", FOLDERS.join(":"))
            .envs(self.environment.iter().map(|(k, v)| (*k, v.as_str())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| failed(format!("cannot be started: {e}")))?;
        feed(&mut child, self.input.clone());
        let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
        let ended = wait::until(self.deadline, || child.try_wait().transpose());
        let Some(status) = ended else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(failed(format!(
                "did not end within {} s and was stopped",
                self.deadline.as_secs()
            )));
        };
        let status = status.map_err(|e| failed(format!("cannot be waited for: {e}")))?;
        // A service that the program started may hold the pipes open: what was said so far counts.
        let text = |pipe: Receiver<Vec<u8>>| {
            let bytes = pipe
                .recv_timeout(Duration::from_secs(1))
                .unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ok(Answer {
            code: status.code(),
            stdout: text(stdout),
            stderr: text(stderr),
        })
    }

    /// Runs it; a failure is an error with its last line.
    pub fn run(self) -> Result<Answer> {
        let program = self.program.clone();
        let answer = self.ask()?;
        if answer.succeeded() {
            return Ok(answer);
        }
        Err(Error::Program {
            program,
            what: format!("failed: {}", answer.last_line()),
        })
    }
}

fn feed(child: &mut Child, input: Vec<u8>) {
    if let Some(mut pipe) = child.stdin.take() {
        thread::spawn(move || {
            // A program that does not read all of it says itself why.
            let _ = pipe.write_all(&input);
        });
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_fed_and_answers() {
        let answer = Command::new("cat").input("hello").run().unwrap();
        assert_eq!(answer.stdout, "hello");
    }

    #[test]
    fn a_failure_is_told_with_its_last_line() {
        let error = Command::new("ls")
            .args(["--", "/there is no such folder"])
            .run()
            .unwrap_err();
        assert!(error.line().contains("No such file"), "{error}");
    }

    #[test]
    fn what_does_not_end_is_stopped() {
        let error = Command::new("sleep")
            .args(["60"])
            .within(Duration::from_millis(50))
            .run()
            .unwrap_err();
        assert!(error.line().contains("did not end"), "{error}");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = Command::new("onedock-none").run().unwrap_err();
        assert_eq!(error.line(), "onedock-none: is not installed");
    }
}
