//! What went wrong, as the administrator reads it: one line, what, where, what to do.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};

use onedock_common::process::ProcessError;

/// A failed command. The text holds its own part only; [`Error::line`] joins the causes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read, written, made or given away.
    #[error("cannot {doing} {}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A configuration file is not in the syntax its owner reads. It was left as it is.
    #[error("{}, line {line}: {what}; the file was left as it is", path.display())]
    Syntax {
        path: PathBuf,
        line: usize,
        what: String,
    },
    /// An external program failed, could not be started or took too long.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// What an external program did, or did not do, as its caller understands it.
    #[error("{program}: {what}")]
    Program { program: String, what: String },
    /// Something is not as it has to be; the text says what to do.
    #[error("{0}")]
    Refused(String),
}

/// What every fallible function of this program returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A file error with what was being done ("read", "write", …).
    pub fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }

    /// A refusal in one sentence.
    pub fn refused(text: impl Into<String>) -> Self {
        Self::Refused(text.into())
    }

    /// The error and its causes on one line.
    pub fn line(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(next) = cause {
            let next_text = next.to_string();
            if !text.ends_with(&next_text) {
                text.push_str(": ");
                text.push_str(&next_text);
            }
            cause = next.source();
        }
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_cause() {
        let error = Error::file("read", Path::new("/etc/one/oned.conf"))(io::Error::other("a\nb"));
        assert_eq!(error.line(), "cannot read /etc/one/oned.conf: a b");
    }
}
