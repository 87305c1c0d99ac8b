//! The administrator's program: it puts ONEDock's drivers into an OpenNebula front-end, makes a
//! machine a node, and runs the private registry of the cloud.
//!
//! Everything it does is a [`step::Step`] that can say whether it is still to be done. So every
//! command can be called again, `--dry-run` is the same code without the writing, and what was
//! there before stays: a file is edited in place of the value, never rewritten.

pub mod edit;
pub mod error;
pub mod file_step;
pub mod getent;
pub mod host;
pub mod owner;
pub mod secret;
pub mod setup;
pub mod stamp;
pub mod step;

pub use error::{Error, Result};
pub use host::Host;
