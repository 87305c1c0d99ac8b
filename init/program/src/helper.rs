//! What process 1 lets a child of its own do, so that it can go on answering signals: the start scripts,
//! and the report to OneGate.

use std::path::Path;
use std::process::{Command, ExitCode};

use crate::arguments::{Work, verb};
use crate::context_file::{ContextFile, FOLDER};
use crate::{onegate, report, scripts};

/// The program itself, as the container sees it.
const PROGRAM: &str = "/proc/self/exe";

/// A child that does this.
pub fn command(work: Work) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg(verb(work));
    command
}

/// Does it. What fails is said, and the rest is done.
pub fn run(work: Work) -> ExitCode {
    let folder = Path::new(FOLDER);
    let context = match ContextFile::read(folder) {
        Ok(context) => context.unwrap_or_default(),
        Err(problem) => {
            report::line(&problem);
            return ExitCode::FAILURE;
        }
    };
    if work.scripts {
        let (asked, problems) = scripts::asked(&context, folder);
        report::lines(&problems);
        for script in &asked {
            if let Err(problem) = scripts::run(script, &context) {
                report::line(&problem);
            }
        }
    }
    if work.ready
        && let Err(problem) = onegate::report_ready(&context, folder)
    {
        report::line(&problem);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
