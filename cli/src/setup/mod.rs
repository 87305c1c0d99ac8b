//! `onedock setup`: makes a machine a front-end, a node, or the keeper of the registry.

pub mod distribution;
pub mod frontend;
pub mod join;
pub mod node;
pub mod packages;
mod processes;
pub mod registry;
pub mod registry_auth;
mod restart;
mod run_folders;

use crate::step::{Steps, Summary};

/// The user that OpenNebula runs as, here and on every node.
pub const ONEADMIN: &str = "oneadmin";

/// A remark for when the steps are done.
type Notes = Box<dyn FnOnce(&Summary) -> Vec<String>>;

/// What a command does, and what it says at the end.
pub struct Plan {
    /// What it does.
    pub steps: Steps,
    notes: Notes,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").finish_non_exhaustive()
    }
}

impl Plan {
    /// Steps and known notes.
    pub fn new(steps: Steps, notes: Vec<String>) -> Self {
        Self::with(steps, move |_| notes)
    }

    /// Steps, and notes that are found out when the steps are done.
    pub fn with(steps: Steps, notes: impl FnOnce(&Summary) -> Vec<String> + 'static) -> Self {
        Self {
            steps,
            notes: Box::new(notes),
        }
    }

    /// The remarks at the end.
    pub fn notes(self, summary: &Summary) -> Vec<String> {
        (self.notes)(summary)
    }
}
