//! The agent's log: a file that starts again when it is full, so that nobody has to rotate it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;

/// When it starts again, in bytes.
const LIMIT: u64 = 1024 * 1024;

struct Bounded {
    file: File,
    written: u64,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written > LIMIT {
            self.file.set_len(0)?;
            self.written = 0;
        }
        let n = self.file.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends what is logged to `path`. Fails when the file cannot be opened.
pub fn to_file(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
        .open(path)?;
    let written = file.metadata()?.len();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_target(false)
        .with_writer(Mutex::new(Bounded { file, written }))
        .finish();
    // One that is set already stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}
