//! `onedock-datastore ACTION ID`: the image datastore, run by `one_datastore` on the front-end.

use std::process::ExitCode;

fn main() -> ExitCode {
    onedock_common::log::start();
    let mut arguments = std::env::args_os().skip(1);
    let name = arguments.next().unwrap_or_default();
    onedock_common::opennebula::answer::give(|| onedock_datastore::run(&name, arguments.collect()))
}
