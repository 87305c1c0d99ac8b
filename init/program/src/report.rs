//! What the user reads: lines on standard error, which is the VM's log (`onedock logs`).

use std::io::{self, Write as _};

/// Writes one line; what cannot be written is lost, as nobody is there to hear of it.
pub fn line(text: &str) {
    let mut out = io::stderr().lock();
    // At a terminal in raw mode a line feed alone would not begin at the left.
    let _ = write!(out, "onedock-init: {text}\r\n");
}

/// Writes each.
pub fn lines(all: &[String]) {
    for text in all {
        line(text);
    }
}
