//! `onedock-vmm ACTION ARG…`: the hypervisor driver that OpenNebula runs on a host, one process
//! an action. `remotes/vmm/onedock/<action>` are shims around it.

use std::process::ExitCode;

fn main() -> ExitCode {
    onedock_common::log::start();
    let mut arguments = std::env::args_os().skip(1);
    let name = arguments.next().unwrap_or_default();
    onedock_common::opennebula::answer::give(|| onedock_vmm::run(&name, arguments.collect()))
}
