//! `start`: the engine has done with the namespace and the process does not run yet; the NICs
//! are plugged now, so that they are there before its first instruction.

use std::path::Path;
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use onedock_common::ContainerId;

use crate::disks;
use crate::layers::rootfs::Root;
use crate::namespace::Process;
use crate::network::plug;
use crate::record::Vm;
use crate::runtime::args::Call;
use crate::runtime::error::CallError;
use crate::runtime::{engine_log, exec, ready};

/// The longest that a killed first process may take to end.
const END: Duration = Duration::from_secs(5);

pub(crate) fn start(
    call: &Call,
    id: &ContainerId,
    runtime: &Path,
    vm: &Vm,
) -> Result<ExitCode, CallError> {
    let process = vm.process.ok_or(CallError::NotCreated)?;
    let done = plug_and_start(call, id, runtime, vm, &process);
    if !matches!(done, Ok(status) if status.success()) {
        abandon(id, vm, &process);
    }
    done.map(exec::code_of)
}

fn plug_and_start(
    call: &Call,
    id: &ContainerId,
    runtime: &Path,
    vm: &Vm,
    process: &Process,
) -> Result<ExitStatus, CallError> {
    let begin = Instant::now();
    let network = process.network()?;
    plug::plug(vm.id, id, &vm.nics, &network)?;
    drop(network);
    let took = begin.elapsed().as_micros();
    engine_log::debug(
        call,
        &format!("VM {}: {} NICs plugged in {took} us", vm.id, vm.nics.len()),
    );
    let begin = Instant::now();
    for warning in disks::plug_all(id, vm, process)? {
        engine_log::write(call, "warning", &warning);
    }
    let took = begin.elapsed().as_micros();
    engine_log::debug(
        call,
        &format!("VM {}: {} disks shown in {took} us", vm.id, vm.disks.len()),
    );
    let status = exec::spawn(runtime, call)
        .and_then(|mut child| child.wait())
        .map_err(|source| CallError::Run {
            path: runtime.to_owned(),
            source,
        })?;
    if status.success() && !ready::wait(id, process) {
        engine_log::write(
            call,
            "warning",
            "onedock-init does not listen to signals yet",
        );
    }
    Ok(status)
}

/// Takes back what the VM has, when it does not start; the reason is reported already. An engine
/// (20.10) that is told of a failed start neither deletes the container nor ends its waiting
/// first process, and then refuses every further start ("id already in use"), but it cleans up
/// when that process ends. By then it has unmounted the root, so that the mount points made in
/// it go here.
fn abandon(id: &ContainerId, vm: &Vm, process: &Process) {
    disks::take_back(id, vm, process);
    let _ = process.kill(END);
    let _ = disks::settle(id, vm);
    let _ = plug::pull_nics(vm.id, &vm.nics);
    if let Ok(root) = Root::open(&vm.root, (0, 0)) {
        for name in &vm.stubs {
            let _ = root.remove_stub(name);
        }
    }
}
