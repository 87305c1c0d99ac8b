//! `start`: the engine has done with the namespace and the process does not run yet; the NICs
//! are plugged now, so that they are there before its first instruction.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use onedock_common::ContainerId;

use crate::kernel::args::Call;
use crate::kernel::error::CallError;
use crate::kernel::record::Vm;
use crate::kernel::{engine_log, exec, plug};

pub(crate) fn start(
    call: &Call,
    id: &ContainerId,
    runtime: &Path,
    vm: &Vm,
) -> Result<ExitCode, CallError> {
    let begin = Instant::now();
    let process = vm.process.ok_or(CallError::NotCreated)?;
    let network = process.network()?;
    plug::plug(vm.id, id, &vm.nics, &network)?;
    drop(network);
    let took = begin.elapsed().as_micros();
    engine_log::debug(
        call,
        &format!("VM {}: {} NICs plugged in {took} us", vm.id, vm.nics.len()),
    );

    let ended = exec::spawn(runtime, call).and_then(|mut child| child.wait());
    if !ended.as_ref().is_ok_and(|status| status.success()) {
        // What the real runtime says is the reason to tell.
        let _ = plug::pull(vm.id, vm.nics.iter().map(|nic| &nic.host));
    }
    let run = |source| CallError::Run {
        path: runtime.to_owned(),
        source,
    };
    Ok(exec::code_of(ended.map_err(run)?))
}
