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

/// The exit code of an action that failed.
const FAILED: u8 = 1;

/// Runs an action and answers for it. A panic becomes an error line too, and is a bug.
pub fn give<E>(action: impl FnOnce() -> Result<Answer, E>) -> ExitCode
where
    E: AsRef<dyn Error + Send + Sync>,
{
    std::panic::set_hook(Box::new(|info| tracing::error!("panic: {info}")));
    let outcome = Outcome::of(action);
    for line in &outcome.errors {
        write_line(&mut std::io::stderr(), line);
    }
    if let Some(output) = &outcome.output {
        write_line(&mut std::io::stdout(), output);
    }
    ExitCode::from(outcome.code)
}

/// What the process writes, and its exit code.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    code: u8,
    /// Lines of standard error.
    errors: Vec<String>,
    /// Of standard output.
    output: Option<String>,
}

impl Outcome {
    fn of<E>(action: impl FnOnce() -> Result<Answer, E>) -> Self
    where
        E: AsRef<dyn Error + Send + Sync>,
    {
        let error = match catch_unwind(AssertUnwindSafe(action)) {
            Ok(Ok(answer)) => {
                let note = |note: &String| format!("INFO: {}", folded(note, LINE_LIMIT));
                return Self {
                    code: 0,
                    errors: answer.notes.iter().map(note).collect(),
                    output: answer.output,
                };
            }
            Ok(Err(error)) => error_line(error.as_ref()),
            Err(_) => "internal error of the driver; its log has the details.".to_owned(),
        };
        tracing::error!("{error}");
        Self {
            code: FAILED,
            errors: vec![error],
            output: None,
        }
    }
}

/// Nobody may be there to read: a closed pipe changes nothing of what was done.
fn write_line(to: &mut dyn Write, line: &str) {
    let _ = writeln!(to, "{line}");
    let _ = to.flush();
}

/// The whole chain of an error as one plain line that ends with a full stop. A cause whose text
/// already ends the one before it is not repeated.
pub fn error_line(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let reason = next.to_string();
        if !text.ends_with(&reason) {
            text.push_str(": ");
            text.push_str(&reason);
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

    type Failure = dyn Error + Send + Sync;

    fn outcome(action: impl FnOnce() -> Result<Answer, Box<Failure>>) -> Outcome {
        Outcome::of(action)
    }

    #[test]
    fn a_line_is_written_with_its_end() {
        let mut written = Vec::new();
        write_line(&mut written, "one-5");
        assert_eq!(written, b"one-5\n");
    }

    #[test]
    fn a_success_says_its_line_and_its_notes_as_information() {
        let notes = vec!["no quota\nhere".to_owned(), "slow".to_owned()];
        assert_eq!(
            outcome(|| Ok(Answer::line("one-5").with_notes(notes))),
            Outcome {
                code: 0,
                errors: vec!["INFO: no quota here".to_owned(), "INFO: slow".to_owned()],
                output: Some("one-5".to_owned()),
            }
        );
        assert_eq!(outcome(|| Ok(Answer::done())).output, None);
    }

    /// `oned` takes 42 for missing scripts, and 0 for success.
    #[test]
    fn a_failure_and_a_panic_end_with_1_and_one_line_of_standard_error() {
        let failed = outcome(|| Err(Box::new(Inner)));
        let panicked = outcome(|| panic!("never"));
        for (outcome, line) in [
            (failed, "bridge onebr0 is missing."),
            (
                panicked,
                "internal error of the driver; its log has the details.",
            ),
        ] {
            let expected = Outcome {
                code: 1,
                errors: vec![line.to_owned()],
                output: None,
            };
            assert_eq!(outcome, expected);
        }
    }
}
