//! `delete`: the real runtime deletes the container, then nothing of it may be left.

use std::process::ExitCode;

use onedock_common::ContainerId;

use crate::disks;
use crate::layers::rootfs::Root;
use crate::network::plug;
use crate::record::{Record, Records, Vm};
use crate::runtime::args::Call;
use crate::runtime::error::CallError;
use crate::runtime::{engine_log, error, etc_files, exec};

pub(crate) fn delete(
    call: &Call,
    id: &ContainerId,
    record: &Record,
) -> Result<ExitCode, CallError> {
    let runtime = &record.runtime;
    let status = exec::spawn(runtime, call)
        .and_then(|mut child| child.wait())
        .map_err(|source| CallError::Run {
            path: runtime.clone(),
            source,
        })?;
    let state = call.state_root().map(|root| root.join(id.as_str()));
    if !status.success() && state.is_none_or(|state| state.exists()) {
        return Ok(exec::code_of(status));
    }
    // A container of which the real runtime knows nothing any more is deleted, whatever it answered.
    if let Some(vm) = &record.vm {
        // The container is gone; what cannot be removed here must not make the engine believe
        // otherwise.
        if let Err(e) = remove_rest(id, vm) {
            engine_log::write(call, "warning", &error::one_line(&e));
        }
        // The record of disks that are still in use stays.
        if let Err(e) = disks::settle(id, vm) {
            engine_log::write(call, "warning", &error::one_line(&e));
            return Ok(ExitCode::SUCCESS);
        }
    }
    let _ = Records::system().remove(id);
    Ok(ExitCode::SUCCESS)
}

fn remove_rest(id: &ContainerId, vm: &Vm) -> Result<(), CallError> {
    let etc = etc_files::remove(id);
    let pulled = plug::pull_after_death(vm.id, &[&vm.nics[..], &vm.former_nics].concat());
    // Without its root mounted there is nothing to remove from it.
    if let Ok(root) = Root::open(&vm.root, (0, 0)) {
        for name in &vm.stubs {
            root.remove_stub(name)?;
        }
    }
    pulled?;
    etc.map_err(|source| CallError::File {
        path: etc_files::folder(id),
        source,
    })
}
