//! What `oned` reads of a driver's answer: the exit code, lines on standard output, and on standard
//! error one line for the user and lines for the VM's log.

use std::ops::Deref;

use thiserror::Error;

use crate::process::Output;
use crate::types::decimal::parse_whole;

/// A driver's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply(Output);

impl From<Output> for Reply {
    fn from(output: Output) -> Self {
        Self(output)
    }
}

impl Deref for Reply {
    type Target = Output;
    fn deref(&self) -> &Output {
        &self.0
    }
}

/// Standard output that is not what the action has to answer.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("answered \"{answer}\", which is not {expected}")]
pub struct UnexpectedAnswer {
    answer: String,
    expected: &'static str,
}

impl Reply {
    /// The lines of standard error for the VM's log (`get_info_from_execution` of 7.x).
    pub fn notes(&self) -> Vec<&str> {
        self.stderr_lines().filter(|line| is_note(line)).collect()
    }

    /// Why it failed: every line of standard error that is not for the VM's log.
    pub fn failure(&self) -> String {
        let lines: Vec<&str> = self.stderr_lines().filter(|line| !is_note(line)).collect();
        match (lines.is_empty(), self.code) {
            (false, _) => lines.join(" "),
            (true, Some(code)) => format!("failed with exit code {code} and wrote no error"),
            (true, None) => "was ended by a signal".to_owned(),
        }
    }

    /// SOURCE and FORMAT, as `cp` and `clone` of a datastore answer them.
    pub fn source_and_format(&self) -> Result<(&str, &str), UnexpectedAnswer> {
        let mut words = self.stdout.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(source), Some(format), None) => Ok((source, format)),
            _ => Err(self.unexpected("SOURCE and FORMAT")),
        }
    }

    /// The size in MB, as `stat` of a datastore answers it.
    pub fn size_mb(&self) -> Result<u64, UnexpectedAnswer> {
        parse_whole(self.stdout.trim()).map_err(|_| self.unexpected("a size in MB"))
    }

    /// The deploy id, as `deploy` and `restore` of a hypervisor answer it.
    pub fn deploy_id(&self) -> Result<&str, UnexpectedAnswer> {
        let first = self.stdout.split_whitespace().next();
        first.ok_or_else(|| self.unexpected("a deploy id"))
    }

    fn stderr_lines(&self) -> impl Iterator<Item = &str> {
        self.stderr.lines().map(str::trim).filter(|l| !l.is_empty())
    }

    fn unexpected(&self, expected: &'static str) -> UnexpectedAnswer {
        UnexpectedAnswer {
            answer: self.stdout.trim().to_owned(),
            expected,
        }
    }
}

fn is_note(line: &str) -> bool {
    ["INFO: ", "WARN: ", "DEBUG: "]
        .iter()
        .any(|mark| line.starts_with(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: Option<i32>, stdout: &str, stderr: &str) -> Reply {
        Reply(Output {
            code,
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
        })
    }

    #[test]
    fn a_failure_is_the_driver_s_own_line() {
        let failed = reply(Some(1), "", "INFO: begun\nbridge br9 does not exist.\n");
        assert_eq!(failed.failure(), "bridge br9 does not exist.");
        assert_eq!(failed.notes(), ["INFO: begun"]);
        assert!(reply(Some(3), "", "").failure().contains("exit code 3"));
        assert!(reply(None, "", "").failure().contains("signal"));
    }

    #[test]
    fn an_answer_is_read_as_its_action_has_to_give_it() {
        let answer = |text: &str| reply(Some(0), text, "");
        let source = "docker://h:5000/onedock/img-1@sha256:00";
        assert_eq!(
            answer(&format!("{source} raw\n")).source_and_format(),
            Ok((source, "raw"))
        );
        assert_eq!(answer("7\n").size_mb(), Ok(7));
        assert_eq!(answer("one-5\n").deploy_id(), Ok("one-5"));
        let error = answer("a b c").source_and_format().unwrap_err().to_string();
        assert_eq!(error, "answered \"a b c\", which is not SOURCE and FORMAT");
        assert!(answer("-7").size_mb().is_err() && answer("").deploy_id().is_err());
    }
}
