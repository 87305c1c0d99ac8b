//! One call of a driver script: values as arguments, the document on standard input, never a shell,
//! always a deadline.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use thiserror::Error;

use super::reply::Reply;

/// Layers may be many and the line slow.
pub const TRANSFER_DEADLINE: Duration = Duration::from_secs(4000);
/// A shutdown waits for the VM; every other action is quick.
pub const ACTION_DEADLINE: Duration = Duration::from_secs(300);

/// oneadmin's home on a front-end and on a node.
const HOME: &str = "/var/lib/one";
/// The search path that `oned` starts drivers with.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long an ended driver's output is waited for: what it left running may hold the pipes open.
const OUTPUT_DEADLINE: Duration = Duration::from_secs(1);

/// Why a driver gave no answer.
#[derive(Debug, Error)]
pub enum CallError {
    /// It could not be started or waited for.
    #[error("cannot be run: {0}")]
    Run(#[source] io::Error),
    /// It was ended when its time was over.
    #[error("did not end within {} s and was stopped{}", deadline.as_secs(), shown(stderr))]
    Deadline {
        /// How long it was given.
        deadline: Duration,
        /// What it had written by then.
        stderr: String,
    },
}

fn shown(stderr: &str) -> String {
    match stderr.trim() {
        "" => String::new(),
        text => format!("; it wrote: {text}"),
    }
}

/// A call as `oned` makes it.
#[derive(Debug, Clone)]
pub struct Call {
    script: PathBuf,
    arguments: Vec<OsString>,
    input: Vec<u8>,
    environment: Vec<(OsString, OsString)>,
    inherits: bool,
    folder: Option<PathBuf>,
    user: Option<String>,
    deadline: Duration,
}

impl Call {
    /// A call of a script or program by its path, in the caller's environment, with
    /// [`ACTION_DEADLINE`].
    pub fn new(script: impl Into<PathBuf>) -> Self {
        Self {
            script: script.into(),
            arguments: Vec::new(),
            input: Vec::new(),
            environment: Vec::new(),
            inherits: true,
            folder: None,
            user: None,
            deadline: ACTION_DEADLINE,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        let arguments = arguments.into_iter().map(|a| a.as_ref().to_owned());
        self.arguments.extend(arguments);
        self
    }

    /// What it reads on standard input; without it, nothing.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Adds a variable to its environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let pair = (name.as_ref().to_owned(), value.as_ref().to_owned());
        self.environment.push(pair);
        self
    }

    /// Passes on nothing of the caller's environment.
    #[must_use]
    pub fn without_environment(mut self) -> Self {
        self.inherits = false;
        self
    }

    /// The folder that it is run in.
    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Runs it as this user, with all of the user's groups, when root calls.
    #[must_use]
    pub fn as_user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// Another deadline.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The process, not yet started. Its standard input is a pipe, for [`write_input`].
    ///
    /// [`write_input`]: Self::write_input
    pub fn command(&self) -> Command {
        let user = self.user.as_ref().filter(|_| geteuid().is_root());
        let mut command = match user {
            Some(_) => Command::new("setpriv"),
            None => Command::new(&self.script),
        };
        if !self.inherits {
            command.env_clear();
        }
        if let Some(user) = user {
            command
                .args(["--reuid", user, "--regid", user, "--init-groups", "--"])
                .arg(&self.script)
                .envs([("HOME", HOME), ("USER", user)]);
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
            .args(&self.arguments)
            .envs([("LC_ALL", "C"), ("PATH", SEARCH_PATH)])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped());
        command
    }

    /// Hands the input to the started process, beside whatever the caller does: one that does not
    /// read all of it says itself why.
    pub fn write_input(&self, child: &mut Child) {
        if let Some(mut pipe) = child.stdin.take() {
            let input = self.input.clone();
            thread::spawn(move || {
                let _ = pipe.write_all(&input);
            });
        }
    }

    /// Makes the call and waits for its end. Whatever it answered is a [`Reply`], a failure too.
    pub fn run(&self) -> Result<Reply, CallError> {
        let mut child = self
            .command()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(CallError::Run)?;
        self.write_input(&mut child);
        let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
        let text = |pipe: Receiver<Vec<u8>>| {
            let bytes = pipe.recv_timeout(OUTPUT_DEADLINE).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let Some(status) = ended(&mut child, self.deadline).map_err(CallError::Run)? else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(CallError::Deadline {
                deadline: self.deadline,
                stderr: text(stderr),
            });
        };
        Ok(Reply {
            code: status.code(),
            stdout: text(stdout),
            stderr: text(stderr),
        })
    }
}

fn ended(child: &mut Child, deadline: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        thread::park_timeout(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(20));
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

    fn sh(script: &str) -> Call {
        Call::new("/bin/sh").args(["-c", script])
    }

    #[test]
    fn a_driver_gets_arguments_input_and_environment_and_answers() {
        let call = sh("cat; echo \"$1 $WORD\"; echo \"INFO: $PWD\" >&2; exit 3")
            .args(["sh", "an argument"])
            .input("document ")
            .env("WORD", "w")
            .in_folder(Path::new("/"));
        let reply = call.run().unwrap();
        assert_eq!(reply.code, Some(3));
        assert_eq!(reply.stdout, "document an argument w\n");
        assert_eq!(reply.stderr, "INFO: /\n");
    }

    #[test]
    fn a_call_without_environment_has_the_search_path_alone() {
        let reply = sh("env | grep -v ^_= | grep -v ^PWD= | sort").without_environment();
        let text = format!("LC_ALL=C\nPATH={SEARCH_PATH}\n");
        // `SHLVL` is the shell's own.
        let stdout = reply.run().unwrap().stdout.replace("SHLVL=0\n", "");
        assert_eq!(stdout, text);
    }

    #[test]
    fn a_driver_that_does_not_end_is_stopped() {
        let call = sh("echo waiting >&2; exec sleep 60").within(Duration::from_millis(200));
        let error = call.run().unwrap_err();
        assert!(
            error.to_string().contains("did not end within 0 s"),
            "{error}"
        );
        assert!(error.to_string().ends_with("it wrote: waiting"), "{error}");
        let error = Call::new("/none/deploy").run().unwrap_err();
        assert!(error.to_string().starts_with("cannot be run: "), "{error}");
    }
}
