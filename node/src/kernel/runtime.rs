//! One call of the runtime: what is done for a VM, and what only passes.

use std::process::ExitCode;

use onedock_common::boot::BootSpec;
use onedock_common::paths::Paths;

use crate::kernel::args::Call;
use crate::kernel::error::CallError;
use crate::kernel::record::{Record, Records};
use crate::kernel::{backend, create, delete, exec, start};

/// The folders of this node.
#[derive(Debug, Clone)]
pub struct Places {
    /// Where the driver lays boot specs.
    pub paths: Paths,
    /// Where the runtime keeps its records.
    pub records: Records,
}

impl Places {
    /// The node's own: fixed, because root reads them.
    pub fn system() -> Self {
        Self {
            paths: Paths::system(),
            records: Records::system(),
        }
    }
}

/// Does what the engine asks.
pub fn run(call: &Call, places: &Places) -> Result<ExitCode, CallError> {
    let Some(id) = call.container() else {
        return Err(pass(call, None)?);
    };
    let recorded = || {
        places.records.read(&id).map_err(|source| CallError::State {
            verb: "read",
            source,
        })
    };
    match call.sub_command() {
        "create" => create::create(call, places, &id),
        "restore" => match BootSpec::read(&places.paths, &id)? {
            Some(_) => Err(CallError::Restore),
            None => Err(pass(call, None)?),
        },
        "start" => match recorded()? {
            Some(Record {
                runtime,
                vm: Some(vm),
            }) => start::start(call, &id, &runtime, &vm),
            other => Err(pass(call, other)?),
        },
        "delete" => match recorded()? {
            Some(record) => delete::delete(call, places, &id, &record),
            None => Err(pass(call, None)?),
        },
        _ => Err(pass(call, recorded()?)?),
    }
}

/// Puts the real runtime in our place: the container's own, else the one for new containers.
/// Answers the reason when that failed.
pub(crate) fn pass(call: &Call, record: Option<Record>) -> Result<CallError, CallError> {
    let path = match record {
        Some(record) => record.runtime,
        None => backend::choose()?,
    };
    let source = exec::replace(&path, call);
    Ok(CallError::Run { path, source })
}
