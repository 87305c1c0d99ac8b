//! The OCI runtime that the engine calls for every container of a VM.

use std::io::Write as _;
use std::process::ExitCode;

use nix::sys::stat::{Mode, umask};
use onedock_node::runtime::{self, Call};

fn main() -> ExitCode {
    let call = Call::new(std::env::args_os().skip(1));
    // That of dockerd is 0 from 29.6 on.
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    std::panic::set_hook(Box::new(|_| {}));
    let done = std::panic::catch_unwind(|| runtime::run(&call));
    let line = match done {
        Ok(Ok(code)) => return code,
        Ok(Err(e)) => runtime::one_line(&e),
        Err(_) => "onedock-runtime: internal error; please report it".into(),
    };
    runtime::write_to_log(&call, "error", &line);
    let _ = writeln!(std::io::stderr(), "{line}");
    ExitCode::FAILURE
}
