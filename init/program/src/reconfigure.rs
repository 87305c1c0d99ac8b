//! A context that was written anew while the VM runs (`onevm updateconf`, and NICs that come and go): as
//! `one-context-reconfigure` does it, everything is applied again if anything in it has changed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{ExitCode, Stdio};

use crate::arguments::Work;
use crate::context_file::{ContextFile, FOLDER};
use crate::{apply, helper, scripts, system};

/// Applies the context and answers; scripts go on behind the answer, as in a machine. Each line on standard
/// output is something that could not be done.
pub fn run() -> ExitCode {
    let folder = Path::new(FOLDER);
    let mut problems = Vec::new();
    match ContextFile::read(folder) {
        Ok(Some(context)) if !apply::is_applied(&context) => {
            problems = apply::all(&context, folder);
            let work = scripts::work(&context, folder);
            if (work.scripts || work.ready)
                && let Err(e) = behind(work)
            {
                problems.push(format!("the start scripts were not run: {e}"));
            }
        }
        Ok(_) => {}
        Err(problem) => problems.push(problem),
    }
    let mut out = io::stdout().lock();
    for problem in &problems {
        let _ = writeln!(out, "{problem}");
    }
    ExitCode::SUCCESS
}

/// Starts what goes on by itself; it writes where the VM's first process writes.
fn behind(work: Work) -> io::Result<()> {
    let mut command = helper::command(work);
    command
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output());
    system::detached(&mut command);
    command.spawn().map(drop)
}

fn output() -> Stdio {
    let open = |path| -> io::Result<File> { OpenOptions::new().append(true).open(path) };
    open("/proc/1/fd/1").map_or_else(|_| Stdio::null(), Stdio::from)
}
