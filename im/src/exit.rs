//! How a VM ended by itself: exit code, want of memory and its last output, as attributes of the
//! VM's monitoring, because a probe cannot write to the VM's log.

use onedock_common::{ContainerId, VmId};

use crate::engine::{Engine, EngineError};
use crate::probe::monitor::record;
use crate::template::{line, vector};

/// A MONITOR_VM record for a container that has exited.
pub fn ended(engine: &Engine, vm: VmId, container: &ContainerId) -> Result<String, EngineError> {
    let how = engine.inspect(container)?;
    let mut out = line("EXIT_CODE", how.exit_code);
    out += &line("OOM_KILLED", if how.oom_killed { "YES" } else { "NO" });
    if !how.error.is_empty() {
        out += &line("EXIT_ERROR", &how.error);
    }
    // A log driver that cannot be read back is no reason to say nothing.
    if let Ok(lines) = engine.last_lines(container, how.tty)
        && !lines.is_empty()
    {
        out += &line("EXIT_OUTPUT", lines.join(" | "));
    }
    Ok(record(vm, &out))
}

/// Takes back what [`ended`] reported, when the VM runs again. `monitord` merges what it receives into
/// what it has: an attribute stays until it is named again, and an empty vector removes it
/// (`Template::merge`), where an empty text would stay as one.
pub fn revived(vm: VmId) -> String {
    let keys = ["EXIT_CODE", "OOM_KILLED", "EXIT_ERROR", "EXIT_OUTPUT"];
    let lines = keys.map(|key| vector(key, &[]) + "\n");
    record(vm, &lines.concat())
}
