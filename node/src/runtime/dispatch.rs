//! One call of the runtime: what is done for a VM, and what only passes.

use std::process::ExitCode;

use onedock_common::ContainerId;
use onedock_common::state::boot::BootSpec;
use onedock_common::state::paths::Paths;

use crate::record::{Record, Records};
use crate::runtime::args::Call;
use crate::runtime::error::CallError;
use crate::runtime::{create, delete, engine_log, exec, exec_environment, start};

/// Whether the real runtime has nothing of a container: it was deleted, and the engine was not told,
/// because this program was killed right then.
fn is_gone(call: &Call, id: &ContainerId) -> bool {
    let state = call.state_root().map(|root| root.join(id.as_str()));
    state.is_some_and(|state| !state.exists())
}

/// Does what the engine asks.
pub fn run(call: &Call) -> Result<ExitCode, CallError> {
    let Some(id) = call.container() else {
        return Err(exec::pass(call, None)?);
    };
    let recorded = || {
        Records::system()
            .read(&id)
            .map_err(|source| CallError::State {
                verb: "read",
                source,
            })
    };
    match call.sub_command() {
        "create" => create::create(call, &id),
        "restore" => match BootSpec::read(&Paths::system(), &id)? {
            Some(_) => Err(CallError::Restore),
            None => Err(exec::pass(call, None)?),
        },
        "start" => match recorded()? {
            Some(Record {
                runtime,
                vm: Some(vm),
            }) => start::start(call, &id, &runtime, &vm),
            other => Err(exec::pass(call, other)?),
        },
        "delete" => match recorded()? {
            Some(record) => delete::delete(call, &id, &record),
            None => Err(exec::pass(call, None)?),
        },
        "exec" => {
            if let Some(path) = call.process()
                && let Ok(Some(spec)) = BootSpec::read(&Paths::system(), &id)
                && !spec.environment.is_empty()
                && let Err(e) = exec_environment::add(&path, &spec.environment)
            {
                let text = format!("the VM's variables are not in the environment: {e}");
                engine_log::write(call, "warning", &text);
            }
            Err(exec::pass(call, recorded()?)?)
        }
        "kill" if is_gone(call, &id) => Err(CallError::Gone(id)),
        _ => Err(exec::pass(call, recorded()?)?),
    }
}
