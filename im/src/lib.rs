//! The monitor agent of a node: what OpenNebula's Ruby client and its probes do, in one small
//! process that speaks to `monitord` itself (`src/im_mad/remotes/common.d/monitord-client.rb`).
//!
//! It reports host facts, host and VM metrics and VM states; it changes nothing.

pub mod agent;
pub mod cgroup;
pub mod config;
pub mod datastores;
pub mod engine;
pub mod exit;
pub mod http;
pub mod instance;
pub mod layout;
pub mod links;
pub mod log;
pub mod monitord;
pub mod observation;
pub mod oneshot;
pub mod probe;
pub mod program;
pub mod sizes;
pub mod standby;
pub mod start;
pub mod template;
pub mod tracker;
mod wake;
pub mod wire;

pub use layout::{CONTROL_SHIM, CONTROL_SHIM_PATH, KEEP, PROBE_DIRS};
