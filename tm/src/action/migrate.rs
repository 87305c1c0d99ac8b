//! `premigrate`, `postmigrate`, `failmigrate`: what a live migration needs of the storage.

use anyhow::bail;
use onedock_common::opennebula::answer::Answer;

use super::first;

pub(super) fn before(arguments: &[String]) -> anyhow::Result<Answer> {
    let [from, to] = first(
        arguments,
        "premigrate needs <host> <host> <folder> <vm> <datastore>",
    )?;
    bail!(
        "a running VM cannot be migrated from {from} to {to} by onedock {}; power it off and migrate it then, nothing was changed",
        env!("CARGO_PKG_VERSION")
    )
}

/// Nothing was begun, so nothing is to be finished or undone.
pub(super) fn after(arguments: &[String]) -> anyhow::Result<Answer> {
    tracing::info!(?arguments, "nothing to do");
    Ok(Answer::done())
}
