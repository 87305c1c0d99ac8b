//! `onedock-tm SCRIPT ARG…`: the transfer manager. `oned` runs it on the front-end; for what has to
//! be done on a host it calls itself there over ssh, as `onedock-tm node`, with one typed
//! request on standard input.

use std::process::ExitCode;

fn main() -> ExitCode {
    onedock_common::log::start();
    let mut arguments = std::env::args_os().skip(1);
    let name = arguments.next().unwrap_or_default();
    onedock_common::opennebula::answer::give(|| onedock_tm::run(&name, arguments.collect()))
}
