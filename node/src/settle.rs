//! What was recorded of a container's start is taken back when the VM has ended, whatever became of
//! the start and of the engine's own idea of it.

use std::time::{Duration, Instant};

use onedock_common::wait;
use onedock_common::{ContainerId, DiskId, VmId};
use thiserror::Error;

use crate::disks::{self, DiskError};
use crate::namespace::Process;
use crate::network::{PlugError, plug};
use crate::record::Records;

/// How long a container that was told to end is given to be gone, a daemon that hangs included.
const END: Duration = Duration::from_secs(30);
/// A first process that lives so long after the engine has said that it ended was forgotten by it.
const FORGOTTEN: Duration = Duration::from_secs(3);
/// How long a kill may take.
const KILL: Duration = Duration::from_secs(2);
/// How long the kernel may take to let go of all disks: gigabytes that the container wrote last may
/// be on their way to a slow disk, and a VM that is shut down is not to fail for it.
const WRITTEN: Duration = Duration::from_secs(90);
/// How long an engine is given to delete a container whose first process it has forgotten.
const DELETE: Duration = Duration::from_secs(1);

/// Why something of a VM that has ended is still there.
#[derive(Debug, Error)]
pub enum SettleError {
    /// Its first process lives although it was killed.
    #[error("the container of VM {0} still runs, although it was killed")]
    Runs(VmId),
    #[error(transparent)]
    Nics(#[from] PlugError),
    #[error(transparent)]
    Disks(#[from] DiskError),
}

/// Ends the first process of a container that the engine takes for ended, and waits until its NICs
/// and disks are gone, what of them does not go by itself included. Of a container without a record
/// nothing is left. It can be repeated, and comes before a VM is said to be off, and before it is
/// started again. Answers what the VM has lost by it, if anything.
pub fn settle(vm: VmId, id: &ContainerId) -> Result<Option<String>, SettleError> {
    let begin = Instant::now();
    let mut was_forgotten = false;
    let mut hung = Vec::new();
    let ended = wait::until_ok(END, || {
        let Some(found) = disks::recorded(vm, id)? else {
            return Ok(Some(None));
        };
        let Some(process) = found.process.filter(Process::lives) else {
            return Ok::<_, SettleError>(Some(Some(found)));
        };
        // An engine whose `start` was killed tells neither a first process that never ran nor one
        // that runs all the same to end.
        if process.waits() || begin.elapsed() > FORGOTTEN {
            let _ = process.kill(KILL);
            was_forgotten = true;
        }
        // A process that waits for a disk cannot be killed.
        if process.lives() && begin.elapsed() > FORGOTTEN {
            hung.extend(disks::end_hung(id).map_err(DiskError::State)?);
        }
        Ok(None)
    });
    let Some(found) = ended?.ok_or(SettleError::Runs(vm))? else {
        return Ok(None);
    };
    let pulled = plug::pull_after_death(vm, &[&found.nics[..], &found.former_nics].concat());
    hung.extend(disks::settle_within(id, &found, WRITTEN)?);
    pulled?;
    if was_forgotten {
        forget(vm, id)?;
    }
    Ok(lost(&hung))
}

fn lost(hung: &[DiskId]) -> Option<String> {
    let disks: Vec<String> = hung.iter().map(ToString::to_string).collect();
    (!disks.is_empty()).then(|| {
        format!(
            "the program that reads and writes the qcow2 file of DISK {} did not answer any more and was ended; what the VM wrote last may be lost",
            disks.join(", ")
        )
    })
}

/// An engine that has given a container up may not delete it any more.
fn forget(vm: VmId, id: &ContainerId) -> Result<(), SettleError> {
    let gone = wait::until_ok(DELETE, || {
        Ok::<_, SettleError>(disks::recorded(vm, id)?.is_none().then_some(()))
    })?;
    match gone {
        Some(()) => Ok(()),
        None => Ok(Records::system().remove(id).map_err(DiskError::State)?),
    }
}
