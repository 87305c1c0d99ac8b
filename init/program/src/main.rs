//! `onedock-init`: see the library.

use std::env;
use std::process::ExitCode;

use onedock_init_program::arguments::{self, Call};
use onedock_init_program::{first_process, helper, reconfigure, report};

fn main() -> ExitCode {
    match arguments::parse(env::args_os().skip(1)) {
        Ok(Call::First(first)) => first_process::run(&first),
        Ok(Call::Reconfigure) => reconfigure::run(),
        Ok(Call::Helper(work)) => helper::run(work),
        Err(problem) => {
            report::line(&problem);
            ExitCode::FAILURE
        }
    }
}
