//! What a program wrote until it ended.

use std::io::{self, Read, Write as _};
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::Handle;
use crate::types::text::folded;
use crate::wait;

/// How long the outputs of a program that has ended are read on: a service that it has started may
/// hold them open.
pub(super) const AFTER_THE_END: Duration = Duration::from_secs(1);

/// What a program answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// The beginning of its standard output.
    pub stdout: String,
    /// The beginning of its standard error.
    pub stderr: String,
}

impl Output {
    /// Whether it ended with code 0.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// Why it failed, in one line of at most `limit` bytes: its standard error, else its standard
    /// output, else how it ended.
    pub fn reason(&self, limit: usize) -> String {
        [&self.stderr, &self.stdout]
            .into_iter()
            .map(|text| folded(text, limit))
            .find(|line| !line.is_empty())
            .unwrap_or_else(|| self.silent_end())
    }

    /// The last line of what it wrote, for a program that writes its progress before the reason.
    pub fn last_line(&self) -> String {
        [&self.stderr, &self.stdout]
            .into_iter()
            .flat_map(|text| text.lines().rev())
            .map(str::trim)
            .find(|line| !line.is_empty())
            .map_or_else(|| self.silent_end(), str::to_owned)
    }

    fn silent_end(&self) -> String {
        match self.code {
            Some(code) => format!("it ended with code {code} and gave no reason"),
            None => "it was killed".to_owned(),
        }
    }
}

/// Feeds a program and reads it to its end; none when it did not end within `limit` and was killed.
pub(super) fn gather(
    mut child: Child,
    input: Vec<u8>,
    limit: Duration,
    most: usize,
) -> io::Result<Option<Output>> {
    if let Some(mut pipe) = child.stdin.take() {
        // A program that does not read all of it says itself why.
        thread::spawn(move || drop(pipe.write_all(&input)));
    }
    let stdout = Collected::begin(child.stdout.take(), most);
    let stderr = Collected::begin(child.stderr.take(), most);
    if !ends_within(&mut child, limit)? {
        child.kill()?;
        // One that waits for a disk does not die of it, and is not waited for.
        if ends_within(&mut child, AFTER_THE_END)? {
            child.wait()?;
        }
        return Ok(None);
    }
    let status = child.wait()?;
    Ok(Some(Output {
        code: status.code(),
        stdout: stdout.end(),
        stderr: stderr.end(),
    }))
}

/// A kernel without handles of processes (before 5.3, or behind a filter) is asked again and again.
fn ends_within(child: &mut Child, limit: Duration) -> io::Result<bool> {
    match Handle::of(child) {
        Ok(handle) => handle.ends_within(limit),
        Err(_) => Ok(wait::until_ok(limit, || child.try_wait())?.is_some()),
    }
}

/// An output that a thread reads, so that its writer is never held up.
struct Collected {
    text: Arc<Mutex<Vec<u8>>>,
    at_end: Receiver<()>,
}

impl Collected {
    fn begin(pipe: Option<impl Read + Send + 'static>, most: usize) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let (give, at_end) = channel::<()>();
        if let Some(mut pipe) = pipe {
            let text = Arc::clone(&text);
            thread::spawn(move || {
                let _end = give;
                let mut piece = [0; 8192];
                while let Ok(read @ 1..) = pipe.read(&mut piece) {
                    let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
                    let room = most.saturating_sub(text.len()).min(read);
                    text.extend_from_slice(&piece[..room]);
                }
            });
        }
        Self { text, at_end }
    }

    /// What was read when the output ended, or shortly after the program did.
    fn end(self) -> String {
        // The reader drops its end when there is no more to read.
        let _: Result<(), RecvTimeoutError> = self.at_end.recv_timeout(AFTER_THE_END);
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text).into_owned()
    }
}
