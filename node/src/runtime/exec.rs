//! The real runtime, run with the call's own arguments or put in this program's place.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};

use crate::process;
use crate::record::Record;
use crate::runtime::args::Call;
use crate::runtime::backend;
use crate::runtime::error::CallError;

/// Puts the real runtime in the place of this process, with the call's own arguments. Answers
/// only when that failed.
pub(crate) fn replace(runtime: &Path, call: &Call) -> io::Error {
    Command::new(runtime).args(call.args()).exec()
}

/// Starts the real runtime with the call's own arguments; it inherits everything, and it dies
/// with this process, as it would if the engine had started it itself.
pub(crate) fn spawn(runtime: &Path, call: &Call) -> io::Result<Child> {
    let mut command = Command::new(runtime);
    command.args(call.args());
    process::spawn_bound(&mut command)
}

/// Puts the real runtime in our place: the container's own, else the one for new containers.
/// Answers the reason when that failed.
pub(crate) fn pass(call: &Call, record: Option<Record>) -> Result<CallError, CallError> {
    let path = match record {
        Some(record) => record.runtime,
        None => backend::choose()?,
    };
    let source = replace(&path, call);
    Ok(CallError::Run { path, source })
}

/// The exit code by which this process passes on how the child ended.
pub(crate) fn code_of(status: ExitStatus) -> ExitCode {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_and_signals_are_passed_on() {
        for (status, code) in [(0, 0), (3 << 8, 3), (9, 137)] {
            assert_eq!(code_of(ExitStatus::from_raw(status)), ExitCode::from(code));
        }
    }
}
