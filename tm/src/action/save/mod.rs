//! A disk's content into the registry, for `mv`, `mvds`, `cpds` and `snap_create`.

pub(super) mod container;
pub(super) mod file;

use serde::{Deserialize, Serialize};

/// What is done with a VM that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IfRunning {
    /// It is an error; one that is suspended is ended.
    Refuse,
    /// It is frozen while its disk is copied.
    Freeze,
}
