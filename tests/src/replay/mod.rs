//! Replays what a real `oned` sent: recorded calls, with their arguments, environment and standard
//! input, to the installed driver programs in `oned`'s order, against a real engine, a real
//! registry and a real bridge; and checks what `oned` would read and what is really there.
//!
//! - [`recording`]: the calls (`tests/replay/<release>/calls.jsonl`) and what is taken out of them;
//! - [`mapping`]: the one table of what is replaced in them;
//! - [`cloud`]: the machines: a front-end and two nodes with their engines, ssh, registries, bridge,
//!   an installation of the drivers;
//! - [`programs`]: the programs of this build;
//! - [`performer`]: makes a call as `oned` makes it, once, twice, or cut off and again;
//! - [`expected`]: what the recorded document asks for;
//! - [`contents`]: what lies on disks;
//! - [`inspect`]: what is there; `leftovers`: that nothing is left;
//! - `stock`: what OpenNebula's own transfer manager does beside ours;
//! - [`ssh`]: how the machines reach one another;
//! - [`table`]: which operation of which release passes.

pub mod cloud;
pub mod contents;
pub mod expected;
mod images;
pub mod inspect;
mod installation;
mod leftovers;
pub mod mapping;
pub mod performer;
mod programs;
pub mod recording;
pub mod ssh;
pub mod stock;
pub mod table;
