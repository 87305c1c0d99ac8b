//! What `oned` reads: standard output exactly as the contract says, one plain line on standard
//! error when an action failed, exit 0 or 1. 42 is reserved: `oned` takes it for missing
//! scripts and copies the whole tree (`src/mad/ruby/CommandManager.rb`).

use std::error::Error;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use crate::types::text::folded;

/// The longest error line, in bytes: longer ones are cut in USER_TEMPLATE/ERROR and in Sunstone.
const LINE_LIMIT: usize = 600;

/// What a successful action says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The one line of standard output that the contract gives a meaning, if any.
    pub output: Option<String>,
    /// Lines for the VM's log: over ssh every line of standard error reaches it, and `INFO: `
    /// keeps 7.x from taking it for an error.
    pub notes: Vec<String>,
}

impl Answer {
    /// Success without a word.
    pub fn done() -> Self {
        Self::default()
    }
    /// Success with the line that `oned` parses.
    pub fn line(output: impl Into<String>) -> Self {
        Self {
            output: Some(output.into()),
            notes: Vec::new(),
        }
    }
    /// The same with lines for the VM's log.
    #[must_use]
    pub fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.notes = notes;
        self
    }
}

/// Runs an action and answers for it. A panic becomes an error line too, and is a bug.
pub fn give<E>(action: impl FnOnce() -> Result<Answer, E>) -> ExitCode
where
    E: AsRef<dyn Error + Send + Sync>,
{
    std::panic::set_hook(Box::new(|info| tracing::error!("panic: {info}")));
    let line = match catch_unwind(AssertUnwindSafe(action)) {
        Ok(Ok(answer)) => {
            for note in &answer.notes {
                write_line(
                    &mut std::io::stderr(),
                    &format!("INFO: {}", folded(note, LINE_LIMIT)),
                );
            }
            if let Some(output) = answer.output {
                write_line(&mut std::io::stdout(), &output);
            }
            return ExitCode::SUCCESS;
        }
        Ok(Err(error)) => error_line(error.as_ref()),
        Err(_) => "the driver failed by a fault of its own; its log has the details.".to_owned(),
    };
    tracing::error!("{line}");
    write_line(&mut std::io::stderr(), &line);
    ExitCode::FAILURE
}

/// Nobody may be there to read: a closed pipe changes nothing of what was done.
fn write_line(to: &mut dyn Write, line: &str) {
    let _ = writeln!(to, "{line}");
    let _ = to.flush();
}

/// The whole chain of an error as one plain line that ends with a full stop. A cause whose text
/// already ends the one before it is not said twice.
pub fn error_line(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    let mut line = folded(&text, LINE_LIMIT);
    if !line.ends_with(['.', ';', '…']) {
        line.push('.');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use thiserror::Error;

    #[derive(Debug, Error)]
    #[error("cannot start VM {vm}")]
    struct Outer {
        vm: u32,
        source: Inner,
    }

    #[derive(Debug, Error)]
    #[error("bridge onebr0\nis missing")]
    struct Inner;

    #[test]
    fn an_error_is_one_line_with_its_causes_and_a_full_stop() {
        let error = Outer {
            vm: 5,
            source: Inner,
        };
        assert_eq!(
            error_line(&error),
            "cannot start VM 5: bridge onebr0 is missing."
        );
    }
}
