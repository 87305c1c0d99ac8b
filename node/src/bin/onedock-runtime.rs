//! The OCI runtime that the engine calls for every container of a VM.

use std::io::Write as _;
use std::process::ExitCode;

use onedock_node::kernel::args::Call;
use onedock_node::kernel::runtime::{self, Places};
use onedock_node::kernel::{engine_log, error};

fn main() -> ExitCode {
    let call = Call::new(std::env::args_os().skip(1));
    std::panic::set_hook(Box::new(|_| {}));
    let done = std::panic::catch_unwind(|| runtime::run(&call, &Places::system()));
    let line = match done {
        Ok(Ok(code)) => return code,
        Ok(Err(e)) => error::one_line(&e),
        Err(_) => "onedock-runtime has failed by a mistake of its own; please report it".into(),
    };
    engine_log::write(&call, "error", &line);
    let _ = writeln!(std::io::stderr(), "{line}");
    ExitCode::FAILURE
}
