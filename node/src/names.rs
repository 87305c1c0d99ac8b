//! The names of a running VM: its own, and what its resolver reads. `reconfigure` changes them when the
//! context has others than the VM was started with.

use std::io;

use nix::sched::{CloneFlags, setns};
use onedock_common::state::boot::BootSpec;
use onedock_common::{ContainerId, VmId};
use thiserror::Error;

use crate::namespace::NamespaceError;
use crate::record::Records;
use crate::runtime::etc_files;

/// Why the names are not as they were asked for.
#[derive(Debug, Error)]
pub enum NamesError {
    /// Nothing was recorded of it, or it is another VM's.
    #[error("the container of VM {0} does not run; its names were left as they are")]
    NotRunning(VmId),
    /// What is recorded of the container.
    #[error("the record of the container cannot be read: {0}")]
    Record(#[source] io::Error),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The kernel refused.
    #[error("the VM's host name cannot be set: {0}")]
    Hostname(#[source] io::Error),
    /// A file in the VM.
    #[error("a file with the VM's names cannot be written: {0}")]
    File(#[source] io::Error),
}

/// Gives a running VM the names of `spec` in place of those of `before`.
///
/// # Errors
///
/// It does not run, or what is named in the error.
pub fn change(id: &ContainerId, before: &BootSpec, spec: &BootSpec) -> Result<(), NamesError> {
    let vm = spec.vm;
    let record = Records::system().read(id).map_err(NamesError::Record)?;
    let found = record
        .and_then(|record| record.vm)
        .filter(|found| found.id == vm);
    let process = found
        .and_then(|found| found.process)
        .ok_or(NamesError::NotRunning(vm))?;
    if before.hostname != spec.hostname {
        let names = process.names()?;
        let hostname = spec.hostname.clone();
        // A thread of its own: a namespace that is entered cannot be left.
        let set = std::thread::spawn(move || {
            setns(names, CloneFlags::CLONE_NEWUTS)?;
            nix::unistd::sethostname(hostname.as_str())
        });
        set.join()
            .map_err(|_| io::Error::other("a thread panicked"))
            .and_then(|done| done.map_err(io::Error::from))
            .map_err(NamesError::Hostname)?;
    }
    etc_files::renew(id, before, spec).map_err(NamesError::File)
}
