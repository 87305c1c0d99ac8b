//! START_SCRIPT and INIT_SCRIPTS: in the order of `one-context` (net-97, net-98), with the context as
//! environment and the context's folder as working directory.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::arguments::Work;
use crate::context_file::{ContextFile, FOLDER};
use crate::system;

/// Where scripts are written to be executed: the VM's own `/dev`, which is in memory, so that they leave
/// nothing on the root disk and a root that can only be read is no obstacle.
const SCRIPTS: &str = "/dev/onedock";

/// One script.
#[derive(Debug, PartialEq, Eq)]
pub struct Script {
    /// What the user calls it.
    pub name: String,
    /// What is in it.
    pub content: Vec<u8>,
}

/// The scripts that a context asks for, and a line for each that cannot be had.
pub fn asked(context: &ContextFile, folder: &Path) -> (Vec<Script>, Vec<String>) {
    let mut scripts = Vec::new();
    let mut problems = Vec::new();
    match context.decoded("START_SCRIPT_BASE64") {
        Ok(Some(content)) => scripts.push(start_script("START_SCRIPT_BASE64", content)),
        Ok(None) => {
            if let Some(text) = context.get("START_SCRIPT") {
                scripts.push(start_script("START_SCRIPT", text.into()));
            }
        }
        Err(problem) => problems.push(problem),
    }
    let names = match context.get("INIT_SCRIPTS") {
        Some(names) => names.split_whitespace().collect(),
        None if folder.join("init.sh").is_file() => vec!["init.sh"],
        None => Vec::new(),
    };
    for name in names {
        let file = Path::new(name).file_name().unwrap_or_default();
        match fs::read(folder.join(file)) {
            Ok(content) => scripts.push(Script {
                name: name.to_owned(),
                content,
            }),
            Err(e) => problems.push(format!("INIT_SCRIPTS: {name} cannot be read: {e}")),
        }
    }
    (scripts, problems)
}

fn start_script(name: &str, content: Vec<u8>) -> Script {
    Script {
        name: name.to_owned(),
        content,
    }
}

/// What of a context is left to a child of process 1.
pub fn work(context: &ContextFile, folder: &Path) -> Work {
    let (scripts, problems) = asked(context, folder);
    Work {
        // A script that cannot be had is said where the others are run.
        scripts: !scripts.is_empty() || !problems.is_empty(),
        ready: context.says_yes("REPORT_READY"),
    }
}

/// Runs one and waits for its end.
///
/// # Errors
///
/// A line that says why it was not run, or how it failed.
pub fn run(script: &Script, context: &ContextFile) -> Result<(), String> {
    let name = &script.name;
    let path = written(script).map_err(|e| format!("{name} cannot be written to be run: {e}"))?;
    let ended = status(&path, context);
    let _ = fs::remove_file(&path);
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} ended with {status}")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(format!(
            "{name} was not run: the image does not have {}",
            interpreter(&script.content)
        )),
        Err(e) => Err(format!("{name} was not run: {e}")),
    }
}

fn written(script: &Script) -> io::Result<PathBuf> {
    match DirBuilder::new().mode(0o700).create(SCRIPTS) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let path = Path::new(SCRIPTS).join(format!("script.{}", std::process::id()));
    let _ = fs::remove_file(&path);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o700)
        .open(&path)?;
    file.write_all(&script.content)?;
    Ok(path)
}

fn status(path: &Path, context: &ContextFile) -> io::Result<ExitStatus> {
    match prepared(Command::new(path), context).status() {
        // Without a first line that names an interpreter, a shell would run it itself.
        Err(e) if e.raw_os_error() == Some(libc::ENOEXEC) => {
            let mut shell = Command::new("/bin/sh");
            shell.arg(path);
            prepared(shell, context).status()
        }
        done => done,
    }
}

/// With the context as environment, in the context's folder, away from the VM's terminal input.
pub(crate) fn prepared(mut command: Command, context: &ContextFile) -> Command {
    command
        .envs(context.variables())
        .env("MOUNT_DIR", FOLDER)
        .current_dir(if Path::new(FOLDER).is_dir() {
            FOLDER
        } else {
            "/"
        })
        .stdin(Stdio::null());
    system::with_signals(&mut command);
    command
}

/// The program that a script is run by.
fn interpreter(content: &[u8]) -> String {
    let line = content
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    match line.strip_prefix("#!") {
        Some(rest) => rest
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned(),
        None => "/bin/sh".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(text: &str) -> ContextFile {
        ContextFile::parse(text).unwrap()
    }

    fn names(text: &str, folder: &Path) -> (Vec<String>, Vec<String>) {
        let (scripts, problems) = asked(&context(text), folder);
        (scripts.into_iter().map(|s| s.name).collect(), problems)
    }

    #[test]
    fn the_start_script_in_base64_stands_before_the_plain_one() {
        let dir = tempfile::tempdir().unwrap();
        let both = "START_SCRIPT='plain'\nSTART_SCRIPT_BASE64='aGVsbG8='";
        let (scripts, problems) = asked(&context(both), dir.path());
        assert!(problems.is_empty());
        assert_eq!(scripts.len(), 1);
        assert_eq!(scripts[0].content, b"hello");
        assert_eq!(names("START_SCRIPT='x'", dir.path()).0, ["START_SCRIPT"]);
        let (none, problems) = names("START_SCRIPT_BASE64='*'", dir.path());
        assert!(none.is_empty());
        assert_eq!(problems, ["START_SCRIPT_BASE64 is not base64"]);
    }

    #[test]
    fn init_scripts_are_files_of_the_context_and_init_sh_is_one_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.sh", "init.sh"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        assert_eq!(names("", dir.path()).0, ["init.sh"]);
        // A path is taken for the name at its end, as `basename` does.
        let (found, problems) = names("INIT_SCRIPTS='/etc/a.sh missing.sh'", dir.path());
        assert_eq!(found, ["/etc/a.sh"]);
        assert!(
            problems[0].starts_with("INIT_SCRIPTS: missing.sh"),
            "{problems:?}"
        );
        let (_, problems) = names("INIT_SCRIPTS='..'", dir.path());
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn the_interpreter_is_that_of_the_first_line() {
        assert_eq!(interpreter(b"#! /bin/bash -e\nx"), "/bin/bash");
        assert_eq!(interpreter(b"echo x"), "/bin/sh");
    }
}
